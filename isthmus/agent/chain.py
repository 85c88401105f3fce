"""The chain from what was read to plans: which table follows from which, and what a change touches.

    exports, endpoints, policies, clusters  ─▶ services ─▶ contributions ─▶ plans
                                 services ─▶ checks ─▶ health ─▶ contributions

Each derivation is one method: the keys a change affects beside the pure function of the room that decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from isthmus.agent import hearing
from isthmus.agent.acceptance import (
    AcceptedPolicy,
    PolicyKey,
    accepted_policies,
    named_services,
    selecting_namespaces,
)
from isthmus.agent.admission import Admission
from isthmus.agent.callerzones import CallerZones
from isthmus.agent.censuses import Censuses, Contribution, SourceKey, changed_ports, sources_of
from isthmus.agent.followers import Named, UpCounts
from isthmus.agent.inputs import Hub, Member
from isthmus.agent.ownexports import own_exports
from isthmus.agent.quotas import Quotas
from isthmus.agent.refusals import Refusals
from isthmus.api import core, hub, labels
from isthmus.api.meta import ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.fleet import accept as fleet_accept
from isthmus.fleet import evidence
from isthmus.fleet.departure import GRACE_SECONDS, Departures
from isthmus.flow import Again, Derived, Index, Priority, Table, derive, on, spread
from isthmus.mcs import border, conflict, endpointslice
from isthmus.mcs.quota import Quota
from isthmus.model.cluster import Cluster, ClusterView, Phase, Standing
from isthmus.model.health import CheckKey, CheckTarget, Verdict
from isthmus.model.names import ClusterId, ServiceKey, Vantage, is_cluster_id
from isthmus.model.plan import Plan, PlanKey, port_id
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused
from isthmus.model.service import Endpoint, Export, Port, Service, ServiceType
from isthmus.probes import targets
from isthmus.traffic import planner, policychoice

K = TypeVar("K")
V = TypeVar("V")
G = TypeVar("G")


OWN = "own"
"""The row of this cluster in `membership`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which cluster this agent speaks for."""

    cluster: ClusterId
    region: str
    network: str
    api_servers: frozenset[str] = frozenset()
    """Addresses of the API servers this agent talks to."""
    clock_offset: Callable[[], float | None] = lambda: 0.0
    """Seconds to add to this cluster's clock to get the hub's, as measured now; None: not yet."""
    grace: float = GRACE_SECONDS
    """How long a cluster counts whose Cluster object is gone."""
    quota: Quota = field(default_factory=Quota)
    """The most that one cluster may offer."""

    @property
    def vantage(self) -> Vantage:
        """Where callers stand of whom only the cluster is known (DNS behind a shared forwarder)."""
        return Vantage(self.region, "", self.cluster)


class Chain:
    """All derived state up to the plans."""

    def __init__(
        self,
        place: Place,
        member: Member,
        hub_: Hub,
        remembered: Table[PolicyKey, GlobalTrafficPolicy] | None = None,
    ) -> None:
        """`remembered`: forms of policies that were in force before this process began, if any."""
        self.place = place
        if remembered is None:
            remembered = Table("remembered policies")
            remembered.partition("nobody").replace({})
        self.member = member
        self.hub = hub_
        self.health: Table[CheckKey, Verdict] = Table("health")
        self.session: Table[str, bool] = Table("session")
        self.membership: Table[str, Standing] = Table("membership")
        self.vantages: Table[Vantage, int] = Table("vantages")
        self.caller_zones = CallerZones(member, place.vantage)
        self.checks: Table[CheckKey, CheckTarget] = Table("checks")
        self.wishes = own_exports(place.cluster, member, hub_, self.session, place.clock_offset)
        self.offers = self._offers()
        self.claims = hearing.claims(hub_, place.cluster)
        self.heard_endpoints = hearing.endpoints(
            member, hub_, place.cluster, place.network, place.api_servers
        )
        self.quotas = Quotas(place.quota, (self.wishes, self.claims), (self.offers, self.heard_endpoints))
        self.own_exports = self.quotas.within(self.wishes, "own exports")
        self.own_endpoints = self._own_endpoints()
        self.heard_exports = self.quotas.within(self.claims, "heard exports")
        self.clusters = self._clusters()
        self.admission = Admission(self.heard_exports, self.clusters, place.cluster, place.region)
        self.services = self._services()
        self.endpoints = self._endpoints()
        self.refusals = Refusals(hub_.clusters, self.heard_exports, self.heard_endpoints, self.endpoints)
        self.accepted = accepted_policies(member.policies, hub_.policies, remembered)
        self._naming = Index(self.accepted, lambda _key, row: named_services(row.in_force))
        self.policies = self._policies()
        self.views = self._views()
        self.views_by_cluster: Mapping[ClusterId, ClusterView] = Named(self.views, lambda key: key)
        self.service_checks = self._service_checks()
        self.censuses = Censuses(
            self.services, self.endpoints, self.views, self.views_by_cluster, self.health
        )
        self.plans = self._plans()
        spread(self.service_checks, self.checks, lambda _key, row: row)

    @property
    def standing(self) -> Standing:
        """Where this cluster stands on its hub."""
        return self.membership.get(OWN) or Standing(phase=Phase.UNDECIDED)

    # What this cluster offers.

    def _offers(self) -> Derived[ServiceKey, border.ImportedEndpoints]:
        """This cluster's own endpoints, checked as its neighbours will check them."""
        member, place = self.member, self.place
        by_service = Index(member.slices, _slice_services)
        by_node = Index(member.slices, _slice_nodes)
        nodes = Named(member.nodes, lambda key: key.name)

        def on_node(key: ObjectKey, _old: object, _new: object) -> Iterable[ServiceKey]:
            for slice_key in by_node.of(key.name):
                found = member.slices.get(slice_key)
                if found is not None:
                    yield from _slice_services(slice_key, found)

        def compute(key: ServiceKey) -> border.ImportedEndpoints | None:
            if not isinstance(self.wishes.get(key), Export):
                return None
            slices = [found for name in by_service.of(key) if (found := member.slices.get(name)) is not None]
            endpoints = endpointslice.local_endpoints(
                slices, cluster=place.cluster, network=place.network, nodes=nodes, region=place.region
            )
            return border.offered(key, place.cluster, endpoints)

        return derive(
            "offers",
            on(self.wishes, lambda key, old, new: (key,) if type(old) is not type(new) else ()),
            on(member.slices, _either(_slice_services), priority=Priority.HEALTH),
            on(member.nodes, on_node),
            compute=compute,
        )

    def _own_endpoints(self) -> Derived[ServiceKey, tuple[Endpoint, ...]]:
        offers, exports = self.offers, self.own_exports

        def compute(key: ServiceKey) -> tuple[Endpoint, ...] | None:
            offer = offers.get(key)
            return offer.endpoints if offer and isinstance(exports.get(key), Export) else None

        return derive(
            "own endpoints",
            on(offers, priority=Priority.HEALTH),
            on(exports, lambda key, old, new: (key,) if type(old) is not type(new) else ()),
            compute=compute,
        )

    # The merged view.

    def _services(self) -> Derived[ServiceKey, Service]:
        own, heard = self.own_exports, self.heard_exports

        def compute(key: ServiceKey) -> Service | None:
            if self.standing.phase is Phase.LEFT:
                return None
            exports = self.admission.admitted(key)
            if isinstance(mine := own.get(key), Export) and not self.standing.withdrawn:
                exports.append(mine)
            return conflict.merge(exports) if exports else None

        def affected(_key: ObjectKey, old: object, new: object) -> Iterable[ServiceKey]:
            return {row.key for row in (old, new) if isinstance(row, Export)}

        def on_membership(_key: str, old: Standing | None, new: Standing | None) -> Iterable[ServiceKey]:
            return {*own, *self.admission.services} if turned(old, new) else ()

        return derive(
            "services",
            on(own),
            on(heard, affected),
            on(self.clusters, self.admission.concerned, priority=Priority.POLICY),
            on(self.membership, on_membership),
            compute=compute,
        )

    def _endpoints(self) -> Derived[SourceKey, tuple[Endpoint, ...]]:
        own, heard, me = self.own_endpoints, self.heard_endpoints, self.place.cluster
        by_source = Index(heard, _heard_sources)

        def compute(key: SourceKey) -> tuple[Endpoint, ...] | None:
            service, cluster = key
            if cluster == me:
                return own.get(service)
            parts = [heard.get(name) for name in sorted(by_source.of(key))]
            good = [part for part in parts if isinstance(part, border.ImportedEndpoints)]
            return border.joined(good) if good else None

        return derive(
            "endpoints",
            on(own, lambda key, _old, _new: ((key, me),), priority=Priority.HEALTH),
            on(heard, _either(_heard_sources), priority=Priority.HEALTH),
            compute=compute,
        )

    # Policies.

    def policies_naming(self, key: ServiceKey) -> Iterable[PolicyKey]:
        """Policies that name a service, by a target or by their own name."""
        return self._naming.of(key)

    def _policies(self) -> Derived[ServiceKey, tuple[Policy, ...]]:
        """The policies that may speak of a service, the strongest first."""
        selecting = Index(self.accepted, lambda _key, row: selecting_namespaces(row.in_force))
        services = self.services

        def affected(
            _key: PolicyKey, old: AcceptedPolicy | None, new: AcceptedPolicy | None
        ) -> Iterable[ServiceKey]:
            policies = [row.in_force for row in (old, new) if row is not None and row.in_force is not None]
            if any(policy.selector is not None for policy in policies):
                yield from services
            for policy in policies:
                yield from named_services(policy)

        def compute(key: ServiceKey) -> tuple[Policy, ...] | None:
            service = services.get(key)
            if service is None:
                return None
            names = [*self.policies_naming(key), *selecting.of(key.namespace)]
            found = [row.in_force for name in names if (row := self.accepted.get(name)) is not None]
            return tuple(policy for policy in found if policy is not None)

        return derive(
            "service policies",
            on(self.accepted, affected, priority=Priority.POLICY),
            on(services),
            compute=compute,
        )

    # Clusters.

    def _clusters(self) -> Derived[ClusterId, Cluster]:
        """The members: who is not among them is not heard."""
        heard = self.hub.clusters
        departures = Departures(time.monotonic, self.place.grace)

        def compute(key: ClusterId) -> Again[Cluster] | Cluster | None:
            found, before = heard.get(ObjectKey("", key)), self.clusters.get(key)
            if found is None:
                left = departures.left(key) if before is not None else 0.0
                return Again(before, left) if left else None
            departures.here(key)
            answer = fleet_accept.cluster(found)
            if isinstance(answer, Cluster):
                return answer
            # A slip in its region takes nothing away from a member.
            return before or (Cluster(id=key) if is_cluster_id(key) else None)

        def affected(
            key: ObjectKey, _old: hub.Cluster | None, _new: hub.Cluster | None
        ) -> Iterable[ClusterId]:
            return (ClusterId(key.name),)

        return derive("clusters", on(heard, affected), compute=compute)

    def _views(self) -> Derived[ClusterId, ClusterView]:
        """Clusters as the planner counts them: unknown only where nothing of them is Up from here either."""
        up = UpCounts(self.health)
        me = self.place.cluster

        def compute(key: ClusterId) -> ClusterView | None:
            cluster = self.clusters.get(key)
            if cluster is None:
                return None
            return evidence.view(
                cluster,
                own=me,
                up=up.any(key),
                session_live=self.session.get("hub") is True,
                previous=self.views.get(key),
            )

        return derive(
            "cluster views",
            on(self.clusters),
            on(self.health, up.turned, priority=Priority.HEALTH),
            on(self.session, lambda _key, _o, _n: list(self.clusters)),
            compute=compute,
        )

    # Checks and plans.

    def _service_checks(self) -> Derived[SourceKey, dict[CheckKey, CheckTarget]]:
        def compute(key: SourceKey) -> dict[CheckKey, CheckTarget] | None:
            service = self.services.get(key[0])
            export = service.export_of(key[1]) if service else None
            if service is None or export is None:
                return None
            return targets.targets(
                service,
                export,
                self.endpoints.get(key) or (),
                lambda port: self.policy_of(service, port),
                self.place.cluster,
            )

        return derive(
            "service checks",
            on(self.services, sources_of),
            on(self.endpoints),
            on(self.policies, lambda key, _o, _n: sources_of(key, self.services.get(key))),
            compute=compute,
        )

    def endpoints_of(self, service: Service) -> dict[ClusterId, tuple[Endpoint, ...]]:
        """Endpoints of each exporting cluster."""
        clusters = (export.cluster for export in service.exports)
        return {cluster: self.endpoints.get((service.key, cluster)) or () for cluster in clusters}

    def policy_of(self, service: Service, port: Port | None) -> Policy:
        """The policy in force for a service port (None: for the service as a whole)."""
        return policychoice.choose(self.policies.get(service.key) or (), service, port)

    def plan_keys(
        self, key: ServiceKey, service: Service | None = None, policies: Iterable[Policy] | None = None
    ) -> Iterator[PlanKey]:
        """All plans that a service may have: the whole and each port, at each vantage that may have callers.

        `service` and `policies` are its own as they are now unless others are given.
        """
        told = (self.policies.get(key) or ()) if policies is None else policies
        return _keys(key, service or self.services.get(key), (*self.vantages, *self.caller_zones.apart(told)))

    def zones_of(self, key: ServiceKey) -> list[Vantage]:
        """Zones whose DNS callers may be told something else of a service than those of the whole cluster."""
        service = self.services.get(key)
        if service is None or not self.caller_zones.zones:
            return []
        drawn = self.policy_of(service, None).doors.dns_answer == "Endpoints"
        if not drawn and service.type is not ServiceType.HEADLESS:
            return []
        return self.caller_zones.apart(self.policies.get(key) or ())

    def _plans(self) -> Derived[PlanKey, Plan]:
        by_cluster = Index(self.services, lambda _key, row: [export.cluster for export in row.exports])

        def on_service(key: ServiceKey, old: Service | None, new: Service | None) -> Iterable[PlanKey]:
            for service in (old, new):
                if service is not None:
                    yield from self.plan_keys(key, service)

        def on_contribution(
            key: SourceKey, old: Contribution | None, new: Contribution | None
        ) -> Iterable[PlanKey]:
            ports = tuple(changed_ports(old, new))
            for vantage in (*self.vantages, *self.zones_of(key[0])) if ports else ():
                for port in ports:
                    yield PlanKey(key[0], port, vantage)

        def on_policies(
            key: ServiceKey, old: tuple[Policy, ...] | None, new: tuple[Policy, ...] | None
        ) -> Iterable[PlanKey]:
            return self.plan_keys(key, policies=(*(old or ()), *(new or ())))

        def on_view(key: ClusterId, _old: object, _new: object) -> Iterable[PlanKey]:
            for name in by_cluster.of(key):
                yield from _keys(name, self.services.get(name), (*self.vantages, *self.zones_of(name)))

        def on_vantage(key: Vantage, old: int | None, new: int | None) -> Iterable[PlanKey]:
            if old is None or new is None:
                for name, service in self.services.items():
                    yield from _keys(name, service, (key,))

        def on_zone(zone: Vantage, _old: object, new: bool | None) -> Iterable[PlanKey]:
            if new is None:
                return [key for key in self.plans if key.vantage == zone]
            return [key for name in self.services for key in self.plan_keys(name) if key.vantage == zone]

        return derive(
            "plans",
            on(self.services, on_service),
            on(self.censuses.table, on_contribution),
            on(self.policies, on_policies, priority=Priority.POLICY),
            on(self.views, on_view),
            on(self.vantages, on_vantage, priority=Priority.POLICY),
            on(self.caller_zones.zones, on_zone),
            compute=self._plan,
        )

    def _plan(self, key: PlanKey) -> Plan | None:
        wanted = key.vantage in self.vantages or key.vantage in self.zones_of(key.service)
        found = self.reckon(key) if wanted else None
        return None if found is None else found.plan

    def reckon(self, key: PlanKey) -> planner.Reckoning | None:
        """The plan of that key with the steps that led to it, whether or not it has callers.

        None where there is no such service or port.
        """
        service = self.services.get(key.service)
        port = _port(service, key.port)
        if service is None or (port is None and key.port):
            return None
        return planner.decide(
            service=service,
            port=port,
            policy=self.policy_of(service, port),
            census=self.censuses.census(service, port),
            clusters=self.views_by_cluster,
            vantage=key.vantage,
        )


def _keys(key: ServiceKey, service: Service | None, vantages: Iterable[Vantage]) -> Iterator[PlanKey]:
    ports = ["", *(port_id(port) for port in service.ports)] if service else [""]
    return (PlanKey(key, port, vantage) for vantage in vantages for port in ports)


def _port(service: Service | None, wanted: str) -> Port | None:
    return next((port for port in service.ports if port_id(port) == wanted), None) if service else None


def turned(old: Standing | None, new: Standing | None) -> bool:
    """Whether a cluster began to leave, has left, or has come back."""
    phases = [row.phase if row is not None and row.withdrawn else None for row in (old, new)]
    return phases[0] != phases[1]


def _either(by: Callable[[K, V], Iterable[G]]) -> Callable[[K, V | None, V | None], Iterable[G]]:
    """What the old or the new row belongs to."""

    def affected(key: K, old: V | None, new: V | None) -> Iterable[G]:
        for row in (old, new):
            if row is not None:
                yield from by(key, row)

    return affected


def _slice_services(key: ObjectKey, found: core.EndpointSlice) -> Iterable[ServiceKey]:
    name = found.metadata.labels.get(labels.SERVICE_NAME)
    return (ServiceKey(key.namespace, name),) if name else ()


def _slice_nodes(_key: ObjectKey, found: core.EndpointSlice) -> Iterable[str]:
    return {endpoint.node_name for endpoint in found.endpoints or () if endpoint.node_name}


def _heard_sources(_key: ObjectKey, row: border.ImportedEndpoints | Refused) -> Iterable[SourceKey]:
    return () if isinstance(row, Refused) else ((row.key, row.cluster),)
