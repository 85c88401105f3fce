"""An accepted GlobalTrafficPolicy, presets resolved into tiers as far as possible without a vantage."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from isthmus.model.health import HealthCheck
from isthmus.model.names import ClusterId, ServiceKey


class Scope(StrEnum):
    """Tiers that depend on where the caller stands."""

    SAME_ZONE = "SameZone"
    SAME_CLUSTER = "SameCluster"
    SAME_REGION = "SameRegion"
    ANY = "Any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which groups a tier takes; a group matches if any of the filled fields names it.

    `scope` (relative to the vantage), `clusters`, `regions`, or `labels` (a selector over cluster labels, all
    must match). `within`, where set, further limits the match to those clusters and regions (Locality with
    targets).
    """

    scope: Scope | None = None
    clusters: frozenset[ClusterId] = frozenset()
    regions: frozenset[str] = frozenset()
    selector: LabelSelector | None = None
    within: Match | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """metav1.LabelSelector: all `labels` equal and all `expressions` true."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[
        tuple[str, Literal["In", "NotIn", "Exists", "DoesNotExist"], tuple[str, ...]], ...
    ] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        if any(labels.get(key) != value for key, value in self.labels):
            return False
        for key, operator, values in self.expressions:
            match operator:
                case "In":
                    held = labels.get(key) in values
                case "NotIn":
                    held = labels.get(key) not in values
                case "Exists":
                    held = key in labels
                case "DoesNotExist":
                    held = key not in labels
            if not held:
                return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One step of the ladder. `weights` empty: a cluster's weight is its total in the tier.

    Where `weights` is not empty, a cluster that it does not name, or names with 0, is standby: a tier of all
    standbys stands right behind this one.
    """

    match: Match
    weights: tuple[tuple[ClusterId, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    consecutive_failures: int = 3
    interval: float = 0.1
    base_ejection: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    attempts: int = 8
    """Further tries after the first. While a cluster dies, every other one may go to the last resort (what is
    known to be down), and the rest may meet endpoints of it that are not yet known to be."""
    per_try_timeout: float | None = None
    """Seconds, None: bounded only by the connect timeout and the request's own timeout."""
    back_off_base: float = 0.001
    back_off_max: float = 0.010
    asked: bool = False
    """Whether a policy says so itself: its author has thought of what may be repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAffinity:
    """Cookie or header affinity (exactly one is set)."""

    cookie: str = ""
    header: str = ""
    ttl: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """What a policy says to the doors; it does not enter the arithmetic. Times in seconds."""

    dns_answer: Literal["ClusterSetIP", "Endpoints"] = "ClusterSetIP"
    dns_ttl: int = 5
    outlier: OutlierDetection | None = OutlierDetection()
    retry: Retry | None = Retry()
    timeout: float | None = None
    circuit_breaker: CircuitBreaker | None = None
    affinity: SessionAffinity | None = None
    drain_seconds: float = 30.0
    slow_start: float = 0.0
    """How long a new endpoint takes until it gets as much as the others of its group; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTarget:
    """One entry of targetRefs: a service and optionally one of its ports by name."""

    service: ServiceKey
    section: str = ""


NOBODY = ServiceKey("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one accepted policy says. The default value is what holds where there is no policy.

    `tiers` is the ladder before the vantage is known; `fallback_any` adds one last tier of everything not yet
    in. `precedence` sorts before others when smaller (hub first, then specific, then older, then name).
    """

    key: ServiceKey = NOBODY
    origin: Literal["default", "member", "hub"] = "default"
    targets: tuple[PolicyTarget, ...] = ()
    selector: LabelSelector | None = None
    created: float = 0.0
    overridable: bool = False
    tiers: tuple[Tier, ...] = (
        Tier(match=Match(scope=Scope.SAME_CLUSTER)),
        Tier(match=Match(scope=Scope.SAME_REGION)),
        Tier(match=Match(scope=Scope.ANY)),
    )
    fallback_any: bool = False
    overprovisioning_percent: int = 140
    deprioritise_unknown: bool = True
    expected_endpoints: int | None = None
    health: HealthCheck | None = None
    doors: DoorSettings = field(default_factory=DoorSettings)


DEFAULT_POLICY = Policy()
