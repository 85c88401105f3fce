"""The ServiceExports that annotations of Services and namespaces ask for, as a table of desired objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.agent.inputs import Member
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Derived, Index, Table, derive, on
from isthmus.kube.applier import ObjectRef
from isthmus.mcs.autoexport import Answer, auto_export, made_for_service, rendered


def auto_exports(member: Member) -> Derived[ObjectRef, dict[str, Any]]:
    """One row for each export that should be there because of an annotation.

    Not where a user's own export has the name: it is not ours to touch, and exports the Service already.
    """
    by_namespace = Index(member.services, lambda key, _row: (key.namespace,))

    def compute(ref: ObjectRef) -> dict[str, Any] | None:
        service, existing = member.services.get(ref.key), member.exports.get(ref.key)
        if service is None or (existing is not None and not made_for_service(existing)):
            return None
        match auto_export(service, member.namespaces.get(ObjectKey("", ref.namespace))):
            case Answer.YES:
                return rendered(service)
            case Answer.UNCLEAR if existing is not None:
                return rendered(service)
            case _:
                return None

    def itself(key: ObjectKey, _old: object, _new: object) -> Iterable[ObjectRef]:
        return (ObjectRef(kinds.SERVICE_EXPORT, *key),)

    def within(key: ObjectKey, _old: object, _new: object) -> Iterable[ObjectRef]:
        return [ObjectRef(kinds.SERVICE_EXPORT, *name) for name in by_namespace.of(key.name)]

    services: Table[ObjectKey, Any] = member.services
    return derive(
        "auto exports",
        on(services, itself),
        on(member.exports, itself),
        on(member.namespaces, within),
        compute=compute,
    )
