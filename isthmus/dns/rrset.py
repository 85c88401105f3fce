"""From a service and its plans to the row its answers come from; pure, runs in the control process.

A and AAAA of a headless service, and of one whose policy asks for endpoint answers, draw from the plan of the
service as a whole; SRV draws from the plan of the port (traffic-semantics, section 4). Per-pod names (multi-
cluster DNS 1.0.0) exist for every ready endpoint of a headless service, drawn or not: who names a pod wants
that pod, and a probe's verdict is advice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Final

from isthmus.dns import wire
from isthmus.dns.row import DrawRow, Member, PortRow, Row, encode
from isthmus.model.plan import Backend, Plan, PlanGroup, port_id
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port, Service, ServiceType

_LONGEST_TTL: Final = 86_400
_FULL_WEIGHT: Final = 100


def render(service: Service, ips: Sequence[str], plans: Mapping[str, Plan]) -> bytes:
    """The row of a service, encoded.

    `ips` are the clusterset IPs of this cluster; `plans` are those of one vantage by `port_id`, "" being the
    service as a whole. A plan that is missing counts as empty. Raises ValueError for an address that is none.
    """
    return encode(row(service, ips, plans))


def row(service: Service, ips: Sequence[str], plans: Mapping[str, Plan]) -> Row:
    """The row of a service before it is encoded; arguments as for `render`."""
    whole = plans.get("")
    doors = whole.doors if whole is not None else DoorSettings()
    ttl = min(max(doors.dns_ttl, 0), _LONGEST_TTL)
    headless = service.type is ServiceType.HEADLESS
    namespace, name = service.key
    if not headless and doors.dns_answer == "ClusterSetIP":
        v4, v6 = _packed(ips)
        fixed = tuple(
            PortRow(port.name.lower(), port.protocol.value.lower(), ((port.port, _FULL_WEIGHT),))
            for port in service.ports
        )
        return Row(namespace, name, ttl, v4=v4, v6=v6, ports=fixed)
    if not _exists(whole):
        return Row(namespace, name, ttl, exists=False, headless=headless)
    members = _Members(f"{namespace}/{name}")
    draw = members.draw(whole)
    ports = tuple(
        _drawn_port(port, members, plans[port_id(port)], headless)
        for port in service.ports
        if _exists(plans.get(port_id(port)))
    )
    if headless:
        for group in _others(whole):
            for backend in group.backends:
                members.index(backend)
    return Row(namespace, name, ttl, headless=headless, members=tuple(members.rows), draw=draw, ports=ports)


def _exists(plan: Plan | None) -> bool:
    return plan is not None and (bool(plan.shares) or plan.ready_anywhere)


def _others(plan: Plan | None) -> Sequence[PlanGroup]:
    return () if plan is None else tuple(chain(plan.standby, plan.unhealthy))


def _drawn_port(port: Port, members: _Members, plan: Plan, headless: bool) -> PortRow:
    name, protocol = port.name.lower(), port.protocol.value.lower()
    if headless:
        return PortRow(name, protocol, draw=members.draw(plan))
    return PortRow(name, protocol, _targets(plan))


def _targets(plan: Plan) -> tuple[tuple[int, int], ...]:
    """The ports that the endpoints of a plan listen on, each with its part of the shares as SRV weight.

    The addresses of such a service are those of endpoints, so the port has to be theirs as well.
    """
    points: dict[int, float] = {}
    for group in plan.shares:
        for backend in group.backends:
            if backend.port is not None:
                each = group.basis_points / len(group.backends)
                points[backend.port] = points.get(backend.port, 0.0) + each
    return tuple((port, max(1, round(part / _FULL_WEIGHT))) for port, part in sorted(points.items()))


class _Members:
    """Collects the members of a row: each endpoint once, in the order in which plans name them."""

    def __init__(self, service: str) -> None:
        self.rows: list[Member] = []
        self._service = service
        self._index: dict[tuple[str, str], int] = {}

    def index(self, backend: Backend) -> int:
        key = (backend.cluster, backend.id)
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self.rows)
            v4, v6 = _packed(backend.addresses)
            self.rows.append(Member(_host(backend), backend.cluster, v4, v6))
        return found

    def draw(self, plan: Plan | None) -> DrawRow:
        """The shares of a plan; the version is over ids and shares: equal plans of two ports draw alike."""
        groups = () if plan is None else plan.shares
        digest = blake2b(self._service.encode(), digest_size=8)
        indexes: list[int] = []
        ports: list[int] = []
        for group in groups:
            digest.update(b"|%d" % group.basis_points)
            for backend in group.backends:
                digest.update(f"|{backend.cluster}/{backend.id}".encode())
                indexes.append(self.index(backend))
                if backend.port is not None:
                    ports.append(backend.port)
        return DrawRow(
            tuple((group.basis_points, len(group.backends)) for group in groups),
            tuple(indexes),
            tuple(ports) if len(ports) == len(indexes) else (),
            digest.digest(),
            plan is not None and plan.wavering,
        )


def _host(backend: Backend) -> str:
    """The label of a pod: its hostname, else its first address with dashes (multi-cluster DNS 1.0.0)."""
    if backend.hostname and wire.label(backend.hostname) is not None:
        return backend.hostname.lower()
    return backend.addresses[0].replace(".", "-").replace(":", "-") if backend.addresses else ""


def _packed(addresses: Sequence[str]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    parsed = [ipaddress.ip_address(text) for text in addresses]
    return (
        tuple(address.packed for address in parsed if address.version == 4),
        tuple(address.packed for address in parsed if address.version == 6),
    )
