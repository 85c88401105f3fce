"""`/v1/explain`: why callers at one place go where they go, step by step and endpoint by endpoint.

Invariant: it shows the very reckoning that the doors draw. A question that names something that is not there
gets what could have been meant instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from isthmus.console.views import Sources, View, refusals
from isthmus.model.names import ServiceKey, Vantage
from isthmus.model.plan import PlanKey, port_id
from isthmus.model.service import Port, Service
from isthmus.traffic.explain import OverruledRow, explain_endpoints, explain_overruled, explain_steps
from isthmus.traffic.planner import Reckoning

MOST_VANTAGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswerable:
    """Why a question has no answer: an HTTP status, a sentence, and what could be asked instead."""

    status: int
    error: str
    choices: tuple[str, ...] = ()


def explanation(sources: Sources, key: ServiceKey, port: str = "", at: str = "") -> View | Unanswerable:
    """The plan of a service port for callers at `at` (CLUSTER or CLUSTER/ZONE), explained.

    `port`: a name, a number or PROTOCOL/number; "" for the first one. `at` "" is this agent's own cluster.
    """
    service = sources.services.get(key)
    withheld = sources.withheld(key)
    if service is None:
        why = f"no service {key} in the clusterset"
        if withheld:
            why = f"{', '.join(withheld)} exports {key}, and not to {sources.cluster} (isthmus.dev/export-to)"
        return Unanswerable(status=404, error=why)
    found = find_port(service, port)
    if isinstance(found, Unanswerable):
        return found
    vantage = find_vantage(sources.places(), at or sources.cluster)
    if isinstance(vantage, Unanswerable):
        return vantage
    reckoning = sources.reckon(PlanKey(key, port_id(found), vantage))
    if reckoning is None:
        return Unanswerable(status=404, error=f"no service {key} in the clusterset")
    ports = [_port_text(one) for one in service.ports]
    more = {"cluster": sources.cluster, "ports": ports, "withheld": list(withheld)}
    overruled = explain_overruled(sources.policies(key), service, found)
    return explained(reckoning, overruled) | more | {"refusals": refusals(sources, key)}


def explained(reckoning: Reckoning, overruled: Iterable[OverruledRow]) -> View:
    """A reckoning as plain values; shares and health in percent of all callers' traffic."""
    plan = reckoning.plan
    return {
        "service": str(plan.key.service),
        "port": plan.key.port,
        "vantage": plan.key.vantage._asdict(),
        "policy": plan.policy,
        "overruled": [asdict(row) for row in overruled],
        "panic": plan.panic,
        "empty": not plan.shares,
        "steps": [
            asdict(row)
            | {"clusters": list(row.clusters), "health": round(row.health, 4), "share": round(row.share, 4)}
            for row in explain_steps(reckoning)
        ],
        "groups": [
            {**group.locality._asdict(), "step": group.step, "share": group.basis_points / 100}
            for group in plan.shares
        ],
        "endpoints": [asdict(row) | {"share": round(row.share, 4)} for row in explain_endpoints(reckoning)],
    }


def find_port(service: Service, wanted: str) -> Port | Unanswerable | None:
    """The port meant; None (the service as a whole) only where the service has no ports."""
    if not wanted:
        return service.ports[0] if service.ports else None
    for port in service.ports:
        if wanted in (port_id(port), port.name, str(port.port)):
            return port
    choices = tuple(_port_text(port) for port in service.ports)
    has = f"it has {', '.join(choices)}" if choices else "it has no ports"
    return Unanswerable(
        status=400, error=f"service {service.key} has no port {wanted}; {has}", choices=choices
    )


def find_vantage(places: Iterable[Vantage], wanted: str) -> Vantage | Unanswerable:
    """The place meant by CLUSTER or CLUSTER/ZONE."""
    cluster, _, zone = wanted.partition("/")
    known = sorted(set(places))
    for place in known:
        if (place.cluster, place.zone) == (cluster, zone):
            return place
    choices = tuple(dict.fromkeys(sorted(vantage_text(place) for place in known)))[:MOST_VANTAGES]
    shown = ", ".join(choices) or "none"
    error = f"nobody calls from {wanted}; the vantages are {shown}"
    return Unanswerable(status=400, error=error, choices=choices)


def vantage_text(place: Vantage) -> str:
    """A vantage as people write it: CLUSTER, or CLUSTER/ZONE."""
    return f"{place.cluster}/{place.zone}" if place.zone else str(place.cluster)


def _port_text(port: Port) -> str:
    return f"{port.name} ({port_id(port)})" if port.name else port_id(port)
