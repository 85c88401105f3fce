"""What an export may hold, for the cluster that offers it and for those that hear of it.

Both sides apply these rules: an agent never offers what its neighbours would refuse, so all merge alike.
Syntax: Kubernetes' validation of labels, annotations and ports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from isthmus.api import labels as names
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.names import is_dns_label
from isthmus.model.refusal import Refused
from isthmus.model.service import EndpointPort, Export, Port, ServiceType

MAX_PORTS = 100
"""Ports of one exported service."""
MAX_CHUNK = 500
"""Endpoints of one hub object or EndpointSlice."""
MAX_ENDPOINTS = 10_000
"""Endpoints of one cluster under one service."""
MAX_ADDRESSES = 8
"""Addresses of one endpoint."""
MAX_ENTRIES = 64
"""Exported labels, and exported annotations, of one service."""
MAX_ANNOTATION_BYTES = 16_384
"""Keys and values of all exported annotations of one service together."""
MAX_EXPECTED = 1_000_000

Pairs = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_WORD = re.compile(r"[A-Za-z]{0,63}", re.ASCII)
_RESERVED = frozenset(
    {
        "kubernetes.io",
        "kubectl.kubernetes.io",
        "multicluster.kubernetes.io",
        "endpointslice.kubernetes.io",
        "isthmus.dev",
    }
)


def is_label_value(text: str) -> bool:
    """True for a legal value of a Kubernetes label, "" included."""
    return not text or _NAME.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """True for an RFC 1123 subdomain: labels joined by dots, 253 characters at most."""
    return len(text) <= 253 and all(is_dns_label(part) for part in text.split("."))


def exportable_labels(labels: Mapping[str, str]) -> tuple[Pairs, list[str]]:
    """The labels that may be exported, sorted, and in words why the others may not."""
    good, problems = _exportable(labels, "label")
    kept = []
    for key, value in good:
        if is_label_value(value):
            kept.append((key, value))
        else:
            problems.append(f"exported label {_short(key)}: the value is not a legal label value")
    return tuple(kept), problems


def exportable_annotations(annotations: Mapping[str, str]) -> tuple[Pairs, list[str]]:
    """The annotations that may be exported, sorted, and in words why the others may not."""
    good, problems = _exportable(annotations, "annotation")
    size = sum(len(key) + len(value.encode("utf-8", "surrogatepass")) for key, value in good)
    if size > MAX_ANNOTATION_BYTES:
        problems.append(
            f"exported annotations hold {size} bytes, more than {MAX_ANNOTATION_BYTES}: none is exported"
        )
        return (), problems
    return tuple(good), problems


def check_export(export: Export) -> Refused | None:
    """Why this export cannot be offered, None where it can."""
    refused = check_ports(export.ports)
    if refused is not None:
        return refused
    if export.type is ServiceType.CLUSTER_SET_IP and not export.ports:
        return Refused(reason="InvalidPorts", message="ports: a service with a cluster IP needs at least one")
    if not export.ip_families or len(set(export.ip_families)) != len(export.ip_families):
        return Refused(
            reason="InvalidIPFamilies", message="ipFamilies: one or two different families are needed"
        )
    if export.affinity is not None and not 1 <= export.affinity.timeout_seconds <= 86_400:
        return Refused(
            reason="InvalidSessionAffinity",
            message="sessionAffinityConfig.clientIP.timeoutSeconds: must be 1..86400",
        )
    if export.internal_traffic_policy not in ("Cluster", "Local"):
        return Refused(
            reason="InvalidTrafficPolicy", message="internalTrafficPolicy: must be Cluster or Local"
        )
    if not _WORD.fullmatch(export.traffic_distribution):
        return Refused(
            reason="InvalidTrafficDistribution", message="trafficDistribution: must be one word of letters"
        )
    if export.expected_endpoints is not None and not 1 <= export.expected_endpoints <= MAX_EXPECTED:
        return Refused(
            reason="InvalidExpectedEndpoints", message=f"expectedEndpoints: must be 1..{MAX_EXPECTED}"
        )
    return None


def check_ports(ports: Sequence[Port | EndpointPort]) -> Refused | None:
    """Why these ports cannot stand together, None where they can.

    Names and (protocol, port) pairs of a service's ports are unique; of an endpoint's ports the names are
    (two service ports may share one target).
    """
    if len(ports) > MAX_PORTS:
        return Refused(reason="InvalidPorts", message=f"ports: {len(ports)} are more than {MAX_PORTS}")
    named: set[str] = set()
    taken: set[tuple[str, int]] = set()
    for at, port in enumerate(ports):
        field = f"ports[{at}]"
        if port.name and not is_dns_label(port.name):
            return Refused(
                reason="InvalidPorts", message=f"{field}.name: {_short(port.name)} is not a DNS label"
            )
        if not 1 <= port.port <= 65_535:
            return Refused(reason="InvalidPorts", message=f"{field}.port: must be 1..65535")
        if port.name in named:
            return Refused(
                reason="InvalidPorts", message=f"{field}.name: {_short(port.name)} stands there twice"
            )
        named.add(port.name)
        if isinstance(port, EndpointPort):
            continue
        if (port.protocol, port.port) in taken:
            return Refused(
                reason="InvalidPorts",
                message=f"{field}: {port.protocol.value}/{port.port} stands there twice",
            )
        taken.add((port.protocol, port.port))
        if len(port.app_protocol) > 253 or not port.app_protocol.isprintable() or " " in port.app_protocol:
            return Refused(reason="InvalidPorts", message=f"{field}.appProtocol: is not a protocol's name")
    return None


def check_probe(check: HealthCheck) -> Refused | None:
    """Why a cluster may not ask for this check, None where it may (it is the others that would do it)."""
    wrong = ""
    if check.path and (not check.path.startswith("/") or len(check.path) > 1024):
        wrong = "path: must begin with / and have at most 1024 characters"
    elif any(not "!" <= char <= "~" for char in check.path):
        wrong = "path: must be printable ASCII without spaces"
    elif check.path and check.protocol not in (None, CheckProtocol.HTTP, CheckProtocol.HTTPS):
        wrong = f"path: has no meaning with protocol {check.protocol}"
    elif check.port is not None and check.protocol is CheckProtocol.ICMP:
        wrong = "port: has no meaning with protocol ICMP"
    elif check.port is not None and not 1 <= check.port <= 65_535:
        wrong = "port: must be 1..65535"
    elif not 0.1 <= check.interval <= 300:
        wrong = "interval: must be 100ms..5m"
    elif not 0.01 <= check.timeout <= 60:
        wrong = "timeout: must be 10ms..1m"
    elif not (1 <= check.rise <= 10 and 1 <= check.fall <= 10):
        wrong = "rise, fall: must be 1..10"
    return Refused(reason="InvalidProbe", message=f"probe.{wrong}") if wrong else None


def _exportable(pairs: Mapping[str, str], what: str) -> tuple[list[tuple[str, str]], list[str]]:
    good: list[tuple[str, str]] = []
    problems: list[str] = []
    for key in sorted(pairs):
        prefix, slash, name = key.rpartition("/")
        if not _NAME.fullmatch(name) or (slash and not is_subdomain(prefix)):
            problems.append(f"exported {what} {_short(key)}: the key is not legal in Kubernetes")
        elif prefix in _RESERVED or prefix.endswith(".isthmus.dev") or key == names.MANAGED_BY:
            problems.append(f"exported {what} {_short(key)}: the key is reserved")
        elif len(good) == MAX_ENTRIES:
            problems.append(f"exported {what}s: only the first {MAX_ENTRIES} are exported")
            break
        else:
            good.append((key, pairs[key]))
    return good, problems[:MAX_ENTRIES]


def _short(text: str) -> str:
    """The text quoted, cut to what fits a condition."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
