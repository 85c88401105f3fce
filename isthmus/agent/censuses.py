"""What each cluster contributes to a service, kept by cluster: a change in one of many costs its own part.

Invariant: a census is the same as if it were taken anew from services, endpoints, views and verdicts as they
are now; a part that is not up to date with its service is taken anew for whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from isthmus.agent.followers import DownCounts
from isthmus.flow import Derived, Index, Priority, Table, derive, on
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.plan import port_id
from isthmus.model.service import Endpoint, Port, Service
from isthmus.traffic import endpointstate
from isthmus.traffic.endpointstate import Census, Part

SourceKey = tuple[ServiceKey, ClusterId]


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """The parts of one cluster: of the service as a whole, then of each port of `service`, in its order."""

    service: Service
    parts: tuple[Part, ...]


class Censuses:
    """The table of contributions, and the censuses they make."""

    def __init__(
        self,
        services: Table[ServiceKey, Service],
        endpoints: Table[SourceKey, tuple[Endpoint, ...]],
        views: Table[ClusterId, ClusterView],
        views_by_cluster: Mapping[ClusterId, ClusterView],
        health: Table[CheckKey, Verdict],
    ) -> None:
        self._services = services
        self._endpoints = endpoints
        self._views = views_by_cluster
        self._health = health
        self._downs = DownCounts(health)
        by_cluster = Index(services, lambda _key, row: [export.cluster for export in row.exports])

        def on_view(key: ClusterId, old: ClusterView | None, new: ClusterView | None) -> Iterator[SourceKey]:
            if _counted(old) != _counted(new):
                for service in by_cluster.of(key):
                    yield service, key

        self.table: Derived[SourceKey, Contribution] = derive(
            "contributions",
            on(services, sources_of),
            on(endpoints, priority=Priority.HEALTH),
            on(health, self._on_verdict, priority=Priority.HEALTH),
            on(views, on_view),
            compute=self._compute,
        )

    def census(self, service: Service, port: Port | None) -> Census:
        """The census of a port, None: of the service as a whole."""
        at = 0 if port is None else 1 + service.ports.index(port)
        return endpointstate.gathered(self._part(service, export.cluster, at) for export in service.exports)

    def _part(self, service: Service, cluster: ClusterId, at: int) -> Part:
        found = self.table.get((service.key, cluster))
        if found is not None and found.service is service:
            return found.parts[at]
        return self._taken(service, cluster, None if at == 0 else service.ports[at - 1])

    def _compute(self, key: SourceKey) -> Contribution | None:
        service = self._services.get(key[0])
        if service is None or service.export_of(key[1]) is None:
            return None
        parts = tuple(self._taken(service, key[1], port) for port in (None, *service.ports))
        return Contribution(service, parts)

    def _taken(self, service: Service, cluster: ClusterId, port: Port | None) -> Part:
        return endpointstate.contribution(
            service=service,
            port=port,
            cluster=cluster,
            members=self._endpoints.get((service.key, cluster)) or (),
            view=self._views.get(cluster),
            verdict=self._health.get,
        )

    def _on_verdict(self, key: CheckKey, old: Verdict | None, new: Verdict | None) -> Iterator[SourceKey]:
        if self._downs.matters(key, old, new):
            yield key.service, ClusterId(key.cluster)


def sources_of(key: ServiceKey, *rows: Service | None) -> set[SourceKey]:
    """The clusters that export a service in any of these rows of it."""
    return {(key, export.cluster) for row in rows if row is not None for export in row.exports}


def changed_ports(old: Contribution | None, new: Contribution | None) -> Iterator[str]:
    """Ids of the ports (and of the whole) of which the contribution changed."""
    if old is None or new is None or old.service is not new.service:
        for row in (old, new):
            if row is not None:
                yield from ("", *map(port_id, row.service.ports))
        return
    for port, before, after in zip((None, *new.service.ports), old.parts, new.parts, strict=True):
        if before != after:
            yield port_id(port)


def _counted(view: ClusterView | None) -> tuple[str, bool] | None:
    """What of a cluster its contribution depends on."""
    return None if view is None else (view.region, view.draining)
