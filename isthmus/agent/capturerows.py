"""Rows for Envoys that calls are redirected to, and for those that are told of some services only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from isthmus.agent.chain import Chain
from isthmus.flow import Derived, Priority, Table, derive, on, spread
from isthmus.model.names import ServiceKey
from isthmus.model.plan import port_id
from isthmus.model.service import Port, Protocol, Service
from isthmus.xds import envoy
from isthmus.xds.appprotocol import speaks_http
from isthmus.xds.rows import EVERYBODY, Capture, ProxyClass, ResourceType, Row, resource_name, scope_of

ChainKey = tuple[ServiceKey, bool]
"""A service, and whether its chains log."""
ScopedKey = tuple[str, Any]
"""Of what is told to a scope: the scope, and the key among all clusters."""


class CaptureRows:
    """Filter chains and routes of captured connections, and clusters by scope of use."""

    def __init__(
        self,
        chain: Chain,
        classes: Table[str, ProxyClass],
        vips: Table[ServiceKey, tuple[str, ...]],
        clusters: Table[Any, tuple[str, bytes]],
        xds: Table[str, bytes],
    ) -> None:
        self._chain = chain
        self._classes = classes
        self._vips = vips
        self._clusters = clusters
        self.chains = self._chains()
        self.routes = self._routes()
        self.scoped = self._scoped()
        self.tables: list[Table[Any, Any]] = [self.chains, self.routes, self.scoped]
        spread(self.routes, xds, lambda _key, row: row)
        spread(self.scoped, xds, lambda _key, row: dict([row]))

    def listener(self, found: ProxyClass, where: tuple[str, int]) -> bytes:
        """The listener of a class whose calls are captured, with the chains of all that it may use."""
        wanted = [
            (key, row)
            for (key, log), row in self.chains.items()
            if log == found.access_log and found.may_use(key)
        ]
        six = any(":" in vip for key, _row in wanted for vip in self._vips.get(key) or ())
        return envoy.captured_listener(*where, (row for _key, row in sorted(wanted)), both_families=six)

    def _captured(self) -> list[ProxyClass]:
        return [found for found in self._classes.values() if found.capture is Capture.TRANSPARENT]

    def _turned(self, of: Callable[[ServiceKey], Iterable[Any]]) -> Callable[..., Iterable[Any]]:
        """All of `of` every service, where captured classes have come or gone."""

        def affected(_key: str, old: ProxyClass | None, new: ProxyClass | None) -> Iterable[Any]:
            if not any(one is not None and one.capture is Capture.TRANSPARENT for one in (old, new)):
                return ()
            return [key for service in self._chain.services for key in of(service)]

        return affected

    def _chains(self) -> Derived[ChainKey, bytes]:
        """The filter chains of a service; none without a clusterset IP, as headless services are."""
        chain = self._chain

        def compute(key: ChainKey) -> bytes | None:
            service, vips = chain.services.get(key[0]), self._vips.get(key[0])
            if service is None or not vips or all(one.access_log != key[1] for one in self._captured()):
                return None
            made = [envoy.filter_chain(service.key, port, vips, log=key[1]) for port in tcp_ports(service)]
            return b"".join(made) or None

        def both(key: ServiceKey, *_: object) -> Iterable[ChainKey]:
            return ((key, False), (key, True))

        return derive(
            "captured connections",
            on(chain.services, both),
            on(self._vips, both),
            on(self._classes, self._turned(both)),
            compute=compute,
        )

    def _routes(self) -> Derived[ServiceKey, dict[str, bytes]]:
        """Routes by port; the same for every class."""
        chain = self._chain

        def compute(key: ServiceKey) -> dict[str, bytes] | None:
            service = chain.services.get(key)
            if service is None or not self._captured():
                return None
            return {
                str(Row(ResourceType.RDS, EVERYBODY, resource_name(key, port.port))): envoy.captured_routes(
                    key, port, chain.policy_of(service, port).doors
                )
                for port in tcp_ports(service)
                if speaks_http(port)
            } or None

        return derive(
            "captured routes",
            on(chain.services),
            on(chain.policies, priority=Priority.POLICY),
            on(self._classes, self._turned(lambda key: (key,))),
            compute=compute,
        )

    def _scoped(self) -> Derived[ScopedKey, tuple[str, bytes]]:
        """Clusters once more for each scope that names services of its own."""
        clusters = self._clusters

        def scopes() -> dict[str, ProxyClass]:
            found = (one for one in self._classes.values() if one.uses and one.renderer == "envoy")
            return {scope_of(ResourceType.CDS, one): one for one in found}

        def compute(key: ScopedKey) -> tuple[str, bytes] | None:
            row, found = clusters.get(key[1]), scopes().get(key[0])
            if row is None or found is None or not found.may_use(key[1][0]):
                return None
            name = Row.parse(row[0]).name
            return str(Row(ResourceType.CDS, key[0], name)), row[1]

        def on_cluster(key: Any, _old: object, _new: object) -> Iterable[ScopedKey]:
            return [(scope, key) for scope in scopes()]

        def on_class(_key: str, old: ProxyClass | None, new: ProxyClass | None) -> Iterable[ScopedKey]:
            turned = {scope_of(ResourceType.CDS, one) for one in (old, new) if one is not None and one.uses}
            return [(scope, key) for scope in turned for key in clusters]

        return derive(
            "clusters by use", on(clusters, on_cluster), on(self._classes, on_class), compute=compute
        )


def tcp_ports(service: Service) -> list[Port]:
    """The ports that Envoy has clusters for, each number once."""
    found = {port_id(port): port for port in service.ports if port.protocol is Protocol.TCP}
    return list(found.values())
