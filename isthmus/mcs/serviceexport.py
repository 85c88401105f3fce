"""ServiceExport: what this cluster offers, and what its owner is told about it.

Only a ServiceExport of the same namespace and name exports a Service (KEP-1645). Its age decides conflicts,
so it is put into the hub's clock once and kept (`isthmus.dev/exported-at`): a clock that is corrected later
never reorders live exports. A malformed annotation is left out and named; the export goes on without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isthmus.api import core, labels, mcs
from isthmus.mcs import annotations as known
from isthmus.mcs.audience import parse_audience, render_audience, split_audience
from isthmus.mcs.limits import MAX_EXPECTED, check_export, exportable_annotations, exportable_labels
from isthmus.mcs.probespec import parse_probe
from isthmus.model.health import HealthCheck
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import (
    AddressFamily,
    Audience,
    ClientIpAffinity,
    Export,
    Port,
    Protocol,
    Service,
    ServiceType,
)
from isthmus.model.timestamp import format_time, parse_time

Pairs = tuple[tuple[str, str], ...]

YOUNGEST = 253_402_300_799.0
"""The last second of the year 9999."""
_MESSAGE_LIMIT = 4096


class Delivery(StrEnum):
    """How far an export has got on its way to the hub; the reason of condition Ready."""

    EXPORTED = "Exported"
    PENDING = "Pending"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What the annotations of a ServiceExport and its exported metadata say; `problems` in words."""

    audience: Audience | None = None
    draining: bool = False
    expected_endpoints: int | None = None
    probe: HealthCheck | None = None
    labels: Pairs = ()
    annotations: Pairs = ()
    problems: tuple[str, ...] = ()


def export_settings(export: mcs.ServiceExport) -> ExportSettings:
    """What the export's annotations ask for; whatever is malformed is left out and named in `problems`."""
    annotations = export.metadata.annotations
    draining, wrong_drain = known.flag(annotations, labels.DRAIN)
    _detached, wrong_detach = known.flag(annotations, labels.DETACH)
    problems = [wrong for wrong in (wrong_drain, wrong_detach) if wrong]
    audience: Audience | None = None
    text = annotations.get(labels.EXPORT_TO)
    if text is not None:
        audience, wrong_items = parse_audience(split_audience(text))
        problems += [f"{labels.EXPORT_TO}: {wrong}" for wrong in wrong_items]
    expected: int | None = None
    text = annotations.get(labels.EXPECTED_ENDPOINTS)
    if text is not None:
        if text.isascii() and text.isdigit() and len(text) <= 7 and 1 <= int(text) <= MAX_EXPECTED:
            expected = int(text)
        else:
            must = f"must be a number 1..{MAX_EXPECTED}"
            problems.append(known.wrong(labels.EXPECTED_ENDPOINTS, text, must))
    probe: HealthCheck | None = None
    text = annotations.get(labels.PROBE)
    if text is not None:
        match parse_probe(text):
            case HealthCheck() as probe:
                pass
            case Refused(message=message):
                problems.append(known.wrong(labels.PROBE, text, f"is no probe: {message}"))
    problems += known.misplaced(annotations, "ServiceExport")
    exported_labels, wrong_labels = exportable_labels(export.spec.exported_labels)
    exported_annotations, wrong_annotations = exportable_annotations(export.spec.exported_annotations)
    return ExportSettings(
        audience=audience,
        draining=bool(draining),
        expected_endpoints=expected,
        probe=probe,
        labels=exported_labels,
        annotations=exported_annotations,
        problems=(*problems, *wrong_labels, *wrong_annotations),
    )


def export_time(export: mcs.ServiceExport, clock_offset: float | None) -> float | None:
    """When the export was created, in seconds since the epoch of the hub's clock; None where nothing says so.

    `clock_offset` is what must be added to the clock of this cluster's API server to get the hub's. It counts
    only until it is recorded on the export; a record copied from another object (its uid differs) does not.
    None: the hub's clock is not known yet; until it is, the export is the youngest, so that it takes nothing
    over that it would have to give back.
    """
    text, _, uid = export.metadata.annotations.get(labels.EXPORTED_AT, "").partition(" ")
    if text and uid and uid == export.metadata.uid:
        recorded = parse_time(text)
        if recorded is not None:
            return recorded
    created = parse_time(export.metadata.creation_timestamp)
    if created is None:
        return None
    return YOUNGEST if clock_offset is None else round(created + clock_offset, 6)


def export_time_record(export: mcs.ServiceExport, created: float) -> dict[str, Any]:
    """The annotation that records `created` on the export, as an object to apply."""
    return {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceExport",
        "metadata": {
            "namespace": export.metadata.namespace,
            "name": export.metadata.name,
            "annotations": {labels.EXPORTED_AT: f"{format_time(created)} {export.metadata.uid}"},
        },
    }


def local_export(
    *,
    cluster: ClusterId,
    export: mcs.ServiceExport,
    service: core.Service | None,
    clock_offset: float | None = 0.0,
) -> Export | Refused:
    """What `cluster` offers by this export, or why it is not valid (the reason of condition Valid)."""
    if service is None:
        name = export.metadata.key
        return Refused(
            reason="NoService", message=f"There is no Service {name}; create it, or delete this export."
        )
    if service.spec.type == "ExternalName":
        return Refused(
            reason="InvalidServiceType",
            message="A Service of type ExternalName has no endpoints and cannot be exported.",
        )
    created = export_time(export, clock_offset)
    if created is None:
        return Refused(
            reason="InvalidTimestamp", message="metadata.creationTimestamp: is not an RFC 3339 time"
        )
    spec = service.spec
    headless = spec.cluster_ip == "None"
    ports = _ports(spec.ports)
    if isinstance(ports, Refused):
        return ports
    settings = export_settings(export)
    offered = Export(
        cluster=cluster,
        key=ServiceKey(export.metadata.namespace, export.metadata.name),
        created=created,
        type=ServiceType.HEADLESS if headless else ServiceType.CLUSTER_SET_IP,
        ports=ports,
        ip_families=_families(spec),
        affinity=None if headless else _affinity(spec),
        internal_traffic_policy=spec.internal_traffic_policy or "Cluster",
        traffic_distribution=spec.traffic_distribution or "",
        publish_not_ready=spec.publish_not_ready_addresses,
        labels=settings.labels,
        annotations=settings.annotations,
        audience=settings.audience,
        draining=settings.draining,
        expected_endpoints=settings.expected_endpoints,
        probe=settings.probe,
    )
    return check_export(offered) or offered


def conditions(
    export: mcs.ServiceExport,
    outcome: Export | Refused,
    *,
    problems: Sequence[str] = (),
    merged: Service | None = None,
    delivery: Delivery = Delivery.PENDING,
    why: str = "",
    left_out: Sequence[Refused] = (),
) -> list[dict[str, Any]]:
    """The conditions of a ServiceExport's status, without their times.

    `merged` is the service as this cluster sees it; Conflict is told only once it counts this very export.
    `left_out` is what of its endpoints no neighbour would believe.
    `delivery` and `why` say whether the hub has it. An export that is not valid is never in conflict.
    """
    told: list[dict[str, Any]] = []

    def tell(kind: str, status: bool, reason: str, message: str) -> None:
        told.append(
            {
                "type": kind,
                "status": "True" if status else "False",
                "reason": reason,
                "message": message[:_MESSAGE_LIMIT],
                "observedGeneration": export.metadata.generation,
            }
        )

    if isinstance(outcome, Refused):
        tell("Valid", False, outcome.reason, outcome.message)
        tell("Ready", False, "Pending", "The export is not valid.")
    else:
        tell("Valid", True, "Valid", "The Service can be exported.")
        message = (
            why
            or {
                Delivery.EXPORTED: _seen_by(outcome),
                Delivery.PENDING: "The hub does not have the export yet.",
                Delivery.FAILED: "The hub does not take the export.",
            }[delivery]
        )
        tell("Ready", delivery is Delivery.EXPORTED, delivery.value, message)
        if merged is not None and any(other.cluster == outcome.cluster for other in merged.exports):
            reasons = ",".join(conflict.reason for conflict in merged.conflicts)
            message = " ".join(conflict.message for conflict in merged.conflicts)
            tell("Conflict", bool(reasons), reasons or "NoConflicts", message or "All exports agree.")
    if left_out:
        message = " ".join(f"{one.count} ({one.reason}): {one.message}." for one in left_out)
        tell("isthmus.dev/EndpointsAccepted", False, left_out[0].reason, f"Not offered: {message}")
    else:
        tell("isthmus.dev/EndpointsAccepted", True, "Accepted", "")
    if problems:
        tell("isthmus.dev/AnnotationsAccepted", False, "InvalidAnnotation", "; ".join(problems))
    else:
        tell("isthmus.dev/AnnotationsAccepted", True, "Accepted", "")
    return told


def _seen_by(offered: Export) -> str:
    if offered.audience is None:
        return "The other clusters can see the Service."
    audience = ", ".join(render_audience(offered.audience, offered.cluster))
    return f"The clusters that {labels.EXPORT_TO} names can import the Service: {audience}."


def export_status(export: mcs.ServiceExport, conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The ServiceExport with these conditions as its status, as an object to apply."""
    return {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceExport",
        "metadata": {"namespace": export.metadata.namespace, "name": export.metadata.name},
        "status": {"conditions": list(conditions)},
    }


def _ports(ports: Sequence[core.ServicePort]) -> tuple[Port, ...] | Refused:
    found: list[Port] = []
    for at, port in enumerate(ports):
        if port.protocol not in Protocol.__members__:
            return Refused(reason="InvalidPorts", message=f"ports[{at}].protocol: must be TCP, UDP or SCTP")
        found.append(
            Port(
                name=port.name,
                protocol=Protocol(port.protocol),
                port=port.port,
                app_protocol=port.app_protocol or "",
            )
        )
    return tuple(sorted(found))


def _families(spec: core.ServiceSpec) -> tuple[AddressFamily, ...]:
    """The Service's families; where an old server does not say them, those of its cluster IPs, else IPv4."""
    told = [AddressFamily(family) for family in spec.ip_families if family in ("IPv4", "IPv6")]
    if not told:
        ips = [ip for ip in spec.cluster_ips or [spec.cluster_ip] if ip not in ("", "None")]
        told = [AddressFamily.IPV6 if ":" in ip else AddressFamily.IPV4 for ip in ips]
    return tuple(dict.fromkeys(told)) or (AddressFamily.IPV4,)


def _affinity(spec: core.ServiceSpec) -> ClientIpAffinity | None:
    if spec.session_affinity != "ClientIP":
        return None
    config = spec.session_affinity_config
    if config is None or config.client_ip is None or config.client_ip.timeout_seconds is None:
        return ClientIpAffinity()
    return ClientIpAffinity(timeout_seconds=config.client_ip.timeout_seconds)
