"""ServiceExports that are made for Services by annotation (`isthmus.dev/auto-export`).

The Service's own value wins over its namespace's. Invariant: only an export that was made so is ever removed;
a user's export of that name stays theirs. The export is owned by its Service, so that it goes with it even
where no agent runs any more; a Service that is made again is a new offer, with a new age.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from isthmus.api import core, labels, mcs
from isthmus.api.meta import ObjectMeta
from isthmus.mcs.annotations import flag

MANAGER = "isthmus-auto-export"
"""The field manager of what is made here: annotations that people add to it stay theirs."""


class Answer(Enum):
    """Whether a Service is to be exported. UNCLEAR: a value is wrong, so nothing is made or removed."""

    NO = auto()
    YES = auto()
    UNCLEAR = auto()


def auto_export(service: core.Service, namespace: core.Namespace | None) -> Answer:
    """What the annotations of a Service and of its namespace ask for."""
    if not _exportable(service) or namespace is None or namespace.metadata.deletion_timestamp is not None:
        return Answer.NO
    for annotated in (service.metadata.annotations, namespace.metadata.annotations):
        asked, wrong = flag(annotated, labels.AUTO_EXPORT)
        if wrong:
            return Answer.UNCLEAR
        if asked is not None:
            return Answer.YES if asked else Answer.NO
    return Answer.NO


def made_for_service(found: mcs.ServiceExport) -> bool:
    """Whether an export was made here: it has our label, and the Service of its name owns it."""
    meta = found.metadata
    return meta.labels.get(labels.MANAGED_BY) == labels.MANAGER and any(
        (owner.kind, owner.name) == ("Service", meta.name) for owner in meta.owner_references
    )


def is_ours(found: Mapping[str, Any]) -> bool:
    """The same of an object as a dict."""
    meta = found["metadata"]
    owners = meta.get("ownerReferences") or ()
    ours = (meta.get("labels") or {}).get(labels.MANAGED_BY) == labels.MANAGER
    return ours and any((owner["kind"], owner["name"]) == ("Service", meta["name"]) for owner in owners)


def rendered(service: core.Service) -> dict[str, Any]:
    """The ServiceExport to apply for a Service."""
    meta = service.metadata
    return {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceExport",
        "metadata": {
            "namespace": meta.namespace,
            "name": meta.name,
            "labels": {labels.MANAGED_BY: labels.MANAGER},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": meta.name, "uid": meta.uid},
            ],
        },
    }


def _exportable(service: core.Service) -> bool:
    """Not the API server's own Service, not a name for something outside, and not what an import made."""
    meta = service.metadata
    return not (
        meta.deletion_timestamp is not None
        or service.spec.type == "ExternalName"
        or (meta.namespace, meta.name) == ("default", "kubernetes")
        or _derived(meta)
    )


def _derived(meta: ObjectMeta) -> bool:
    return meta.labels.get(labels.MANAGED_BY) == labels.MANAGER or any(
        owner.kind == "ServiceImport" for owner in meta.owner_references
    )
