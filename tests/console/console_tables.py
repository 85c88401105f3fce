"""A small clusterset in tables, as an agent would hold it."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from isthmus.console.views import Sources
from isthmus.flow import Derived, Priority, Table, derive, on
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, LeftOut, Plan, PlanGroup, PlanKey
from isthmus.model.policy import DEFAULT_POLICY
from isthmus.model.refusal import Refused
from isthmus.model.service import (
    AddressFamily,
    Endpoint,
    EndpointPort,
    Export,
    ExportConflict,
    Port,
    Protocol,
    Service,
    ServiceType,
)
from isthmus.traffic import planner
from isthmus.traffic.planner import Reckoning

OWN, FAR = ClusterId("eu-1"), ClusterId("us-1")
KEY = ServiceKey("shop", "checkout")
PLACES = (Vantage("eu", "", OWN), Vantage("eu", "a", OWN), Vantage("us", "", FAR))
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)


def service(key: ServiceKey = KEY) -> Service:
    exports = tuple(
        Export(cluster=cluster, key=key, created=1.0, type=ServiceType.CLUSTER_SET_IP, ports=(HTTP,))
        for cluster in (OWN, FAR)
    )
    return Service(
        key=key,
        type=ServiceType.CLUSTER_SET_IP,
        ports=(HTTP,),
        exports=exports,
        ip_families=(AddressFamily.IPV4,),
        affinity=None,
        internal_traffic_policy="Cluster",
        traffic_distribution="",
        labels=(),
        annotations=(),
        conflicts=(ExportConflict(reason="TypeConflict", message="they differ"),),
    )


def endpoint(name: str, cluster: ClusterId) -> Endpoint:
    return Endpoint(
        id=EndpointId(name),
        cluster=cluster,
        region="eu",
        zone="a",
        addresses=("10.64.0.1",),
        ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=8080),),
    )


def plan() -> Plan:
    group = PlanGroup(
        locality=Locality(OWN, "eu", "a"),
        step=0,
        basis_points=10_000,
        backends=(Backend(id=EndpointId("a"), cluster=OWN, addresses=("10.64.0.1",), port=8080),),
    )
    key = PlanKey(KEY, "TCP/80", Vantage("eu", "", OWN))
    return Plan(
        key=key,
        port=HTTP,
        shares=(group,),
        left_out=(LeftOut(FAR, EndpointId("b"), "not ready in Kubernetes"),),
    )


def table(name: str, rows: dict[Any, Any] | None) -> Table[Any, Any]:
    """A table with these rows, None: one that is not complete."""
    made: Table[Any, Any] = Table(name)
    writer = made.partition("test")
    if rows is not None:
        writer.replace(rows)
    return made


def broken() -> Derived[str, str]:
    """A derivation that raises for its only key."""

    def compute(key: str) -> str:
        raise ZeroDivisionError(key)

    made = derive("broken", on(table("input", {"k": 1}), lambda key, _old, _new: (key,)), compute=compute)
    made.invalidate(["k"], Priority.POLICY)
    made.step(Priority.POLICY)
    return made


def reckon(key: PlanKey) -> Reckoning | None:
    """The planner's own word on the service, `b` being left out."""
    if key.service != KEY:
        return None
    left_out = msgspec.structs.replace(endpoint("b", FAR), ready=False)
    return planner.reckon(
        service=service(),
        port=HTTP if key.port else None,
        policy=DEFAULT_POLICY,
        endpoints={OWN: (endpoint("a", OWN),), FAR: (left_out,)},
        clusters={},
        verdict=lambda _check: None,
        vantage=key.vantage,
    )


def zone(address: str) -> tuple[Vantage | None, str]:
    """Where a caller stands: one address is that of a Node."""
    known = ipaddress.ip_address(address) == ipaddress.ip_address("10.0.1.1")
    return (PLACES[1], "10.0.1.1 is that of Node n1") if known else (None, "no Node has this address")


def sources(**more: Any) -> Sources:
    services = table("services", {KEY: service(), ServiceKey("a", "b"): service(ServiceKey("a", "b"))})
    checked = CheckKey(KEY, FAR, EndpointId("b"), "TCP/80")
    made: dict[str, Any] = {
        "cluster": OWN,
        "services": services,
        "endpoints": table(
            "endpoints", {(KEY, OWN): (endpoint("a", OWN),), (KEY, FAR): (endpoint("b", FAR),)}
        ),
        "plans": table("plans", {plan().key: plan()}),
        "clusters": table(
            "clusters",
            {OWN: ClusterView(id=OWN, region="eu"), FAR: ClusterView(id=FAR, region="us", unknown=True)},
        ),
        "health": table("health", {checked: Verdict(up=False, since=5.0, reason="refused")}),
        "exports": table(
            "exports", {ServiceKey("shop", "bad"): Refused(reason="NoService", message="no such")}
        ),
        "required": (services,),
        "reckon": reckon,
        "places": lambda: PLACES,
        "zone": zone,
    }
    return Sources(**{**made, **more})
