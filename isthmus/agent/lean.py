"""What is kept of objects that this cluster has by the ten thousand because we wrote them.

Of an import of ours and of its derived Service little is looked at (the applier sees the whole objects for
itself): who it is, who owns it, what people have put on it, and what the API server decided. Invariant: what
is left out has its default, and nobody else's object is touched.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from isthmus.api import core, kinds, labels, mcs
from isthmus.api.meta import Kind, ObjectMeta

M = TypeVar("M", bound=ObjectMeta)

_MOST_KNOWN: Final = 1_000
_known: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
"""Labels and annotations that many objects have alike."""


def service(found: core.Service) -> core.Service:
    """A Service; of one that an import of ours owns, what is looked at."""
    metadata = found.metadata
    if metadata.labels.get(labels.MANAGED_BY) != labels.MANAGER or not any(
        owner.kind == kinds.SERVICE_IMPORT.kind for owner in metadata.owner_references
    ):
        return found
    spec = core.ServiceSpec(
        type=sys.intern(found.spec.type),
        cluster_ip=found.spec.cluster_ip,
        cluster_ips=found.spec.cluster_ips,
        ip_families=tuple(map(sys.intern, found.spec.ip_families)),
    )
    return core.Service(metadata=_metadata(metadata), spec=spec)


def service_import(found: mcs.ServiceImport) -> mcs.ServiceImport:
    """A ServiceImport; of one of ours, what is looked at."""
    metadata = found.metadata
    if metadata.labels.get(labels.MANAGED_BY) != labels.MANAGER:
        return found
    spec = mcs.ServiceImportSpec(
        type=sys.intern(found.spec.type),
        ips=found.spec.ips,
        traffic_distribution=found.spec.traffic_distribution,
    )
    told = msgspec.structs.replace(_metadata(metadata), managed_fields=())
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
    made.decode = lambda data: keep(kind.decode(data))
    return made


def _metadata(found: M) -> M:
    return msgspec.structs.replace(
        found,
        name=sys.intern(found.name),
        namespace=sys.intern(found.namespace),
        labels=_shared(found.labels),
        annotations=_shared(
            {name: text for name, text in found.annotations.items() if name != labels.APPLIED}
        ),
        owner_references=tuple(
            msgspec.structs.replace(owner, kind=sys.intern(owner.kind), name=sys.intern(owner.name))
            for owner in found.owner_references
        ),
        resource_version="",
        creation_timestamp="",
        finalizers=(),
    )


def _shared(found: dict[str, str]) -> dict[str, str]:
    key = tuple(found.items())
    known = _known.get(key)
    if known is not None:
        return known
    if len(_known) < _MOST_KNOWN:
        _known[key] = found
    return found
