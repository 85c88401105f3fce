"""A service port as a Cluster: how Envoy connects, spreads and gives up on its own.

The assignment decides who gets what; this resource holds what is true of the port at every vantage, so that
health and weights never touch it (a changed cluster has to warm up again). Times that matter for a silent
death: a new connection is given up after CONNECT_SECONDS, an established one after UNACKNOWLEDGED_SECONDS
without a single TCP acknowledgement, however slow the application behind it may be.
"""

from __future__ import annotations

import socket

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import base_pb2, health_check_pb2, socket_option_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from isthmus.model.names import ServiceKey
from isthmus.model.policy import CircuitBreaker, DoorSettings, OutlierDetection
from isthmus.model.service import Port
from isthmus.xds.appprotocol import AppProtocol, app_protocol
from isthmus.xds.envoy.extension import extension, over_ads, packed
from isthmus.xds.rows import resource_name

CONNECT_SECONDS = 0.25
FIRST_ASSIGNMENT_SECONDS = 2.0
UNACKNOWLEDGED_SECONDS = 1.0
IDLE_SECONDS = 4.0
"""Common servers close idle connections after 5 s; a request that crosses such a close on its way is lost."""
RAISED_LIMIT = 65_536
RETRY_BUDGET_PERCENT = 100.0
RETRIES_AT_LEAST = 1024
"""Retries at a time, of the requests at a time, but never fewer than so many. Requests that wait for their
retry do not count as requests there: when a whole tier dies, all that were on their way to it retry at once
beside next to none, so it is this number that decides (decision 7)."""
LOCAL_FAILURES = 5
"""Failed connections in a row that eject a host. Envoy counts a hedged request like one, and any new stream
ends the row: with lower numbers hosts that are merely slow would be ejected often."""
PANIC_PERCENT = 1
"""With every host of every priority ejected, ejections are ignored. Only they can bring that about: an
assignment calls everything healthy. At 0 Envoy would answer 503, to requests in flight that it hedges too."""
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(service: ServiceKey, port: Port, doors: DoorSettings) -> bytes:
    """The serialised cluster of a service port, TCP and HTTP alike."""
    name = resource_name(service, port.port)
    found = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, ignore_health_on_host_removal=True)
    found.eds_cluster_config.eds_config.CopyFrom(over_ads(FIRST_ASSIGNMENT_SECONDS))
    found.connect_timeout.FromNanoseconds(round(CONNECT_SECONDS * 1e9))
    found.common_lb_config.healthy_panic_threshold.value = PANIC_PERCENT
    found.load_balancing_policy.policies.add().typed_extension_config.CopyFrom(_balancing(doors))
    if doors.affinity is not None:
        found.common_lb_config.override_host_status.statuses.extend(
            [
                health_check_pb2.UNKNOWN,
                health_check_pb2.HEALTHY,
                health_check_pb2.DEGRADED,
                health_check_pb2.DRAINING,
            ]
        )
    _limit(found.circuit_breakers, doors.circuit_breaker)
    if doors.outlier is not None:
        _eject(found, doors.outlier)
    _keep_alive(found)
    options = _http_options(app_protocol(port))
    if options is not None:
        found.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))
    return bytes(found.SerializeToString(deterministic=True))


def _balancing(doors: DoorSettings) -> object:
    """Least request within a locality; a ring where a header decides. Locality weights hold in both."""
    if doors.affinity is not None and doors.affinity.header:
        ring = ring_hash_pb2.RingHash()
        ring.locality_weighted_lb_config.SetInParent()
        return extension("envoy.load_balancing_policies.ring_hash", ring)
    least = least_request_pb2.LeastRequest()
    if doors.slow_start:
        window = least.slow_start_config.slow_start_window
        window.FromNanoseconds(round(doors.slow_start * 1e9))
    least.locality_lb_config.locality_weighted_lb_config.SetInParent()
    return extension("envoy.load_balancing_policies.least_request", least)


def _limit(breakers: circuit_breaker_pb2.CircuitBreakers, wanted: CircuitBreaker | None) -> None:
    wanted = wanted or CircuitBreaker()
    for priority in (base_pb2.DEFAULT, base_pb2.HIGH):
        limits = breakers.thresholds.add(priority=priority)
        limits.max_connections.value = wanted.max_connections or RAISED_LIMIT
        limits.max_pending_requests.value = wanted.max_pending_requests or RAISED_LIMIT
        limits.max_requests.value = wanted.max_requests or RAISED_LIMIT
        limits.retry_budget.budget_percent.value = RETRY_BUDGET_PERCENT
        limits.retry_budget.min_retry_concurrency.value = RETRIES_AT_LEAST


def _eject(found: cluster_pb2.Cluster, wanted: OutlierDetection) -> None:
    """Ejection for answers as the policy says, and for connections that fail; always for the same short time.

    All hosts may be ejected: then the next step of the ladder serves.
    """
    outlier = found.outlier_detection
    outlier.split_external_local_origin_errors = True
    outlier.consecutive_local_origin_failure.value = LOCAL_FAILURES
    outlier.consecutive_gateway_failure.value = wanted.consecutive_failures
    outlier.enforcing_consecutive_gateway_failure.value = 100
    outlier.consecutive_5xx.value = wanted.consecutive_failures
    outlier.enforcing_consecutive_5xx.value = 0
    outlier.enforcing_success_rate.value = 0
    outlier.enforcing_local_origin_success_rate.value = 0
    outlier.max_ejection_percent.value = 100
    outlier.interval.FromNanoseconds(round(wanted.interval * 1e9))
    outlier.base_ejection_time.FromNanoseconds(round(wanted.base_ejection * 1e9))
    outlier.max_ejection_time.FromNanoseconds(round(wanted.base_ejection * 1e9))


def _keep_alive(found: cluster_pb2.Cluster) -> None:
    """Lets the kernel tell a silent host from a slow one (RFC 5482, and tcp(7): TCP_USER_TIMEOUT)."""
    found.upstream_bind_config.socket_options.add(
        description="give up on unacknowledged data",
        level=socket.IPPROTO_TCP,
        name=socket.TCP_USER_TIMEOUT,
        int_value=round(UNACKNOWLEDGED_SECONDS * 1000),
        state=socket_option_pb2.SocketOption.STATE_PREBIND,
    )
    alive = found.upstream_connection_options.tcp_keepalive
    alive.keepalive_probes.value, alive.keepalive_time.value, alive.keepalive_interval.value = 3, 10, 3


def _http_options(protocol: AppProtocol) -> http_protocol_options_pb2.HttpProtocolOptions | None:
    if protocol is AppProtocol.TCP:
        return None
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.common_http_protocol_options.idle_timeout.FromNanoseconds(round(IDLE_SECONDS * 1e9))
    match protocol:
        case AppProtocol.HTTP:
            options.explicit_http_config.http_protocol_options.SetInParent()
        case AppProtocol.HTTP2:
            options.explicit_http_config.http2_protocol_options.SetInParent()
        case AppProtocol.GRPC:
            options.use_downstream_protocol_config.http_protocol_options.SetInParent()
            options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    return options
