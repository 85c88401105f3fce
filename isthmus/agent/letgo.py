"""Objects that Isthmus is asked to let go of (`isthmus.dev/detach`): nothing is written, nothing is deleted.

What is not desired any more is normally deleted, so the appliers ask here first. Invariant: an object is
spared from the moment its annotation is read until all that is desired of it was computed without it; so
neither putting the annotation on nor taking it off ever deletes what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isthmus.agent.chain import Chain
from isthmus.agent.ownexports import detached
from isthmus.api import kinds, labels, mcs
from isthmus.api.meta import ObjectKey
from isthmus.flow import Derived, Table, derive, on
from isthmus.kube.applier import Applier
from isthmus.mcs.annotations import is_set

Named = tuple[str, ObjectKey]
"""Kind and object."""

EXPORT, IMPORT = kinds.SERVICE_EXPORT.kind, kinds.SERVICE_IMPORT.kind


class LetGo:
    """Says which objects are spared; `after` are the tables of what is desired."""

    def __init__(self, chain: Chain, after: Iterable[Table[Any, Any]]) -> None:
        self._chain = chain
        self._member = chain.member
        self.objects = self._objects(after)

    def _objects(self, after: Iterable[Table[Any, Any]]) -> Derived[Named, bool]:
        """The detached objects, as of when everything desired was computed with that in mind."""
        chain, exports, imports = self._chain, self._member.exports, self._member.imports

        def compute(key: Named) -> bool | None:
            kind, name = key
            if kind == IMPORT:
                return detached(imports.get(name)) or None
            return (detached(exports.get(name)) and not chain.standing.withdrawn) or None

        return derive(
            "let go",
            on(exports, lambda key, _o, _n: ((EXPORT, key),)),
            on(imports, lambda key, _o, _n: ((IMPORT, key),)),
            on(chain.membership, lambda _key, _o, _n: [(EXPORT, key) for key in exports]),
            *(on(table, lambda _key, _o, _n: ()) for table in after),
            compute=compute,
        )

    def spares_member(self, found: Mapping[str, Any]) -> bool:
        """Whether this object of the own cluster belongs to an import that is let go of."""
        if found["kind"] == IMPORT and is_set(found["metadata"].get("annotations") or {}, labels.DETACH):
            return True  # the watch of who writes may be ahead of ours
        key = self._import_of(found)
        return key is not None and self._spared((IMPORT, key), self._member.imports.get(key))

    def spares_hub(self, found: Mapping[str, Any]) -> bool:
        """Whether this object on the hub belongs to an export that is let go of; who leaves takes all."""
        if self._chain.standing.withdrawn:
            return False
        service = found.get("spec", {}).get("service", {})
        key = ObjectKey(service.get("namespace", ""), service.get("name", ""))
        return self._spared((EXPORT, key), self._member.exports.get(key))

    def spares_export(self, found: Mapping[str, Any]) -> bool:
        """Whether this ServiceExport is let go of."""
        return is_set(found["metadata"].get("annotations") or {}, labels.DETACH)

    async def wake(self, appliers: Sequence[Applier]) -> None:
        """Makes the appliers look again at what they spared, whenever that changes; runs until cancelled."""
        async for _keys in self.objects.changes():
            for applier in appliers:
                applier.retake()

    def _spared(self, name: Named, found: mcs.ServiceExport | mcs.ServiceImport | None) -> bool:
        return detached(found) or name in self.objects

    def _import_of(self, found: Mapping[str, Any]) -> ObjectKey | None:
        metadata = found["metadata"]
        namespace: str = metadata.get("namespace", "")
        if found["kind"] == IMPORT:
            return ObjectKey(namespace, metadata["name"])
        if named := (metadata.get("labels") or {}).get(labels.IMPORT_NAME):
            return ObjectKey(namespace, named)
        for owner in metadata.get("ownerReferences") or ():
            if owner["kind"] == IMPORT:
                return ObjectKey(namespace, owner["name"])
            service = self._member.services.get(ObjectKey(namespace, owner["name"]))
            for above in service.metadata.owner_references if service is not None else ():
                if above.kind == IMPORT:
                    return ObjectKey(namespace, above.name)
        return None
