"""Rows for gRPC clients: rendered while there are any, and nothing at all while there are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from isthmus.agent.assignments import load_assignments
from isthmus.agent.chain import Chain
from isthmus.flow import Derived, Priority, Table, derive, on, spread
from isthmus.model.names import ServiceKey
from isthmus.model.plan import PlanKey
from isthmus.model.service import Service
from isthmus.xds import grpc
from isthmus.xds.rows import (
    GRPC_CLIENTS,
    ProxyClass,
    Renderer,
    ResourceType,
    Row,
    ready_row,
    resource_name,
)


class GrpcRows:
    """Tables of what gRPC clients get; `classes` are those of all clients that are connected."""

    def __init__(self, chain: Chain, classes: Table[str, ProxyClass], xds: Table[str, bytes]) -> None:
        self._chain = chain
        self._classes = classes
        self.services = self._services()
        self.assignments = load_assignments(chain.plans, classes, Renderer.GRPC, xds)
        self.ready = self._ready()
        self.tables: list[Derived[str, bytes] | Derived[PlanKey, bytes] | Derived[ServiceKey, _Rows]] = [
            self.services,
            self.assignments,
            self.ready,
        ]
        spread(self.services, xds, lambda _key, row: row)
        spread(self.ready, xds, lambda key, row: {str(ready_row(ProxyClass.parse(key))): row})

    @property
    def _clients(self) -> list[ProxyClass]:
        return [found for found in self._classes.values() if found.renderer == Renderer.GRPC]

    def _services(self) -> Derived[ServiceKey, _Rows]:
        """Listeners, routes and clusters of a service."""
        chain = self._chain

        def compute(key: ServiceKey) -> _Rows | None:
            service = chain.services.get(key)
            return _rendered(chain, service) if service is not None and self._clients else None

        return derive(
            "grpc services",
            on(chain.services),
            on(chain.policies, priority=Priority.POLICY),
            on(self._classes, lambda _key, old, new: _turned(old, new, chain.services)),
            compute=compute,
        )

    def _ready(self) -> Derived[str, bytes]:
        """One empty row for each class, after everything else that it needs."""

        def compute(text: str) -> bytes | None:
            found = self._classes.get(text)
            return b"" if found is not None and _is_grpc(found) else None

        return derive(
            "grpc readiness",
            on(self._classes),
            on(self.services, lambda _key, _o, _n: ()),
            on(self.assignments, lambda _key, _o, _n: ()),
            compute=compute,
        )


_Rows = Mapping[str, bytes]


def _rendered(chain: Chain, service: Service) -> _Rows:
    rows: dict[str, bytes] = {}

    def put(kind: ResourceType, name: str, value: bytes) -> None:
        rows[str(Row(kind, GRPC_CLIENTS, name))] = value

    for name, port in grpc.names(service.key, service.ports).items():
        put(ResourceType.LDS, name, grpc.listener(name, service.key, port))
        own = resource_name(service.key, port.port)
        if name == own:
            doors = chain.policy_of(service, port).doors
            put(ResourceType.RDS, own, grpc.route_configuration(service.key, port, doors))
            put(ResourceType.CDS, own, grpc.cluster(service.key, port, doors))
    return rows


def _is_grpc(found: ProxyClass) -> bool:
    return found.renderer == Renderer.GRPC


def _turned(
    old: ProxyClass | None, new: ProxyClass | None, services: Iterable[ServiceKey]
) -> Iterable[ServiceKey]:
    """All services, where gRPC clients have come or gone."""
    return list(services) if any(one is not None and _is_grpc(one) for one in (old, new)) else ()
