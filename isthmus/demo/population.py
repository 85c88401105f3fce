"""What lives in each cluster: pods behind the Services, and the objects that Kubernetes would hold for them.

Pure: the same manifests give the same pods, addresses and objects. EndpointSlices are filled as the slice
controller would: one set of slices per set of target ports, at most 100 endpoints each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.api import core
from isthmus.demo.backend import Speech
from isthmus.demo.manifests import Manifests, Workload
from isthmus.demo.world import Member

EXPORT_ANNOTATION = "isthmus.dev/export"
ENDPOINTS_PER_SLICE = 100
DEFAULT_REPLICAS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    namespace: str
    name: str
    address: str
    node: str
    zone: str
    hostname: str
    workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An address and port that the backend serves."""

    address: str
    port: int
    speech: Speech
    pod: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoService:
    """A Service of the demo as its callers see it. `http_port` is None where no port speaks HTTP.

    `speech` is what all of its TCP ports answer, "echo" where they differ.
    """

    namespace: str
    name: str
    headless: bool
    exported: bool
    http_port: int | None
    ports: tuple[int, ...]
    speech: Speech = "echo"

    @property
    def authority(self) -> str:
        """What a caller writes as host, without a port."""
        return f"{self.name}.{self.namespace}.svc.clusterset.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Everything of one cluster. `objects` are (kind, object) in the order they can be created."""

    member: Member
    pods: tuple[Pod, ...]
    listeners: tuple[Listener, ...]
    objects: tuple[tuple[str, dict[str, Any]], ...]
    spare: str
    """Address of a pod that listens like the first pod of the first HTTP service and is in no slice yet."""


def speaks_http(port: core.ServicePort) -> bool:
    """Whether callers talk HTTP to this port (by appProtocol, else name, else number 80)."""
    if port.protocol != "TCP":
        return False
    if port.app_protocol is not None:
        return port.app_protocol in ("http", "kubernetes.io/h2c", "kubernetes.io/ws", "grpc")
    head = port.name.partition("-")[0]
    return head in ("http", "http2", "grpc") or (not port.name and port.port == 80)


def speech(port: core.ServicePort) -> Speech:
    """What pods answer at this port (by appProtocol, else name, else number)."""
    if port.protocol != "TCP":
        return "echo"
    head = port.app_protocol if port.app_protocol is not None else port.name.partition("-")[0]
    if head == "https" or (not head and port.port == 443):
        return "https"
    if head == "grpc":
        return "grpc"
    return "http" if speaks_http(port) else "echo"


def services(found: Manifests, *, export_all: bool) -> tuple[DemoService, ...]:
    """The Services in order; exported are those annotated so, those with a ServiceExport, or all."""
    exports = {(e["metadata"]["namespace"], e["metadata"]["name"]) for e in found.exports}
    return tuple(
        DemoService(
            namespace=service.metadata.namespace,
            name=service.metadata.name,
            headless=service.spec.cluster_ip == "None",
            exported=service.spec.type != "ExternalName"
            and (
                export_all
                or (service.metadata.namespace, service.metadata.name) in exports
                or service.metadata.annotations.get(EXPORT_ANNOTATION) == "true"
            ),
            http_port=next((p.port for p in service.spec.ports if speaks_http(p)), None),
            ports=tuple(p.port for p in service.spec.ports),
            speech=_common({speech(p) for p in service.spec.ports if p.protocol == "TCP"}),
        )
        for service, _ in found.services
    )


def _common(found: set[Speech]) -> Speech:
    return next(iter(found)) if len(found) == 1 else "echo"


def populate(member: Member, found: Manifests, *, export_all: bool) -> Population:
    """The pods, listeners and objects of one cluster; ValueError when it has no room for the pods."""
    fleets = _fleets(member, found)
    listeners: dict[tuple[str, int], Listener] = {}
    objects = [*_places(member, found)]
    spare = member.pod_address(sum(len(pods) for pods in fleets.values()))
    demo_services = services(found, export_all=export_all)
    spare_used = False
    for (service, raw), summary in zip(found.services, demo_services, strict=True):
        behind: list[tuple[Workload | None, tuple[Pod, ...]]] = [
            (workload, fleets[_workload_key(workload)]) for workload in _selected(service, found)
        ]
        if service.spec.selector and not behind:
            behind = [(None, fleets[("Service", service.metadata.namespace, service.metadata.name)])]
        backing = [(pod, _targets(service, workload)) for workload, pods in behind for pod in pods]
        for pod, targets in backing:
            for port, number in targets:
                if port.protocol == "TCP":
                    key = (pod.address, number)
                    said = speech(port)
                    if said == "echo" and key in listeners:
                        said = listeners[key].speech
                    listeners[key] = Listener(address=pod.address, port=number, speech=said, pod=pod.name)
        if backing and summary.exported and summary.http_port and not summary.headless and not spare_used:
            spare_used = True
            for port, number in backing[0][1]:
                if port.protocol == "TCP":
                    listeners[spare, number] = Listener(
                        address=spare,
                        port=number,
                        speech=speech(port),
                        pod=f"{service.metadata.name}-spare",
                    )
        objects.append(("Service", _service_object(raw)))
        objects.extend(("EndpointSlice", s) for s in _slices(service, backing))
        if summary.exported:
            objects.append(("ServiceExport", _export(summary, found.exports)))
    return Population(
        member=member,
        pods=tuple(pod for pods in fleets.values() for pod in pods),
        listeners=tuple(listeners.values()),
        objects=tuple(objects),
        spare=spare,
    )


def _places(member: Member, found: Manifests) -> Iterator[tuple[str, dict[str, Any]]]:
    for node, zone in member.nodes:
        labels = {
            "kubernetes.io/hostname": node,
            "topology.kubernetes.io/region": member.region,
            "topology.kubernetes.io/zone": zone,
        }
        yield "Node", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}}
    spaces = {service.metadata.namespace for service, _ in found.services}
    spaces |= {policy["metadata"]["namespace"] for policy in found.policies}
    for space in sorted(spaces - {"default"}):
        yield "Namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}


def _workload_key(workload: Workload) -> tuple[str, str, str]:
    return workload.kind, workload.namespace, workload.name


def _selected(service: core.Service, found: Manifests) -> list[Workload]:
    selector = service.spec.selector.items()
    if not selector:
        return []
    return [
        w
        for w in found.workloads
        if w.namespace == service.metadata.namespace and all(w.labels.get(k) == v for k, v in selector)
    ]


def _fleets(member: Member, found: Manifests) -> dict[tuple[str, str, str], tuple[Pod, ...]]:
    """The pods of every workload that a Service selects, and of every Service that selects none of them."""
    wanted: dict[tuple[str, str, str], tuple[str, int]] = {}
    for service, _ in found.services:
        behind = _selected(service, found)
        for workload in behind:
            wanted[_workload_key(workload)] = (workload.kind, workload.replicas)
        if service.spec.selector and not behind:
            wanted["Service", service.metadata.namespace, service.metadata.name] = ("", DEFAULT_REPLICAS)
    fleets: dict[tuple[str, str, str], tuple[Pod, ...]] = {}
    number = 0
    for key, (kind, replicas) in wanted.items():
        pods = []
        for ordinal in range(replicas):
            node, zone = member.nodes[ordinal % len(member.nodes)]
            stateful = kind == "StatefulSet"
            name = (
                f"{key[2]}-{ordinal}" if stateful else f"{key[2]}-{_letters(member.name, *key, str(ordinal))}"
            )
            pods.append(
                Pod(
                    namespace=key[1],
                    name=name,
                    address=member.pod_address(number),
                    node=node,
                    zone=zone,
                    hostname=name if stateful else "",
                    workload=key[2],
                )
            )
            number += 1
        fleets[key] = tuple(pods)
    return fleets


def _letters(*parts: str) -> str:
    return hashlib.blake2b("/".join(parts).encode(), digest_size=3).hexdigest()[:5]


def _targets(service: core.Service, workload: Workload | None) -> tuple[tuple[core.ServicePort, int], ...]:
    """Each port with the number its pods listen on; one whose name nobody knows is left out."""
    named: Mapping[str, int] = workload.ports if workload is not None else {}
    found = []
    for port in service.spec.ports:
        target = port.port if port.target_port is None else port.target_port
        if isinstance(target, str):
            number = named.get(target) if workload is not None else port.port
        else:
            number = target
        if number is not None and 1 <= number <= 65_535:
            found.append((port, number))
    return tuple(found)


def _service_object(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The Service as the user wrote it, without what another cluster once assigned to it."""
    spec = {
        key: value
        for key, value in raw["spec"].items()
        if key not in ("clusterIP", "clusterIPs", "healthCheckNodePort") or value in ("None", ["None"])
    }
    kept = ("name", "namespace", "labels", "annotations")
    metadata = {key: value for key, value in raw["metadata"].items() if key in kept}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _slices(
    service: core.Service, backing: Sequence[tuple[Pod, tuple[tuple[core.ServicePort, int], ...]]]
) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[int, ...], list[tuple[Pod, tuple[tuple[core.ServicePort, int], ...]]]] = {}
    for pod, targets in backing:
        groups.setdefault(tuple(number for _, number in targets), []).append((pod, targets))
    meta = service.metadata
    for numbers, members in groups.items():
        for start in range(0, len(members), ENDPOINTS_PER_SLICE):
            name = f"{meta.name}-{_letters(meta.namespace, meta.name, str(numbers), str(start))}"
            yield {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": name,
                    "namespace": meta.namespace,
                    "labels": {
                        "kubernetes.io/service-name": meta.name,
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    },
                },
                "addressType": "IPv4",
                "ports": [_slice_port(port, number) for port, number in members[0][1]],
                "endpoints": [slice_endpoint(pod) for pod, _ in members[start : start + ENDPOINTS_PER_SLICE]],
            }


def _slice_port(port: core.ServicePort, number: int) -> dict[str, Any]:
    body: dict[str, Any] = {"name": port.name, "protocol": port.protocol, "port": number}
    if port.app_protocol is not None:
        body["appProtocol"] = port.app_protocol
    return body


def slice_endpoint(pod: Pod) -> dict[str, Any]:
    """A ready endpoint of an EndpointSlice for the pod."""
    body: dict[str, Any] = {
        "addresses": [pod.address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": pod.node,
        "zone": pod.zone,
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name},
    }
    if pod.hostname:
        body["hostname"] = pod.hostname
    return body


def _export(service: DemoService, written: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": service.name, "namespace": service.namespace}
    for export in written:
        if (export["metadata"]["namespace"], export["metadata"]["name"]) == (service.namespace, service.name):
            for key in ("labels", "annotations"):
                if key in export["metadata"]:
                    metadata[key] = export["metadata"][key]
            return {**export, "metadata": metadata}
    return {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": metadata}
