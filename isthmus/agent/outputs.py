"""What control wants the API servers to hold: desired objects, one table for the member and one for the hub.

The appliers of `kube` make it so; here it is only said which object follows from which rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from isthmus.agent.autoexports import auto_exports
from isthmus.agent.censuses import SourceKey, sources_of
from isthmus.agent.chain import Chain, turned
from isthmus.agent.letgo import LetGo
from isthmus.agent.ownexports import detached
from isthmus.agent.policystatuses import PolicyStatuses
from isthmus.api import core, kinds, labels
from isthmus.api.meta import Kind, ObjectKey
from isthmus.flow import Derived, Index, Table, derive, on, spread
from isthmus.kube.applier import ObjectRef
from isthmus.kube.raw import Packed, RawObject, pack, unpack
from isthmus.kubeproxy import slices
from isthmus.mcs import endpointslice, hubobjects, serviceexport, serviceimport
from isthmus.mcs.annotations import is_set
from isthmus.mcs.border import ImportedEndpoints
from isthmus.mcs.serviceimport import holder
from isthmus.model.names import ServiceKey
from isthmus.model.plan import PlanKey, port_id
from isthmus.model.refusal import Refused
from isthmus.model.service import AddressFamily, Endpoint, Export

K = TypeVar("K")
V = TypeVar("V")

Rendered = Mapping[ObjectRef, dict[str, Any]]
Objects = Mapping[ObjectRef, Packed]


class Outputs:
    """The tables `member` and `hub` of desired objects, and `vips`, the clusterset IPs of this cluster.

    Answers of the API servers come back in three tables: `asked`, this cluster's address families by its own
    word (no row: it does not say), and `member_refused` and `hub_refused`, what was refused and why.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.member: Table[ObjectRef, Packed] = Table("member/desired")
        self.hub: Table[ObjectRef, Packed] = Table("hub/desired")
        self.asked: Table[str, tuple[AddressFamily, ...]] = Table("member/families")
        self.member_refused: Table[ObjectRef, Refused] = Table("member/refused")
        self.hub_refused: Table[ObjectRef, Refused] = Table("hub/refused")
        self._by_namespace = Index(chain.services, lambda key, _row: (key.namespace,))
        self.exports = auto_exports(chain.member)
        self.families = self._families()
        self.vips = self._vips()
        self.policies = PolicyStatuses(chain)
        wanted: list[Table[Any, Objects]] = [
            self._imports(),
            self._derived_services(),
            self._imported_slices(),
            self._derived_slices(),
            self._export_statuses(),
            self.policies.statuses,
        ]
        exported: list[Table[Any, Objects]] = [self._exported_services(), self._exported_endpoints()]
        for table in wanted:
            spread(table, self.member, _each)
        for table in exported:
            spread(table, self.hub, _each)
        self.let_go = LetGo(chain, [*wanted, *exported])
        self.tables: list[Table[Any, Any]] = [
            self.vips,
            *wanted,
            *exported,
            self.exports,
            self.let_go.objects,
            *self.policies.tables,
        ]

    def _families(self) -> Derived[str, tuple[AddressFamily, ...]]:
        """The address families of this cluster: its word, else what Services and nodes' pod ranges show."""
        member = self.chain.member

        of_services = Index(member.services, lambda _key, row: row.spec.ip_families)
        of_nodes = Index(member.nodes, lambda _key, row: map(_family, row.spec.pod_cidrs))

        def compute(_key: str) -> tuple[AddressFamily, ...]:
            if told := self.asked.get(""):
                return told
            found = {*of_services.groups(), *of_nodes.groups()}
            return tuple(family for family in AddressFamily if family.value in found)

        def on_service(_key: object, old: core.Service | None, new: core.Service | None) -> Iterable[str]:
            return () if old and new and old.spec.ip_families == new.spec.ip_families else ("",)

        return derive(
            "address families",
            on(member.services, on_service),
            on(member.nodes, lambda _key, old, new: () if old and new else ("",)),
            on(self.asked, lambda _key, _o, _n: ("",)),
            compute=compute,
        )

    @property
    def _supported(self) -> tuple[AddressFamily, ...]:
        return self.families.get("") or tuple(AddressFamily)

    def _derived(self, key: ServiceKey) -> core.Service | None:
        """The derived Service as it is in this cluster, None where there is none that is ours."""
        name = ObjectKey(key.namespace, serviceimport.derived_name(key))
        found = self.chain.member.services.get(name)
        if found is None or found.metadata.labels.get(labels.MANAGED_BY) != labels.MANAGER:
            return None
        return found if key in _imports_of(name, None, found) else None

    def _owning_import(self, ref: ObjectRef, _old: object, _new: object) -> Iterable[ServiceKey]:
        """The import that owns a desired Service."""
        row = self.member.get(ref) if ref.kind is kinds.SERVICE else None
        wanted = unpack(row) if row is not None else None
        for owner in wanted["metadata"].get("ownerReferences", ()) if wanted else ():
            yield ServiceKey(ref.namespace, owner["name"])

    def _vips(self) -> Derived[ServiceKey, tuple[str, ...]]:
        """The derived Service's addresses; while it is not there, those that the import had from it.

        Where the import has gone as well it is made again, with the addresses that both had last.
        """
        chain, member = self.chain, self.chain.member

        def compute(key: ServiceKey) -> tuple[str, ...] | None:
            found = self._derived(key)
            if found is not None:
                return _cluster_ips(found) or None
            imported = member.imports.get(ObjectKey(*key))
            if imported is None:
                again = key in chain.services and self._namespace_stands(key.namespace)
                return self.vips.get(key) if again else None
            return tuple(imported.spec.ips) or None if self._own_import_uid(key) else None

        return derive(
            "clusterset ips",
            on(member.services, _imports_of),
            on(member.imports, _by_key),
            on(chain.services, lambda key, _old, new: () if new else (key,)),
            on(member.namespaces, self._of_namespace),
            compute=compute,
        )

    def _imports(self) -> Derived[ServiceKey, Objects]:
        """ServiceImports and their status, where their namespace exists (KEP-1645)."""
        chain, member = self.chain, self.chain.member

        def compute(key: ServiceKey) -> Rendered | None:
            service = chain.services.get(key)
            existing = member.imports.get(ObjectKey(*key))
            if service is None or detached(existing) or not self._namespace_stands(key.namespace):
                return None
            wanted = {
                _ref(kinds.SERVICE_IMPORT, key): serviceimport.service_import(
                    service, self.vips.get(key) or (), supported=self._supported
                )
            }
            if existing is not None and self._own_import_uid(key):
                derived = self._derived(key)
                refused = self.member_refused.get(_derived_ref(key))
                wanted[_ref(kinds.SERVICE_IMPORT, key, "status")] = serviceimport.service_import_status(
                    service,
                    _cluster_ips(derived) if derived else (),
                    supported=self._supported,
                    slices_present=True,
                    generation=existing.metadata.generation,
                    problem=refused.message if refused else "",
                )
            return wanted

        return derive(
            "imports",
            on(chain.services),
            on(self.vips),
            on(member.services, _imports_of),
            on(member.imports, _by_key),
            on(self.member_refused, self._owning_import),
            on(self.families, lambda _key, _o, _n: list(chain.services)),
            on(member.namespaces, self._of_namespace),
            compute=_packed(compute),
        )

    def _of_namespace(self, key: ObjectKey, _old: object, _new: object) -> Iterable[ServiceKey]:
        return list(self._by_namespace.of(key.name))

    def _namespace_stands(self, name: str) -> bool:
        found = self.chain.member.namespaces.get(ObjectKey("", name))
        return found is not None and found.metadata.deletion_timestamp is None

    def _import_uid(self, key: ServiceKey) -> str:
        """The uid of this cluster's import, whoever made it; "" where there is none or it is detached."""
        found = self.chain.member.imports.get(ObjectKey(*key))
        return "" if found is None or detached(found) else found.metadata.uid

    def _own_import_uid(self, key: ServiceKey) -> str:
        """The same, where the import is ours."""
        return self._import_uid(key) if holder(self.chain.member.imports.get(ObjectKey(*key))) == "" else ""

    def held(self, key: ServiceKey) -> str:
        """Who made the import of an exported service where it is not ours and not handed over, else ""."""
        found = self.chain.member.imports.get(ObjectKey(*key))
        if (
            found is None
            or key not in self.chain.services
            or is_set(found.metadata.annotations, labels.ADOPT)
        ):
            return ""
        return holder(found)

    def _derived_services(self) -> Derived[ServiceKey, Objects]:
        chain = self.chain

        def compute(key: ServiceKey) -> Rendered | None:
            service, uid = chain.services.get(key), self._import_uid(key)
            if service is None or not uid:
                return None
            wanted = serviceimport.derived_service(
                service, uid, supported=self._supported, ips=self.vips.get(key) or ()
            )
            return {_object_ref(kinds.SERVICE, wanted): wanted} if wanted is not None else None

        return derive(
            "derived services",
            on(chain.services),
            on(self.vips),
            on(self.families, lambda _key, _o, _n: list(chain.services)),
            on(chain.member.imports, _by_key),
            compute=_packed(compute),
        )

    def born(self, ref: ObjectRef, wanted: RawObject) -> RawObject:
        """An object as it is to be created: a derived Service that was lost, with the addresses it had."""
        if ref.kind is not kinds.SERVICE:
            return wanted
        (owner,) = wanted["metadata"]["ownerReferences"]
        key = ServiceKey(ref.namespace, owner["name"])
        return serviceimport.with_addresses(wanted, self.vips.get(key) or ())

    def _imported_slices(self) -> Derived[SourceKey, Objects]:
        """The canonical MCS slices, for each cluster that exports (this one too)."""
        chain = self.chain

        def compute(key: SourceKey) -> Rendered | None:
            service, uid = chain.services.get(key[0]), self._own_import_uid(key[0])
            if service is None or not uid or service.export_of(key[1]) is None:
                return None
            found = chain.endpoints.get(key) or ()
            rendered = endpointslice.canonical_slices(service, key[1], found, uid)
            return {_object_ref(kinds.ENDPOINT_SLICE, wanted): wanted for wanted in rendered}

        def on_import(key: ObjectKey, _old: object, _new: object) -> Iterable[SourceKey]:
            name = ServiceKey(*key)
            return sources_of(name, chain.services.get(name))

        return derive(
            "imported slices",
            on(chain.services, sources_of),
            on(chain.endpoints),
            on(chain.member.imports, on_import),
            compute=_packed(compute),
        )

    def _derived_slices(self) -> Derived[ServiceKey, Objects]:
        """kube-proxy's door: the derived Service's own slices, filtered by the plan."""
        chain = self.chain
        vantage = chain.place.vantage

        def compute(key: ServiceKey) -> Rendered | None:
            service, existing = chain.services.get(key), self._derived(key)
            if service is None or existing is None or not self._import_uid(key):
                return None
            plans = {
                port_id(port): plan
                for port in service.ports
                if (plan := chain.plans.get(PlanKey(key, port_id(port), vantage))) is not None
            }
            rendered = slices.derived_slices(
                service,
                plans,
                existing.metadata.name,
                existing.metadata.uid,
                own=chain.own_endpoints.get(key) or (),
                same_node=existing.spec.traffic_distribution == "PreferSameNode",
            )
            return {_object_ref(kinds.ENDPOINT_SLICE, wanted): wanted for wanted in rendered}

        def on_plan(key: PlanKey, _old: object, _new: object) -> Iterable[ServiceKey]:
            return (key.service,) if key.vantage == vantage and key.port else ()

        return derive(
            "derived slices",
            on(chain.services),
            on(chain.plans, on_plan),
            on(chain.member.services, _imports_of),
            on(chain.member.imports, _by_key),
            compute=_packed(compute),
        )

    def _export_statuses(self) -> Derived[ServiceKey, Objects]:
        chain = self.chain
        namespace = hubobjects.hub_namespace(chain.place.cluster)
        by_service = Index(self.hub_refused, lambda ref, _row: _services_of(ref))

        def compute(key: ServiceKey) -> Rendered | None:
            export = chain.member.exports.get(ObjectKey(*key))
            outcome = chain.own_exports.get(key)
            if export is None or outcome is None or detached(export):
                return None
            heard = chain.hub.exported_services.get(ObjectKey(namespace, hubobjects.object_name(key)))
            delivery = serviceexport.Delivery.EXPORTED if heard else serviceexport.Delivery.PENDING
            refused = [row for ref in by_service.of(key) if (row := self.hub_refused.get(ref)) is not None]
            why = chain.standing.silenced or (refused[0].message if refused else "")
            conditions = serviceexport.conditions(
                export,
                outcome,
                problems=serviceexport.export_settings(export).problems,
                merged=chain.services.get(key),
                delivery=serviceexport.Delivery.FAILED if why else delivery,
                why=why,
                left_out=offer.refused if (offer := chain.offers.get(key)) is not None else (),
            )
            wanted = serviceexport.export_status(export, conditions)
            return {_ref(kinds.SERVICE_EXPORT, key, "status"): wanted}

        def on_offer(
            key: ServiceKey, old: ImportedEndpoints | None, new: ImportedEndpoints | None
        ) -> Iterable[ServiceKey]:
            before, after = (row.refused if row is not None else () for row in (old, new))
            return (key,) if before != after else ()

        def on_heard(key: ObjectKey, _old: object, _new: object) -> Iterable[ServiceKey]:
            found = hubobjects.service_of(key.name) if key.namespace == namespace else None
            return (found,) if found is not None else ()

        return derive(
            "export statuses",
            on(chain.member.exports, _by_key),
            on(chain.own_exports),
            on(chain.offers, on_offer),
            on(chain.services),
            on(chain.hub.exported_services, on_heard),
            on(self.hub_refused, lambda ref, _o, _n: _services_of(ref)),
            on(chain.membership, lambda _key, _o, _n: list(chain.own_exports)),
            compute=_packed(compute),
        )

    def _exported(
        self,
        kind: Kind[Any],
        own: Table[ServiceKey, V],
        render: Callable[[ServiceKey, V], Iterable[dict[str, Any]]],
    ) -> Derived[ServiceKey, Objects]:
        """Objects of one kind for the hub, from a table of this cluster's own; none while it leaves."""
        chain, exports = self.chain, self.chain.member.exports

        def compute(key: ServiceKey) -> Rendered | None:
            found = own.get(key)
            if found is None or chain.standing.withdrawn or detached(exports.get(ObjectKey(*key))):
                return None
            return {_object_ref(kind, wanted): wanted for wanted in render(key, found)}

        return derive(
            kind.plural,
            on(own),
            on(exports, _by_key),
            on(chain.membership, lambda _key, old, new: list(own) if turned(old, new) else ()),
            compute=_packed(compute),
        )

    def _exported_services(self) -> Derived[ServiceKey, Objects]:
        def render(_key: ServiceKey, found: Export | Refused) -> Iterable[dict[str, Any]]:
            return () if isinstance(found, Refused) else (hubobjects.exported_service(found),)

        return self._exported(kinds.EXPORTED_SERVICE, self.chain.own_exports, render)

    def _exported_endpoints(self) -> Derived[ServiceKey, Objects]:
        me = self.chain.place.cluster

        def render(key: ServiceKey, found: tuple[Endpoint, ...]) -> Iterable[dict[str, Any]]:
            return hubobjects.exported_endpoints(key, me, found).values()

        return self._exported(kinds.EXPORTED_ENDPOINTS, self.chain.own_endpoints, render)


def _family(cidr: str) -> str:
    return (AddressFamily.IPV6 if ":" in cidr else AddressFamily.IPV4).value


def _each(_key: object, row: Objects) -> Objects:
    return row


def _packed(render: Callable[[K], Rendered | None]) -> Callable[[K], Objects | None]:
    """What is rendered, packed: most of what a large world desires would else be dicts."""

    def compute(key: K) -> Objects | None:
        rendered = render(key)
        return None if rendered is None else {ref: pack(wanted) for ref, wanted in rendered.items()}

    return compute


def _cluster_ips(found: core.Service) -> tuple[str, ...]:
    given = found.spec.cluster_ips or [found.spec.cluster_ip]
    return tuple(ip for ip in given if ip and ip != "None")


def _derived_ref(key: ServiceKey) -> ObjectRef:
    return ObjectRef(kinds.SERVICE, key.namespace, serviceimport.derived_name(key))


def _services_of(ref: ObjectRef) -> Iterable[ServiceKey]:
    """The service that an object on the hub speaks of: its name begins with `<service>.<namespace>`."""
    service = hubobjects.service_of(ref.name)
    return () if service is None else (service,)


def _ref(kind: Kind[Any], key: ServiceKey, subresource: str = "") -> ObjectRef:
    return ObjectRef(kind, key.namespace, key.name, subresource)


def _object_ref(kind: Kind[Any], wanted: Mapping[str, Any]) -> ObjectRef:
    metadata = wanted["metadata"]
    return ObjectRef(kind, metadata["namespace"], metadata["name"], "")


def _by_key(key: ObjectKey, _old: object, _new: object) -> Iterable[ServiceKey]:
    return (ServiceKey(*key),)


def _imports_of(key: ObjectKey, old: core.Service | None, new: core.Service | None) -> Iterable[ServiceKey]:
    """The import that owns a derived Service."""
    for row in (old, new):
        if row is not None:
            for owner in row.metadata.owner_references:
                if owner.kind == kinds.SERVICE_IMPORT.kind:
                    yield ServiceKey(key.namespace, owner.name)
