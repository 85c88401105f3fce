"""Services and plans as the console tells them, back into values: what DNS makes its rows of.

Invariant: a plan that went through `/v1/plans` gives the row that the agent's own gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, LeftOut, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port, Protocol, Service, ServiceType

View = Mapping[str, Any]


def service(view: View) -> Service | None:
    """The service of `/v1/services/NAMESPACE/NAME`, without its exports; None where it is refused."""
    if "type" not in view:
        return None
    return Service(
        key=ServiceKey(view["namespace"], view["name"]),
        type=ServiceType(view["type"]),
        ports=tuple(_port(port) for port in view["ports"]),
        exports=(),
        ip_families=(),
        affinity=None,
        internal_traffic_policy="Cluster",
        traffic_distribution="",
        labels=(),
        annotations=(),
        conflicts=(),
    )


def _port(view: View) -> Port:
    protocol, _, number = str(view["id"]).partition("/")
    return Port(name=view["name"], protocol=Protocol(protocol), port=int(number))


def plan(view: View, of: Service) -> Plan:
    """A plan of `/v1/plans`, as far as DNS reads it."""
    # An agent older than this command does not say how it answers DNS: then it is the default.
    dns = view.get("dns", {})
    shares = _groups(view["shares"])
    return Plan(
        key=PlanKey(of.key, view["port"], Vantage(**view["vantage"])),
        port=next((port for port in of.ports if port_id(port) == view["port"]), None),
        shares=shares,
        standby=_groups(view["standby"]),
        unhealthy=_groups(view["unhealthy"]),
        draining=_groups(view["draining"]),
        left_out=tuple(
            LeftOut(ClusterId(one["cluster"]), EndpointId(one["endpoint"]), one["reason"])
            for one in view["leftOut"]
        ),
        panic=view["panic"],
        wavering=view["wavering"],
        ready_anywhere=view.get("readyAnywhere", bool(shares)),
        doors=DoorSettings(
            dns_answer=dns.get("answer", "ClusterSetIP"),
            dns_ttl=dns.get("ttlSeconds", DoorSettings().dns_ttl),
        ),
    )


def _groups(views: list[View]) -> tuple[PlanGroup, ...]:
    return tuple(
        PlanGroup(
            locality=Locality(ClusterId(view["cluster"]), view["region"], view["zone"]),
            step=view["step"],
            basis_points=view["basisPoints"],
            backends=tuple(_backend(one, ClusterId(view["cluster"])) for one in view["backends"]),
        )
        for view in views
    )


def _backend(view: View, cluster: ClusterId) -> Backend:
    return Backend(
        id=EndpointId(view["id"]),
        cluster=cluster,
        addresses=tuple(view["addresses"]),
        port=view["port"],
        hostname=view.get("hostname", ""),
    )
