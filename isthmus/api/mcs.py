"""The MCS API (multicluster.x-k8s.io v1beta1) and ClusterProperty (about.k8s.io v1beta1), as published."""

from __future__ import annotations

import msgspec

from isthmus.api.core import SessionAffinityConfig
from isthmus.api.meta import Condition, ObjectMeta, Struct


class ServiceExportSpec(Struct, frozen=True):
    exported_labels: dict[str, str] = {}
    exported_annotations: dict[str, str] = {}


class ServiceExportStatus(Struct, frozen=True):
    conditions: tuple[Condition, ...] = ()


class ServiceExport(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceExportSpec = ServiceExportSpec()
    status: ServiceExportStatus = ServiceExportStatus()


class ImportPort(Struct, frozen=True):
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None
    port: int = 0


class ServiceImportSpec(Struct, frozen=True):
    type: str = "ClusterSetIP"
    ports: tuple[ImportPort, ...] = ()
    ips: tuple[str, ...] = ()
    ip_families: tuple[str, ...] = ()
    session_affinity: str = ""
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None


class ImportCluster(Struct, frozen=True):
    cluster: str


class ServiceImportStatus(Struct, frozen=True):
    clusters: tuple[ImportCluster, ...] = ()
    conditions: tuple[Condition, ...] = ()
    endpoint_slice_objects: str = ""


class FieldsEntry(Struct, frozen=True):
    """Who wrote some of an object's fields; which ones is left out."""

    manager: str = ""
    subresource: str = ""


class ImportMeta(ObjectMeta, frozen=True):
    """Metadata that also tell who wrote the object: an import may be somebody else's."""

    managed_fields: tuple[FieldsEntry, ...] = ()


class ServiceImport(Struct, frozen=True):
    metadata: ImportMeta = ImportMeta()
    spec: ServiceImportSpec = ServiceImportSpec()
    status: ServiceImportStatus = ServiceImportStatus()


class ClusterPropertySpec(Struct, frozen=True):
    value: str = ""


class ClusterProperty(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: ClusterPropertySpec = msgspec.field(default_factory=ClusterPropertySpec)
