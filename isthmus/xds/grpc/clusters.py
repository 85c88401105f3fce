"""A service port as a Cluster and its assignment, as gRPC libraries read them (gRFC A27, A32, A42)."""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2

from isthmus.model.names import ServiceKey
from isthmus.model.plan import Plan
from isthmus.model.policy import DoorSettings
from isthmus.model.service import AddressFamily, Port
from isthmus.xds.assignment import IPV4_FIRST, assignment
from isthmus.xds.envoy.extension import over_ads
from isthmus.xds.rows import resource_name


def cluster(service: ServiceKey, port: Port, doors: DoorSettings) -> bytes:
    """The serialised cluster of a service port.

    Round robin is weighted by locality there. A header decides by a ring over all localities of a priority.
    Of the limits only that of concurrent requests is known to gRPC; others would be ignored.
    """
    found = cluster_pb2.Cluster(name=resource_name(service, port.port), type=cluster_pb2.Cluster.EDS)
    found.eds_cluster_config.eds_config.CopyFrom(over_ads())
    by_header = doors.affinity is not None and doors.affinity.header
    found.lb_policy = cluster_pb2.Cluster.RING_HASH if by_header else cluster_pb2.Cluster.ROUND_ROBIN
    if doors.circuit_breaker is not None and doors.circuit_breaker.max_requests:
        limits = found.circuit_breakers.thresholds.add(priority=base_pb2.DEFAULT)
        limits.max_requests.value = doors.circuit_breaker.max_requests
    return bytes(found.SerializeToString(deterministic=True))


def load_assignment(plan: Plan, families: Sequence[AddressFamily] = IPV4_FIRST) -> bytes:
    """The serialised assignment of a service port; see `assignment`.

    Without what drains: gRPC would not send anything there, nor find an old session again.
    """
    return assignment(plan, families)
