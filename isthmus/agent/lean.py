"""What is kept of objects that this cluster has by the ten thousand because we wrote them.

Of an import of ours and of its derived Service little is looked at (the applier sees the whole objects for
itself): who it is, who owns it, what people have put on it, and what the API server decided. Invariant: what
is left out has its default, and nobody else's object is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from isthmus.api import core, kinds, labels, mcs
from isthmus.api.meta import Kind, ObjectMeta
from isthmus.model.words import word

M = TypeVar("M", bound=ObjectMeta)

_MOST_KNOWN: Final = 1_000


class Alike:
    """Labels and annotations that many objects have alike, held once (again after a thousand others)."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def of(self, found: dict[str, str]) -> dict[str, str]:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        return self._known.setdefault(tuple(found.items()), found)


def service(found: core.Service, alike: Alike) -> core.Service:
    """A Service; of one that an import of ours owns, what is looked at."""
    metadata = found.metadata
    if metadata.labels.get(labels.MANAGED_BY) != labels.MANAGER or not any(
        owner.kind == kinds.SERVICE_IMPORT.kind for owner in metadata.owner_references
    ):
        return found
    spec = core.ServiceSpec(
        type=word(found.spec.type),
        cluster_ip=found.spec.cluster_ip,
        cluster_ips=found.spec.cluster_ips,
        ip_families=tuple(map(word, found.spec.ip_families)),
        traffic_distribution=found.spec.traffic_distribution,
    )
    return core.Service(metadata=_metadata(metadata, alike), spec=spec)


def service_import(found: mcs.ServiceImport, alike: Alike) -> mcs.ServiceImport:
    """A ServiceImport; of one of ours, what is looked at."""
    metadata = found.metadata
    if metadata.labels.get(labels.MANAGED_BY) != labels.MANAGER:
        return found
    spec = mcs.ServiceImportSpec(
        type=word(found.spec.type),
        ips=found.spec.ips,
        traffic_distribution=found.spec.traffic_distribution,
    )
    told = msgspec.structs.replace(_metadata(metadata, alike), managed_fields=())
    return mcs.ServiceImport(metadata=told, spec=spec)


LEAN: Final[Mapping[str, Any]] = {
    kinds.SERVICE.kind: service,
    kinds.SERVICE_IMPORT.kind: service_import,
}


def lean(kind: Kind[Any]) -> Kind[Any]:
    """The same kind, its objects as lean as may be."""
    keep = LEAN.get(kind.kind)
    if keep is None:
        return kind
    made: Kind[Any] = Kind(kind.group, kind.version, kind.kind, kind.plural, kind.namespaced, kind.type)
    alike = Alike()
    made.decode = lambda data: keep(kind.decode(data), alike)
    return made


def _metadata(found: M, alike: Alike) -> M:
    return msgspec.structs.replace(
        found,
        name=word(found.name),
        namespace=word(found.namespace),
        labels=alike.of(found.labels),
        annotations=alike.of(
            {name: text for name, text in found.annotations.items() if name != labels.APPLIED}
        ),
        owner_references=tuple(
            msgspec.structs.replace(owner, kind=word(owner.kind), name=word(owner.name))
            for owner in found.owner_references
        ),
        resource_version="",
        creation_timestamp="",
        finalizers=(),
    )
