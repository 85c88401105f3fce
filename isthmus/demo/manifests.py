"""Reading people's Kubernetes manifests: Services, what stands behind them, exports and policies.

Every complaint names file, document and line. Documents are read one by one, so that with `lenient` a bad one
costs only itself. Kinds that Kubernetes knows and the demo has no use for are passed over in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isthmus.api import core
from isthmus.errors import ConfigError

MAX_FILE_BYTES = 16 << 20
MAX_REPLICAS = 1_000
WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"})
PASSED_OVER = frozenset(
    [
        "Namespace",
        "ServiceAccount",
        "ConfigMap",
        "Secret",
        "Pod",
        "Job",
        "CronJob",
        "Ingress",
        "IngressClass",
        "NetworkPolicy",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "PersistentVolume",
        "StorageClass",
        "PersistentVolumeClaim",
        "PriorityClass",
        "LimitRange",
        "ResourceQuota",
        "CustomResourceDefinition",
        "Endpoints",
        "EndpointSlice",
        "Gateway",
        "HTTPRoute",
        "GRPCRoute",
        "ServiceImport",
    ]
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a time stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One object of a file; `number` counts documents from 1, `line` is where it begins."""

    file: str
    number: int
    line: int
    body: dict[str, Any]
    node: yaml.Node

    @property
    def place(self) -> str:
        return f"{self.file}: document {self.number}, line {self.line}"

    def place_of(self, path: str) -> str:
        """The place of a field given as `$.spec.ports[0].port`, or of its nearest parent that is written."""
        node, line = self.node, self.line
        for step in re.findall(r"[^.\[\]$]+", path):
            child: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                child = next((value for key, value in node.value if key.value == step), None)
            elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
                child = node.value[int(step)]
            if child is None:
                break
            node, line = child, self.line + child.start_mark.line - self.node.start_mark.line
        return f"{self.file}: document {self.number}, line {line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What runs the pods of a Service: a Deployment or its like. `ports`: named container ports."""

    kind: str
    namespace: str
    name: str
    replicas: int
    labels: Mapping[str, str]
    ports: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class Manifests:
    """What was found. `complaints` is not empty only when reading was lenient."""

    services: list[tuple[core.Service, dict[str, Any]]] = field(default_factory=list)
    """Each Service typed and as written."""
    workloads: list[Workload] = field(default_factory=list)
    exports: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def read_manifests(path: Path, *, lenient: bool = False) -> Manifests:
    """Read a file or all .yaml, .yml and .json files under a folder.

    Raises ConfigError at the first document that is not YAML, not Kubernetes, of an unknown kind or malformed
    (with `lenient` it is noted in `complaints` instead), and where no Service is found at all.
    """
    found = Manifests()
    for file in _files(path):
        for document in _documents(file):
            try:
                if isinstance(document, ConfigError):
                    raise document
                _take(document, found)
            except ConfigError as error:
                if not lenient:
                    raise
                found.complaints.append(str(error))
    return found


def documents(path: Path) -> Iterator[Document]:
    """All documents of a file or folder, of any kind; raises ConfigError at one that is not Kubernetes."""
    for file in _files(path):
        for document in _documents(file):
            if isinstance(document, ConfigError):
                raise document
            yield document


def require_services(found: Manifests, path: Path) -> None:
    """Raise ConfigError where the manifests hold no Service."""
    if not found.services:
        raise ConfigError(
            f"{path}: holds 0 Services, so there is nothing to schedule; give manifests with a Service"
        )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json") and p.is_file())
        if not files:
            raise ConfigError(f"{path}: no .yaml, .yml or .json file in this folder")
        return files
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    return [path]


def _documents(file: Path) -> Iterator[Document | ConfigError]:
    """The documents of a file in order; one that cannot be read comes as the error that says so."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES >> 20} MB")
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    number = 0
    for first, chunk in _split(text):
        if all(not line.strip() or line.lstrip().startswith(("#", "%")) for line in chunk.split("\n")):
            continue
        number += 1
        yield from _read_one(str(file), number, first, chunk)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Cut at document markers; (number of the first line, text with the marker blanked)."""
    chunk: list[str] = []
    start = 1
    for number, line in enumerate(text.split("\n"), start=1):
        if re.match(r"(---|\.\.\.)(\s|$)", line):
            yield start, "\n".join(chunk)
            chunk, start = [], number
            line = "   " + line[3:]
        chunk.append(line.removesuffix("\r"))
    yield start, "\n".join(chunk)


def _read_one(file: str, number: int, first: int, chunk: str) -> Iterator[Document | ConfigError]:
    place = f"{file}: document {number}"
    try:
        loader = _Loader(chunk)
        node = loader.get_single_node()
        body = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = first + (mark.line if mark is not None else 0)
        yield ConfigError(
            f"{place}, line {line}: not YAML: {getattr(error, 'problem', None) or 'unreadable'}"
        )
        return
    except (RecursionError, ValueError, TypeError) as error:
        yield ConfigError(f"{place}, line {first}: not YAML: {error}")
        return
    if node is None:
        return
    line = first + node.start_mark.line
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str) or "apiVersion" not in body:
        yield ConfigError(f"{place}, line {line}: not a Kubernetes object: it has no apiVersion and kind")
        return
    if body["kind"] == "List" and isinstance(body.get("items"), list):
        items = next(value for key, value in node.value if key.value == "items")
        for item, item_node in zip(body["items"], items.value, strict=True):
            item_line = first + item_node.start_mark.line
            if isinstance(item, dict) and isinstance(item.get("kind"), str):
                yield Document(file=file, number=number, line=item_line, body=_pruned(item), node=item_node)
            else:
                yield ConfigError(f"{place}, line {item_line}: not a Kubernetes object: it has no kind")
        return
    yield Document(file=file, number=number, line=line, body=_pruned(body), node=node)


def _pruned(value: Any) -> Any:
    """Without nulls, which mean the same as absence."""
    if isinstance(value, dict):
        return {str(key): _pruned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_pruned(item) for item in value if item is not None]
    return value


def _take(document: Document, found: Manifests) -> None:
    kind = document.body["kind"]
    if kind == "Service":
        service = _service(document)
        if any(service.metadata.key == other.metadata.key for other, _ in found.services):
            raise ConfigError(f"{document.place}: Service {service.metadata.key} is given a second time")
        found.services.append((service, document.body))
    elif kind in WORKLOADS:
        found.workloads.append(_workload(document))
    elif kind == "ServiceExport":
        _named(document)
        found.exports.append(document.body)
    elif kind == "GlobalTrafficPolicy":
        _named(document)
        found.policies.append(document.body)
    elif kind not in PASSED_OVER:
        raise ConfigError(f"{document.place}: kind {kind!r} is not known here (--lenient goes on without it)")


def _named(document: Document) -> None:
    metadata = document.body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        where = document.place_of("$.metadata.name")
        raise ConfigError(
            f"{where}: metadata.name of this {document.body['kind']} is {name!r}, not a DNS label"
        )
    namespace = metadata.setdefault("namespace", "default") if isinstance(metadata, dict) else None
    if not isinstance(namespace, str) or not _NAME.fullmatch(namespace):
        where = document.place_of("$.metadata.namespace")
        raise ConfigError(f"{where}: metadata.namespace is {namespace!r}, not a DNS label")


def _service(document: Document) -> core.Service:
    _named(document)
    try:
        service = msgspec.convert(document.body, core.Service)
    except msgspec.ValidationError as error:
        text = str(error)
        path = text.rpartition("`$")[2].rstrip("`") if "`$" in text else ""
        raise ConfigError(f"{document.place_of(path)}: Service: {text}") from error
    for index, port in enumerate(service.spec.ports):
        if not 1 <= port.port <= 65_535:
            where = document.place_of(f"$.spec.ports[{index}].port")
            raise ConfigError(
                f"{where}: Service {service.metadata.name}: port {port.port} is not in 1..65535"
            )
    if not service.spec.ports and service.spec.cluster_ip != "None" and service.spec.type != "ExternalName":
        raise ConfigError(
            f"{document.place_of('$.spec')}: Service {service.metadata.name}: spec.ports is required"
        )
    return service


def _workload(document: Document) -> Workload:
    _named(document)
    body = document.body
    try:
        template = body["spec"]["template"]
        labels = {str(k): str(v) for k, v in template.get("metadata", {}).get("labels", {}).items()}
        replicas = int(body["spec"].get("replicas", 2))
        ports = {
            str(port["name"]): int(port["containerPort"])
            for container in template["spec"].get("containers", ())
            for port in container.get("ports", ())
            if "name" in port
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{document.place}: {body['kind']} {body['metadata']['name']}: its pod template cannot be read "
            f"({type(error).__name__}: {error})"
        ) from error
    if not 0 <= replicas <= MAX_REPLICAS:
        where = document.place_of("$.spec.replicas")
        raise ConfigError(f"{where}: {replicas} replicas: the demo runs 0 to {MAX_REPLICAS}")
    return Workload(
        kind=body["kind"],
        namespace=body["metadata"]["namespace"],
        name=body["metadata"]["name"],
        replicas=replicas,
        labels=labels,
        ports=ports,
    )
