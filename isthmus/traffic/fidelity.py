"""What a policy asks of the doors and one of them cannot express (traffic-semantics, section 4).

Every door draws from the same plan; this names, for one service, where a door falls short of it or of the
policy's settings. Invariant: only what the policy itself asks for is named; defaults never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from isthmus.model.policy import OutlierDetection, Policy, Scope
from isthmus.model.service import Port, Service, ServiceType

Speaks = Callable[[Port], str]
"""What a port speaks: `tcp` (anything that is not HTTP), `http`, `http2` or `grpc`."""


class Gap(NamedTuple):
    """A door, and what of a policy it does not do."""

    door: str
    what: str


def gaps(policy: Policy, service: Service, ports: tuple[Port, ...], speaks: Speaks) -> tuple[Gap, ...]:
    """What the doors of a service cannot express of a policy that holds for these of its ports; sorted."""
    found = {*_kube_proxy(policy, service), *_dns(policy, service), *_proxies(policy, ports, speaks)}
    found |= {*_captured(policy, service)}
    return tuple(sorted(found))


def _kube_proxy(policy: Policy, service: Service) -> Iterator[Gap]:
    """Who calls the clusterset IP without a proxy, which DNS answers with as a rule."""
    if service.type is ServiceType.HEADLESS:
        return
    if any(len({weight for _, weight in tier.weights if weight}) > 1 for tier in policy.tiers):
        yield Gap("kube-proxy", "spreads evenly over the endpoints that have a share, not by weights")
    if _by_zone(policy):
        yield Gap("kube-proxy", "knows no caller's zone: SameZone takes nothing")
    for setting in (*_request_settings(policy), *_connection_settings(policy)):
        yield Gap("kube-proxy", f"has no {setting}")


def _dns(policy: Policy, service: Service) -> Iterator[Gap]:
    """A and AAAA answers with addresses of endpoints; whatever comes after the answer is the caller's own."""
    if service.type is not ServiceType.HEADLESS and policy.doors.dns_answer == "ClusterSetIP":
        return
    if _by_zone(policy):
        yield Gap("DNS", "knows a caller's zone only from a cache on its node or from its client subnet")
    if policy.targets and all(target.section for target in policy.targets):
        yield Gap("DNS", "answers A and AAAA for the whole service, of which a sectionName does not speak")
    for setting in (*_request_settings(policy), *_connection_settings(policy)):
        yield Gap("DNS", f"has no {setting}")


def _proxies(policy: Policy, ports: tuple[Port, ...], speaks: Speaks) -> Iterator[Gap]:
    for port in ports:
        match speaks(port):
            case "tcp":
                for setting in _request_settings(policy):
                    yield Gap("Envoy", f"has no {setting} on port {port.given_name}, which is not HTTP")
            case "grpc":
                for what in _not_in_grpc(policy):
                    yield Gap("gRPC", f"has no {what}")
            case _:
                pass


def _captured(policy: Policy, service: Service) -> Iterator[Gap]:
    """A headless service has no clusterset IP to know its captured connections by."""
    if service.type is ServiceType.HEADLESS and (_request_settings(policy) or _connection_settings(policy)):
        yield Gap("Envoy", "passes captured connections to a headless service through untouched")


def _not_in_grpc(policy: Policy) -> Iterator[str]:
    """What gRPC libraries do not read of what Envoy does (gRFC A32, A44, A50)."""
    doors = policy.doors
    if doors.affinity is not None and doors.affinity.cookie:
        yield "sessionAffinity by cookie"
    if doors.outlier not in (None, OutlierDetection()):
        yield "outlierDetection"
    if doors.slow_start:
        yield "slowStart"
    if doors.retry is not None and doors.retry.per_try_timeout is not None:
        yield "retry.perTryTimeout"
    limits = doors.circuit_breaker
    if limits is not None and (limits.max_connections or limits.max_pending_requests):
        yield "circuitBreaker but maxRequests"


def _request_settings(policy: Policy) -> list[str]:
    """What only who reads requests can do."""
    doors = policy.doors
    asked = {
        "retry": doors.retry is not None and doors.retry.asked,
        "sessionAffinity": doors.affinity is not None,
        "timeout": doors.timeout is not None,
    }
    return [name for name, wanted in asked.items() if wanted]


def _connection_settings(policy: Policy) -> list[str]:
    """What needs a proxy of any kind."""
    doors = policy.doors
    asked = {
        "circuitBreaker": doors.circuit_breaker is not None,
        "outlierDetection": doors.outlier not in (None, OutlierDetection()),
        "slowStart": bool(doors.slow_start),
    }
    return [name for name, wanted in asked.items() if wanted]


def _by_zone(policy: Policy) -> bool:
    return any(tier.match.scope is Scope.SAME_ZONE for tier in policy.tiers)
