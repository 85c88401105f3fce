"""A plan: the one decision that every door draws (traffic-semantics, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port

TOTAL_BASIS_POINTS = 10_000


class PlanKey(NamedTuple):
    """`port` is `PROTOCOL/number` of the merged service port, "" for the plan of the service as a whole."""

    service: ServiceKey
    port: str
    vantage: Vantage


def port_id(port: Port | None) -> str:
    """The text that names a service port in keys: `TCP/80`; "" for the service as a whole."""
    return "" if port is None else f"{port.protocol.value}/{port.port}"


class Backend(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An endpoint as a door needs it: addresses of both families and the port to connect to.

    A Struct, as `Endpoint` is. `port` is None in the plan of the service as a whole.
    """

    id: EndpointId
    cluster: ClusterId
    addresses: tuple[str, ...]
    port: int | None
    hostname: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanGroup:
    """Endpoints of one (cluster, region, zone) on one step of the ladder."""

    locality: Locality
    step: int
    """Position in the ladder, 0 first; standbys and deprioritised groups count as steps of their own."""
    basis_points: int
    backends: tuple[Backend, ...]


class LeftOut(NamedTuple):
    """An endpoint that gets nothing, and why in words."""

    cluster: ClusterId
    endpoint: EndpointId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who gets which share of a service port's callers at one vantage.

    `shares`: groups with a share in ladder order, summing to 10,000 basis points, with the backends counted
    healthy (in panic, all that panic counts). `standby`: groups with healthy backends and no share, in
    ladder order. `unhealthy`: last resort. `draining`: old sessions only. In panic the backends that panic
    counts stand in `shares` alone.
    """

    key: PlanKey
    port: Port | None
    shares: tuple[PlanGroup, ...] = ()
    standby: tuple[PlanGroup, ...] = ()
    unhealthy: tuple[PlanGroup, ...] = ()
    draining: tuple[PlanGroup, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    panic: bool = False
    wavering: bool = False
    """True while one more probe result can change this plan (a DNS answer then gets a short TTL)."""
    doors: DoorSettings = field(default_factory=DoorSettings)
    policy: str = ""
    """`origin namespace/name` of the policy in force, "" for the default."""
    ready_anywhere: bool = False
    """Kubernetes says that an endpoint is ready somewhere (tells NODATA from NXDOMAIN when empty)."""
