"""What this cluster offers: its ServiceExports with their Services.

An export that is detached (`isthmus.dev/detach`) counts as the hub has it, because nobody may change that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from isthmus.agent.inputs import Hub, Member
from isthmus.api import kinds, labels, mcs
from isthmus.api.meta import ObjectKey
from isthmus.flow import Derived, Table, derive, on
from isthmus.kube.raw import opened
from isthmus.mcs import border, serviceexport
from isthmus.mcs.annotations import is_set
from isthmus.mcs.hubobjects import hub_namespace, object_name, service_of
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Export


def detached(found: mcs.ServiceExport | mcs.ServiceImport | None) -> bool:
    """Whether an object's owner asks us to let go of it."""
    return found is not None and is_set(found.metadata.annotations, labels.DETACH)


def own_exports(
    me: ClusterId,
    member: Member,
    hub: Hub,
    session: Table[str, bool],
    clock_offset: Callable[[], float | None],
) -> Derived[ServiceKey, Export | Refused]:
    """Every export of this cluster as its owner asks for it, or why it is not valid; before the quota."""
    namespace = hub_namespace(me)

    def compute(key: ServiceKey) -> Export | Refused | None:
        export = member.exports.get(ObjectKey(*key))
        if export is None or export.metadata.deletion_timestamp is not None:
            return None
        if detached(export):
            recorded = hub.exported_services.get(ObjectKey(namespace, object_name(key)))
            if recorded is None:
                return None
            return border.exported_service(opened(kinds.EXPORTED_SERVICE, recorded))
        service = member.services.get(ObjectKey(*key))
        return serviceexport.local_export(
            cluster=me, export=export, service=service, clock_offset=clock_offset()
        )

    def on_record(name: ObjectKey, _old: object, _new: object) -> Iterable[ServiceKey]:
        key = service_of(name.name) if name.namespace == namespace else None
        return (key,) if key is not None and detached(member.exports.get(ObjectKey(*key))) else ()

    def itself(key: ObjectKey, _old: object, _new: object) -> Iterable[ServiceKey]:
        return (ServiceKey(*key),)

    return derive(
        "wishes",
        on(member.exports, itself),
        on(member.services, itself),
        on(hub.exported_services, on_record),
        # The hub's clock is known once it has answered.
        on(session, lambda _key, _o, _n: [ServiceKey(*key) for key in member.exports]),
        compute=compute,
    )
