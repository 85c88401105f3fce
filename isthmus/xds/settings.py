"""Whether clients would take what is rendered from a policy's settings, judged before anything is sent.

All that a person can get wrong in a resource comes from the settings; names, ports and addresses were checked
at the border. So one sample of each resource is rendered from them and held against the API's own rules
(`validation`). Invariant: settings that pass give resources that pass, for every service and every plan.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from isthmus.model.names import ServiceKey
from isthmus.model.policy import DoorSettings
from isthmus.model.refusal import Refused
from isthmus.model.service import Port, Protocol
from isthmus.xds import envoy, grpc
from isthmus.xds.envoy.readable import message_of
from isthmus.xds.rows import ResourceType
from isthmus.xds.validation import violations

REASON = "RejectedByProxies"
_SERVICE = ServiceKey("sample", "sample")
_PORTS = tuple(
    Port(name=name, protocol=Protocol.TCP, port=80, app_protocol=speaks)
    for name, speaks in (("http", "http"), ("h2c", "kubernetes.io/h2c"), ("grpc", "grpc"), ("tcp", "tcp"))
)
_FIELDS = {
    "outlier": "spec.outlierDetection",
    "retry": "spec.retry",
    "timeout": "spec.timeout",
    "circuit_breaker": "spec.circuitBreaker",
    "affinity": "spec.sessionAffinity",
    "slow_start": "spec.slowStart",
}


@functools.lru_cache(maxsize=1024)
def refusal(doors: DoorSettings) -> Refused | None:
    """Why clients would refuse resources with these settings: the policy's field, and theirs with its rule.

    None where they would take them.
    """
    complaints = _complaints(doors)
    if not complaints:
        return None
    plain = DoorSettings()
    for name, path in _FIELDS.items():
        alone = dataclasses.replace(plain, **{name: getattr(doors, name)})
        if found := _complaints(alone):
            return Refused(reason=REASON, message=f"{path}: {'; '.join(found)}")
    return Refused(reason=REASON, message=f"spec: {'; '.join(complaints)}")


def samples(doors: DoorSettings) -> Iterator[tuple[str, ResourceType, bytes]]:
    """One resource of each sort that these settings lead to, with whom it is for."""
    for port in _PORTS:
        yield "Envoy", ResourceType.CDS, envoy.cluster(_SERVICE, port, doors)
    hosts = envoy.virtual_host(_SERVICE, _PORTS[:1], doors)
    yield "Envoy", ResourceType.RDS, envoy.route_configuration([hosts])
    yield "gRPC", ResourceType.CDS, grpc.cluster(_SERVICE, _PORTS[2], doors)
    yield "gRPC", ResourceType.RDS, grpc.route_configuration(_SERVICE, _PORTS[2], doors)


def _complaints(doors: DoorSettings) -> list[str]:
    """In words, each once, in the order of resources."""
    found: dict[str, None] = {}
    try:
        for client, kind, resource in samples(doors):
            for violation in violations(message_of(kind, resource)):
                field = violation.path.rpartition("].")[2] or violation.path
                found.setdefault(f"{client} says that {field} must {violation.rule}")
    except (ValueError, TypeError) as error:
        found.setdefault(f"no resource can hold it: {error}")
    return list(found)
