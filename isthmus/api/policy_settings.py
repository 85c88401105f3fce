"""What a policy says to doors and probes: the parts of GlobalTrafficPolicy.spec beside the ladder.

Invariant, here and in `policy_spec`: the description of an optional field ends with its default, which is not
stored (decision 26). Durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from isthmus.api.duration import Duration

Limit = Annotated[int, Field(ge=1, le=2_147_483_647)]


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules of one object, each with the message people see."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


class SpecModel(BaseModel):
    """Base of all parts of the spec: camelCase on the wire, unknown fields refused, no coercion."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=True, strict=True, frozen=True
    )


class DnsSpec(SpecModel):
    """How DNS answers for the service."""

    answer: Annotated[
        Literal["ClusterSetIP", "Endpoints"] | None,
        Field(description="What A and AAAA hold. Default ClusterSetIP."),
    ] = None
    ttl_seconds: Annotated[
        int | None, Field(ge=0, le=3600, description="For how long an answer may be kept. Default 5.")
    ] = None


class HealthSpec(SpecModel):
    """Checks of every endpoint; without a protocol HTTP where a path is set, else TCP."""

    protocol: Annotated[
        Literal["TCP", "HTTP", "HTTPS", "GRPC", "ICMP", "DNS"] | None,
        Field(description="How to ask. Default HTTP with a path, else TCP."),
    ] = None
    path: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^/[!-~]*$",
            description="What HTTP and HTTPS get. Default / with these protocols.",
        ),
    ] = None
    port: Annotated[
        int | None, Field(ge=1, le=65_535, description="Which port to ask. Default: the endpoint's own.")
    ] = None
    interval: Annotated[
        Annotated[float, Duration("100ms", "5m")] | None,
        Field(description="From one check to the next. Default 500ms."),
    ] = None
    timeout: Annotated[
        Annotated[float, Duration("10ms", "1m")] | None,
        Field(description="For how long an answer is waited for. Default 400ms."),
    ] = None
    rise: Annotated[
        int | None, Field(ge=1, le=10, description="Successes in a row that make it Up. Default 2.")
    ] = None
    fall: Annotated[
        int | None, Field(ge=1, le=10, description="Failures in a row that make it Down. Default 2.")
    ] = None


class OutlierSpec(SpecModel):
    """Passive checks in the proxy: endpoints that fail real requests are set aside for a while."""

    consecutive_failures: Annotated[
        int | None,
        Field(ge=0, le=1000, description="Failures that set it aside; 0 turns this off. Default 3."),
    ] = None
    interval: Annotated[
        Annotated[float, Duration("10ms", "1h")] | None,
        Field(description="How often those set aside are looked at. Default 100ms."),
    ] = None
    base_ejection: Annotated[
        Annotated[float, Duration("100ms", "1h")] | None,
        Field(description="For how long one is set aside. Default 1s."),
    ] = None


class RetrySpec(SpecModel):
    """Retries of requests that may be repeated."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.backOffBase) || !has(self.backOffMax) || "
                "duration(self.backOffBase) <= duration(self.backOffMax)",
                "backOffMax must not be shorter than backOffBase",
            )
        )
    )

    attempts: Annotated[
        int | None, Field(ge=0, le=10, description="After the first; 0 turns retries off. Default 8.")
    ] = None
    per_try_timeout: Annotated[
        Annotated[float, Duration("1ms", "1h")] | None, Field(description="Of each try. Default none.")
    ] = None
    back_off_base: Annotated[
        Annotated[float, Duration("1ms", "1m")] | None,
        Field(description="Pause before the first retry; it grows from there. Default 1ms."),
    ] = None
    back_off_max: Annotated[
        Annotated[float, Duration("1ms", "10m")] | None,
        Field(description="The longest pause. Default 10ms, or backOffBase where that is longer."),
    ] = None


class CircuitBreakerSpec(SpecModel):
    """Limits towards the whole service, in each proxy."""

    max_connections: Annotated[Limit | None, Field(description="Open at a time. Default 65536.")] = None
    max_pending_requests: Annotated[
        Limit | None, Field(description="Waiting for a connection. Default 65536.")
    ] = None
    max_requests: Annotated[Limit | None, Field(description="At a time. Default 65536; gRPC 1024.")] = None


class AffinitySpec(SpecModel):
    """Requests of one session go to one endpoint as long as it lives."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.cookie) != has(self.header)", "exactly one of cookie and header must be set"),
            ("!has(self.ttl) || has(self.cookie)", "ttl is for cookies only"),
        )
    )

    cookie: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9_.-]+$",
            description="Its name; the proxy sets it.",
        ),
    ] = None
    header: Annotated[
        str | None,
        Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+$", description="Its name."),
    ] = None
    ttl: Annotated[
        Annotated[float, Duration("0s", "8760h")] | None,
        Field(description="How long the cookie is kept. Default 0s: as long as the browser runs."),
    ] = None
