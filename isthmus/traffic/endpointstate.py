"""What counts: every endpoint's state for one port, gathered into groups (traffic-semantics, section 1).

Invariant: Kubernetes readiness fails closed (an endpoint that is not ready is never made healthy here) and a
probe verdict fails open (without one, a ready endpoint is healthy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import msgspec

from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey
from isthmus.model.plan import Backend, LeftOut, port_id
from isthmus.model.service import Endpoint, EndpointPort, Export, Port, Service

Verdicts = Callable[[CheckKey], Verdict | None]


class Group(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The endpoints of one (cluster, region, zone) that are not left out, each list ordered by id."""

    locality: Locality
    healthy: tuple[Backend, ...]
    unhealthy: tuple[Backend, ...]
    draining: tuple[Backend, ...]

    @property
    def everyone(self) -> tuple[Backend, ...]:
        """All backends, ordered by id: what panic counts."""
        return tuple(sorted(self.healthy + self.unhealthy + self.draining, key=_BY_ID))


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one cluster contributes to a port's census: a function of that cluster's own rows alone."""

    groups: tuple[Group, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    wavering: bool = False
    ready_anywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """All endpoints of a service as one port's callers see them, before any policy."""

    groups: Mapping[Locality, Group]
    left_out: tuple[LeftOut, ...]
    wavering: bool
    ready_anywhere: bool


@dataclass(frozen=True, slots=True)
class _Bins:
    healthy: list[Backend] = field(default_factory=list)
    unhealthy: list[Backend] = field(default_factory=list)
    draining: list[Backend] = field(default_factory=list)


class _Survey(NamedTuple):
    """What probes say of one port in one cluster: Down by endpoint (unprobed ones absent) and by network."""

    down: dict[EndpointId, bool]
    canaries_down: dict[str, bool]
    wavering: bool


_BY_ID = attrgetter("id")
_place = lru_cache(maxsize=4_096)(Locality)
"""One value for all groups that stand there: in a large world most of a group is its name."""


def take_census(
    *,
    service: Service,
    port: Port | None,
    endpoints: Mapping[ClusterId, Sequence[Endpoint]],
    clusters: Mapping[ClusterId, ClusterView],
    verdict: Verdicts,
) -> Census:
    """Sort every endpoint into its state and group; `port` None asks of the service as a whole."""
    return gathered(
        contribution(
            service=service,
            port=port,
            cluster=cluster,
            members=members,
            view=clusters.get(cluster),
            verdict=verdict,
        )
        for cluster, members in endpoints.items()
    )


def gathered(parts: Iterable[Part]) -> Census:
    """The census of all clusters, from the part of each."""
    groups: dict[Locality, Group] = {}
    left_out: list[LeftOut] = []
    wavering = ready_anywhere = False
    for part in parts:
        for group in part.groups:
            groups[group.locality] = group
        left_out.extend(part.left_out)
        wavering = wavering or part.wavering
        ready_anywhere = ready_anywhere or part.ready_anywhere
    return Census(
        groups=groups, left_out=tuple(sorted(left_out)), wavering=wavering, ready_anywhere=ready_anywhere
    )


def contribution(
    *,
    service: Service,
    port: Port | None,
    cluster: ClusterId,
    members: Sequence[Endpoint],
    view: ClusterView | None,
    verdict: Verdicts,
) -> Part:
    """Sort the endpoints of one cluster; `view` None: a known cluster of which nothing is said."""
    export = service.export_of(cluster)
    if export is None or not export.exposes(port):
        why = _not_exposed(export is not None, port)
        return Part(left_out=tuple(LeftOut(cluster, member.id, why) for member in members))
    ready = [member for member in members if member.ready]
    drained = export.draining or (view is not None and view.draining)
    down: set[EndpointId] = set()
    wavering = False
    if not drained:
        down, wavering = _down(service, export, port, ready, verdict)
    left_out: list[LeftOut] = []
    region = view.region if view is not None else ""
    bins = _sort_members(cluster, region, members, port, drained, down, left_out)
    groups = tuple(
        Group(
            locality=locality,
            healthy=tuple(sorted(found.healthy, key=_BY_ID)),
            unhealthy=tuple(sorted(found.unhealthy, key=_BY_ID)),
            draining=tuple(sorted(found.draining, key=_BY_ID)),
        )
        for locality, found in bins.items()
    )
    return Part(groups=groups, left_out=tuple(left_out), wavering=wavering, ready_anywhere=bool(ready))


def _sort_members(
    cluster: ClusterId,
    cluster_region: str,
    members: Sequence[Endpoint],
    port: Port | None,
    drained: bool,
    down: set[EndpointId],
    left_out: list[LeftOut],
) -> dict[Locality, _Bins]:
    """The table of section 1, first row that fits; an endpoint without a region stands in its cluster's."""
    bins: dict[Locality, _Bins] = {}
    number: int | None = None
    ports: tuple[EndpointPort, ...] | None = None
    for member in members:
        if port is not None:
            if member.ports is not ports:  # neighbours mostly share theirs
                ports, number = member.ports, member.target_port(port)
            if number is None:
                left_out.append(LeftOut(cluster, member.id, f"does not listen on {_port_words(port)}"))
                continue
        if not member.addresses:
            left_out.append(LeftOut(cluster, member.id, "has no address"))
            continue
        terminating = not member.ready and member.terminating
        draining = member.serving and (drained or terminating)
        if not draining and not member.ready:
            left_out.append(LeftOut(cluster, member.id, "not ready in Kubernetes"))
            continue
        locality = _place(cluster, member.region or cluster_region, member.zone)
        found = bins.get(locality)
        if found is None:
            found = bins[locality] = _Bins()
        backend = Backend(
            id=member.id, cluster=cluster, addresses=member.addresses, port=number, hostname=member.hostname
        )
        if draining:
            found.draining.append(backend)
        elif member.id in down:
            found.unhealthy.append(backend)
        else:
            found.healthy.append(backend)
    return bins


def _down(
    service: Service, export: Export, port: Port | None, ready: Sequence[Endpoint], verdict: Verdicts
) -> tuple[set[EndpointId], bool]:
    """Ids of the ready endpoints of one cluster that are Down for `port`, and whether that may change soon.

    A port without any verdict in a (cluster, network), such as a UDP port, takes over what the canaries of
    the service's other ports say of that network. The service as a whole (`port` None): an endpoint is Down
    if it is Down on every probed port.
    """
    surveys = {p: _survey(service.key, export, p, ready, verdict) for p in _ports(service, export, port)}
    wavering = any(survey.wavering for survey in surveys.values())
    if port is None:
        said: dict[EndpointId, bool] = {}
        for survey in surveys.values():
            for endpoint, is_down in survey.down.items():
                said[endpoint] = is_down and said.get(endpoint, True)
        return {endpoint for endpoint, is_down in said.items() if is_down}, wavering
    own = surveys[port]
    down = {endpoint for endpoint, is_down in own.down.items() if is_down}
    spoken = {member.network for member in ready if member.id in own.down} | own.canaries_down.keys()
    unspoken = {member.network for member in ready} - spoken
    if unspoken and len(service.ports) > 1:
        silent: dict[str, bool] = {}
        for other in _ports(service, export, None):
            if other != port:
                survey = _survey(service.key, export, other, ready, verdict)
                wavering = wavering or survey.wavering
                for network, all_down in survey.canaries_down.items():
                    silent[network] = all_down and silent.get(network, True)
        down |= {m.id for m in ready if m.network in unspoken and silent.get(m.network, False)}
    return down, wavering


def _survey(
    key: ServiceKey, export: Export, port: Port, ready: Sequence[Endpoint], verdict: Verdicts
) -> _Survey:
    """Ask for the verdicts of one port; canaries speak for the endpoints without one of their own."""
    name, cluster = port_id(port), export.cluster
    down: dict[EndpointId, bool] = {}
    canaries_down: dict[str, bool] = {}
    unspoken: list[Endpoint] = []
    wavering = listens = False
    ports: tuple[EndpointPort, ...] | None = None
    for member in ready:
        if member.ports is not ports:  # neighbours mostly share theirs
            ports, listens = member.ports, member.target_port(port) is not None
        if not listens:
            continue
        found = verdict(CheckKey(key, cluster, member.id, name))
        if found is None:
            unspoken.append(member)
            continue
        wavering = wavering or found.wavering
        if found.canary:
            canaries_down[member.network] = found.up is False and canaries_down.get(member.network, True)
        if found.up is None:
            unspoken.append(member)
        else:
            down[member.id] = not found.up
    for member in unspoken:
        if canaries_down.get(member.network, False):
            down[member.id] = True
    return _Survey(down, canaries_down, wavering)


def _ports(service: Service, export: Export, port: Port | None) -> Iterator[Port]:
    """The merged ports that this export exposes (`port` None), or that one."""
    if port is not None:
        yield port
        return
    own = {(p.name, p.protocol, p.port) for p in export.ports}
    for candidate in service.ports:
        if (candidate.name, candidate.protocol, candidate.port) in own:
            yield candidate


def _not_exposed(exported: bool, port: Port | None) -> str:
    if not exported or port is None:
        return "its cluster does not export the service"
    return f"its cluster does not expose {_port_words(port)}"


def _port_words(port: Port) -> str:
    return f"port {port.name} ({port_id(port)})" if port.name else f"port {port_id(port)}"
