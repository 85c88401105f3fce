"""ServiceImport and its derived Service: a merged service as the callers of one cluster find it.

A ServiceImport stands in every cluster that has the namespace, for as long as one export is valid. A derived
Service without selector gives it the clusterset IPs, and kube-proxy serves them. They are stable for the
import's life: the derived Service never loses a family (Kubernetes would want it made anew), and where it was
deleted it is made again with the addresses that the import has. Only fields that Isthmus owns are rendered; a
user's Service is never touched: the derived one has a name of its own (KEP-1645; the name's form is that of
the reference implementation).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from isthmus.api import labels, mcs
from isthmus.model.names import ServiceKey
from isthmus.model.service import AddressFamily, Service, ServiceType

BOTH_FAMILIES = (AddressFamily.IPV4, AddressFamily.IPV6)

_HEADING = {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport"}
_PLAIN = "PreferClose"
_DISTRIBUTIONS = frozenset({_PLAIN, "PreferSameZone", "PreferSameNode"})


@lru_cache(maxsize=16_384)
def derived_name(key: ServiceKey) -> str:
    """Name of the derived Service: `derived-` and ten characters of the hash of `namespace/name`."""
    digest = hashlib.sha256(str(key).encode()).digest()
    return "derived-" + base64.b32hexencode(digest).decode().rstrip("=").lower()[:10]


def usable_families(service: Service, supported: Sequence[AddressFamily]) -> tuple[AddressFamily, ...]:
    """The service's families that this cluster has, in the service's order."""
    return tuple(family for family in service.ip_families if family in supported)


def service_import(
    service: Service, ips: Sequence[str] = (), *, supported: Sequence[AddressFamily] = BOTH_FAMILIES
) -> dict[str, Any]:
    """The ServiceImport to apply; `ips` are the derived Service's, `supported` are this cluster's families.

    `ips` and `ipFamilies` have the same order; `ips` is empty when headless or not yet allocated.
    """
    families = usable_families(service, supported) or service.ip_families
    spec: dict[str, Any] = {
        "type": service.type.value,
        "ports": [
            _import_port(port.name, port.protocol.value, port.port, port.app_protocol)
            for port in service.ports
        ],
        "ips": _ordered_ips(service, ips, families),
        "ipFamilies": [family.value for family in families],
        "internalTrafficPolicy": service.internal_traffic_policy,
        **_affinity(service),
    }
    if service.traffic_distribution:
        spec["trafficDistribution"] = service.traffic_distribution
    annotations = dict(service.annotations)
    if service.type is ServiceType.CLUSTER_SET_IP:
        annotations[labels.DERIVED_SERVICE] = derived_name(service.key)
    return {
        **_HEADING,
        "metadata": {
            "namespace": service.key.namespace,
            "name": service.key.name,
            "labels": {**dict(service.labels), labels.MANAGED_BY: labels.MANAGER},
            "annotations": annotations,
        },
        "spec": spec,
    }


def service_import_status(
    service: Service,
    ips: Sequence[str] = (),
    *,
    supported: Sequence[AddressFamily] = BOTH_FAMILIES,
    slices_present: bool,
    generation: int = 0,
    problem: str = "",
) -> dict[str, Any]:
    """The ServiceImport's status to apply, conditions without their times.

    `ips` are those that the derived Service has now, `problem` is why it has none where that is known.
    `slices_present`: imported EndpointSlices are written in this cluster. `generation` is the import's own.
    """
    families = usable_families(service, supported)
    ready, reason, message = "True", "Ready", "The service can be called."
    if not families:
        offered = ", ".join(family.value for family in service.ip_families)
        ready, reason = "False", "IPFamilyNotSupported"
        message = f"The service speaks {offered}, which this cluster does not."
    elif service.type is ServiceType.CLUSTER_SET_IP and len(_ordered_ips(service, ips, families)) < len(
        families
    ):
        ready, reason = "False", "Pending"
        message = problem or "The clusterset IPs are not allocated yet."
    return {
        **_HEADING,
        "metadata": {"namespace": service.key.namespace, "name": service.key.name},
        "status": {
            "clusters": [
                {"cluster": cluster} for cluster in sorted(export.cluster for export in service.exports)
            ],
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": reason,
                    "message": message,
                    "observedGeneration": generation,
                }
            ],
            "endpointSliceObjects": "Present" if slices_present else "Absent",
        },
    }


def derived_service(
    service: Service,
    owner_uid: str,
    *,
    supported: Sequence[AddressFamily] = BOTH_FAMILIES,
    ips: Sequence[str] = (),
) -> dict[str, Any] | None:
    """The derived Service to apply, owned by the ServiceImport of that uid.

    `ips` are the clusterset IPs it has or had; their families stay, in their order, and others only follow.
    None for a headless service, and where this cluster has none of its address families and never had.
    """
    held = tuple(AddressFamily.IPV6 if ":" in ip else AddressFamily.IPV4 for ip in ips)
    families = tuple(dict.fromkeys((*held, *usable_families(service, supported))))
    if service.type is ServiceType.HEADLESS or not families:
        return None
    spec: dict[str, Any] = {
        "type": "ClusterIP",
        "ports": [
            {
                **_import_port(port.given_name, port.protocol.value, port.port, port.app_protocol),
                "targetPort": port.port,
            }
            for port in service.ports
        ],
        "ipFamilies": [family.value for family in families],
        "ipFamilyPolicy": "PreferDualStack" if len(families) > 1 else "SingleStack",
        "internalTrafficPolicy": service.internal_traffic_policy,
        **_affinity(service),
    }
    if service.traffic_distribution in _DISTRIBUTIONS:
        spec["trafficDistribution"] = service.traffic_distribution
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": service.key.namespace,
            "name": derived_name(service.key),
            "labels": {labels.MANAGED_BY: labels.MANAGER},
            "ownerReferences": [import_owner(service.key, owner_uid)],
        },
        "spec": spec,
    }


def with_addresses(derived: dict[str, Any], ips: Sequence[str]) -> dict[str, Any]:
    """The derived Service to create where it was lost: with the addresses that the import has of it."""
    if not ips:
        return derived
    return {**derived, "spec": {**derived["spec"], "clusterIP": ips[0], "clusterIPs": list(ips)}}


def plainer(wanted: dict[str, Any]) -> dict[str, Any]:
    """A derived Service in words that servers before 1.34 know; any other object as it is.

    They refuse newer traffic distributions. `PreferClose` is nearest to those, and who is near stands in the
    slices' hints anyway.
    """
    spec = wanted.get("spec") or {}
    if wanted["kind"] != "Service" or spec.get("trafficDistribution", _PLAIN) == _PLAIN:
        return wanted
    return {**wanted, "spec": {**spec, "trafficDistribution": _PLAIN}}


def holder(found: mcs.ServiceImport | None) -> str:
    """Who made an import that is not ours, as far as it says so; "" where there is none, or it is ours."""
    if found is None:
        return ""
    told = found.metadata.labels.get(labels.MANAGED_BY)
    if told is not None:
        return "" if told == labels.MANAGER else told
    owners = [f"{owner.kind} {owner.name}" for owner in found.metadata.owner_references]
    managers = [entry.manager for entry in found.metadata.managed_fields if not entry.subresource]
    return next((name for name in (*owners, *managers) if name), "somebody")


def import_owner(key: ServiceKey, uid: str) -> dict[str, str]:
    """The owner reference to the ServiceImport `key` of that uid."""
    return {**_HEADING, "name": key.name, "uid": uid}


def _import_port(name: str, protocol: str, port: int, app_protocol: str) -> dict[str, Any]:
    rendered: dict[str, Any] = {"protocol": protocol, "port": port}
    if name:
        rendered["name"] = name
    if app_protocol:
        rendered["appProtocol"] = app_protocol
    return rendered


def _affinity(service: Service) -> dict[str, Any]:
    if service.affinity is None:
        return {"sessionAffinity": "None"}
    return {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": service.affinity.timeout_seconds}},
    }


def _ordered_ips(service: Service, ips: Sequence[str], families: Sequence[AddressFamily]) -> list[str]:
    """One address for each family, in the families' order; none where the service is headless."""
    if service.type is ServiceType.HEADLESS:
        return []
    by_family: dict[AddressFamily, str] = {}
    for ip in ips:
        by_family.setdefault(AddressFamily.IPV6 if ":" in ip else AddressFamily.IPV4, ip)
    return [by_family[family] for family in families if family in by_family]
