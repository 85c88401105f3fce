"""Rendered rows: what the door workers of this agent are given, as bytes.

Each door has one table of text keys and bytes. A health change touches the load assignments and the DNS row
of its own service and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

from isthmus.agent.assignments import load_assignments
from isthmus.agent.capturerows import CaptureRows
from isthmus.agent.chain import Chain
from isthmus.agent.grpcrows import GrpcRows
from isthmus.dns import rrset
from isthmus.dns.row import row_key
from isthmus.flow import Derived, Priority, Table, Writer, derive, on, spread
from isthmus.model.names import ServiceKey, Vantage
from isthmus.model.plan import Plan, PlanKey, port_id
from isthmus.model.service import Port, Protocol, Service
from isthmus.xds import envoy, rows
from isthmus.xds.rows import Capture, ProxyClass, Renderer, ResourceType, Row

PortKey = tuple[ServiceKey, str]


class Doors:
    """The tables `xds` and `dns`, and `wants`: the classes of proxies that have asked for something."""

    def __init__(
        self, chain: Chain, vips: Table[ServiceKey, tuple[str, ...]], callers: Writer[Vantage, int]
    ) -> None:
        self.chain = chain
        self.vips = vips
        self.wants: Table[str, bytes] = Table("wants")
        self.xds: Table[str, bytes] = Table("xds")
        self.dns: Table[str, bytes] = Table("dns")
        self.classes = self._classes()
        self.assignments = load_assignments(chain.plans, self.classes, Renderer.ENVOY, self.xds)
        self.clusters = self._clusters()
        self.hosts = self._hosts()
        self.routes = self._routes()
        self.captured = CaptureRows(chain, self.classes, vips, self.clusters, self.xds)
        self.listeners = self._listeners()
        self.names = self._names()
        self.grpc = GrpcRows(chain, self.classes, self.xds)
        self.tables: list[Table[Any, Any]] = [
            self.assignments,
            self.clusters,
            *self.captured.tables,
            self.routes,
            self.listeners,
            self.names,
            chain.caller_zones.row,
            *self.grpc.tables,
        ]
        spread(self.clusters, self.xds, lambda _key, row: dict([row]))
        spread(self.routes, self.xds, lambda key, row: {str(Row(ResourceType.RDS, key, rows.EXPLICIT)): row})
        spread(
            self.listeners, self.xds, lambda key, row: {str(Row(ResourceType.LDS, key, rows.EXPLICIT)): row}
        )
        spread(self.names, self.dns, lambda _key, row: row)
        spread(chain.caller_zones.row, self.dns, lambda key, row: {key: row})
        self._follow_vantages(callers)

    def _follow_vantages(self, callers: Writer[Vantage, int]) -> None:
        """Plans are made for this cluster's own vantage and for those of the proxies that are connected."""
        own = self.chain.place.vantage

        def count() -> None:
            found = {own: 1}
            for proxies in self.classes.values():
                found[proxies.vantage] = found.get(proxies.vantage, 0) + 1
            callers.replace(found)

        self.classes.observe(lambda _key, _old, _new: count())

    def _classes(self) -> Derived[str, ProxyClass]:
        """Wanted classes by their text; several workers may want the same."""

        def compute(text: str) -> ProxyClass | None:
            if not any(_class_text(key) == text for key in self.wants):
                return None
            found = ProxyClass.parse(text)
            return found if found.vantage.cluster == self.chain.place.cluster else None

        wants = on(self.wants, lambda key, _o, _n: (_class_text(key),), priority=Priority.POLICY)
        return derive("proxy classes", wants, compute=compute)

    def _clusters(self) -> Derived[PortKey, tuple[str, bytes]]:
        chain = self.chain

        def compute(key: PortKey) -> tuple[str, bytes] | None:
            service = chain.services.get(key[0])
            port = _port(service, key[1])
            if service is None or port is None or port.protocol is not Protocol.TCP:
                return None  # a number is a name to Envoy, and UDP has no clusters there
            name = rows.resource_name(key[0], port.port)
            doors = chain.policy_of(service, port).doors
            return str(Row(ResourceType.CDS, rows.EVERYBODY, name)), envoy.cluster(key[0], port, doors)

        def on_service(key: ServiceKey, old: Service | None, new: Service | None) -> Iterable[PortKey]:
            return {(key, port_id(port)) for service in (old, new) if service for port in service.ports}

        def on_policies(key: ServiceKey, _old: object, _new: object) -> Iterable[PortKey]:
            service = chain.services.get(key)
            return on_service(key, None, service)

        return derive(
            "envoy clusters",
            on(chain.services, on_service),
            on(chain.policies, on_policies, priority=Priority.POLICY),
            compute=compute,
        )

    def _hosts(self) -> Derived[ServiceKey, bytes]:
        chain = self.chain

        def compute(key: ServiceKey) -> bytes | None:
            service = chain.services.get(key)
            if service is None:
                return None
            per_port = {port_id(port): chain.policy_of(service, port).doors for port in service.ports}
            return (
                envoy.virtual_host(key, service.ports, chain.policy_of(service, None).doors, per_port) or None
            )

        return derive(
            "virtual hosts",
            on(chain.services),
            on(chain.policies, priority=Priority.POLICY),
            compute=compute,
        )

    def _routes(self) -> Derived[str, bytes]:
        """Route configurations of explicit capture, joined from the hosts of each service.

        Joined once for all classes that are told of the same services.
        """

        def classes(uses: str) -> list[ProxyClass]:
            found = (one for one in self.classes.values() if _is_explicit(one))
            return [one for one in found if ",".join(one.uses) == uses]

        def join(uses: str) -> bytes | None:
            found = classes(uses)
            if not found:
                return None
            told = (host for key, host in sorted(self.hosts.items()) if found[0].may_use(key))
            return envoy.route_configuration(told)

        def on_host(_key: ServiceKey, _old: object, _new: object) -> Iterable[str]:
            return {",".join(one.uses) for one in self.classes.values() if _is_explicit(one)}

        def on_class(_key: str, old: ProxyClass | None, new: ProxyClass | None) -> Iterable[str]:
            turned = {",".join(one.uses) for one in (old, new) if _is_explicit(one)}
            return [uses for uses in turned if (joined.get(uses) is None) == bool(classes(uses))]

        joined: Derived[str, bytes] = derive(
            "all routes", on(self.hosts, on_host), on(self.classes, on_class), compute=join
        )

        def compute(text: str) -> bytes | None:
            found = self.classes.get(text)
            return joined.get(",".join(found.uses)) if found is not None and _is_explicit(found) else None

        return derive(
            "route configurations",
            on(self.classes),
            on(joined, lambda _key, _o, _n: list(self.classes)),
            compute=compute,
        )

    def _listeners(self) -> Derived[str, bytes]:
        def compute(text: str) -> bytes | None:
            found = self.classes.get(text)
            where = rows.split_listen(found.listen) if found is not None else None
            if found is None or where is None or not _is_envoy(found):
                return None
            if found.capture is Capture.TRANSPARENT:
                return self.captured.listener(found, where)
            return envoy.listener(*where, log=found.access_log)

        def captured(_key: object, _old: object, _new: object) -> Iterable[str]:
            found = self.classes.items()
            return [text for text, one in found if one.capture is Capture.TRANSPARENT]

        # A class is ready for its proxies when its listener is there: its routes and plans come first.
        return derive(
            "listeners",
            on(self.classes),
            on(self.routes),
            on(self.captured.chains, captured),
            on(self.captured.routes, lambda _key, _o, _n: ()),
            on(self.captured.scoped, lambda _key, _o, _n: ()),
            on(self.assignments, lambda _key, _o, _n: ()),
            compute=compute,
        )

    def _names(self) -> Derived[ServiceKey, dict[str, bytes]]:
        """The row of a service for DNS callers of the cluster, and those of zones where it is another one."""
        chain = self.chain
        own, zones = chain.place.vantage, chain.caller_zones.zones

        def plans_of(service: Service, vantage: Vantage) -> dict[str, Plan]:
            ids = ["", *(port_id(port) for port in service.ports)]
            keys = (PlanKey(service.key, name, vantage) for name in ids)
            return {key.port: plan for key in keys if (plan := chain.plans.get(key))}

        def compute(key: ServiceKey) -> dict[str, bytes] | None:
            service = chain.services.get(key)
            if service is None:
                return None
            ips, plans = self.vips.get(key) or (), plans_of(service, own)
            whole = rrset.render(service, ips, plans)
            found = {row_key(own, key): whole}
            for zone in chain.zones_of(key):
                there = plans_of(service, zone)
                # Until all plans of a new zone are made its callers are told what holds for the cluster.
                if there.keys() == plans.keys() and (told := rrset.render(service, ips, there)) != whole:
                    found[row_key(zone, key)] = told
            return found

        def on_plan(key: PlanKey, _old: object, new: Plan | None) -> Iterable[ServiceKey]:
            return (key.service,) if key.vantage == own or key.vantage in zones or new is None else ()

        def on_zone(_zone: Vantage, _old: object, _new: object) -> Iterable[ServiceKey]:
            names = self.names
            return [key for key in chain.services if chain.zones_of(key) or len(names.get(key) or ()) > 1]

        return derive(
            "dns rows",
            on(chain.services),
            on(self.vips),
            on(chain.plans, on_plan),
            on(zones, on_zone),
            compute=compute,
        )


def _is_envoy(found: ProxyClass | None) -> TypeGuard[ProxyClass]:
    return found is not None and found.renderer == Renderer.ENVOY


def _is_explicit(found: ProxyClass | None) -> TypeGuard[ProxyClass]:
    return _is_envoy(found) and found.capture is Capture.EXPLICIT


def _class_text(key: str) -> str:
    """A want's key is `worker/class`."""
    return key.partition("/")[2]


def _port(service: Service | None, wanted: str) -> Port | None:
    if service is None:
        return None
    return next((port for port in service.ports if port_id(port) == wanted), None)
