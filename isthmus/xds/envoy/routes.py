"""Services as virtual hosts of the route configuration of explicit capture.

A caller names a service by the authority of its request: `<svc>.<ns>.svc.clusterset.local`, `<svc>.<ns>.svc`
or `<svc>.<ns>`, with a port or without. What may be retried follows the method (RFC 9110, section 9.2): safe
ones are hedged, idempotent ones retried after any lost connection, all others only when the request never
reached a server. Invariant: no domain appears twice in all services' virtual hosts together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from envoy.extensions.http.stateful_session.header.v3 import header_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from isthmus.model.names import ServiceKey
from isthmus.model.plan import port_id
from isthmus.model.policy import DoorSettings, Retry, SessionAffinity
from isthmus.model.service import Port
from isthmus.xds.appprotocol import speaks_http
from isthmus.xds.envoy.extension import extension, packed
from isthmus.xds.rows import EXPLICIT, resource_name
from isthmus.xds.wire import field

HEDGE_SECONDS = 1.0
"""When a safe request has no answer yet, another endpoint is asked too and the first answer counts."""
STATEFUL_SESSION = "envoy.filters.http.stateful_session"
_NEVER_ARRIVED = "connect-failure,refused-stream,reset-before-request"
_LOST = "connect-failure,refused-stream,reset,gateway-error"
_SAFE = "GET|HEAD|OPTIONS"
_IDEMPOTENT = "PUT|DELETE|TRACE"
_VIRTUAL_HOSTS = 2
"""Field number of RouteConfiguration.virtual_hosts."""


def virtual_host(
    service: ServiceKey,
    ports: Sequence[Port],
    doors: DoorSettings,
    per_port: Mapping[str, DoorSettings] | None = None,
) -> bytes:
    """The virtual hosts of a service, one per HTTP port, as fields of a route configuration; b"" for none.

    `per_port` holds the settings of ports that have their own, by `port_id`. The names without a port mean
    port 80 where that is HTTP, else the first HTTP port.
    """
    http = {port.port: port for port in reversed(ports) if speaks_http(port)}
    if not http:
        return b""
    default = 80 if 80 in http else next(port.port for port in ports if speaks_http(port))
    hosts = []
    for number, port in sorted(http.items()):
        settings = (per_port or {}).get(port_id(port), doors)
        host = _host(service, number, settings, bare=number == default)
        hosts.append(field(_VIRTUAL_HOSTS, host.SerializeToString(deterministic=True)))
    return b"".join(hosts)


def route_configuration(virtual_hosts: Iterable[bytes]) -> bytes:
    """The route configuration of explicit capture, joined from what `virtual_host` gave for each service."""
    head = route_pb2.RouteConfiguration(name=EXPLICIT)
    head.validate_clusters.value = False
    return bytes(head.SerializeToString(deterministic=True)) + b"".join(virtual_hosts)


def _host(
    service: ServiceKey, port: int, doors: DoorSettings, *, bare: bool
) -> route_components_pb2.VirtualHost:
    name = resource_name(service, port)
    short = f"{service.name}.{service.namespace}"
    host = route_components_pb2.VirtualHost(name=name)
    for domain in (f"{short}.svc.clusterset.local", f"{short}.svc", short):
        host.domains.append(f"{domain}:{port}")
        if bare:
            host.domains.append(domain)
    _fill(host, name, doors)
    return host


def captured_routes(service: ServiceKey, port: Port, doors: DoorSettings) -> bytes:
    """The routes of calls that were captured on their way to one service port: whatever name they use."""
    name = resource_name(service, port.port)
    found = route_pb2.RouteConfiguration(name=name)
    found.validate_clusters.value = False
    _fill(found.virtual_hosts.add(name=name, domains=["*"]), name, doors)
    return bytes(found.SerializeToString(deterministic=True))


def _fill(host: route_components_pb2.VirtualHost, name: str, doors: DoorSettings) -> None:
    """Routes to the cluster of that name, by what may be repeated, and the memory of sessions."""
    if doors.retry is not None:
        safe = _route(host, name, doors, _SAFE)
        _retry(safe.route, doors.retry, _LOST)
        if doors.retry.per_try_timeout is None:
            safe.route.retry_policy.per_try_timeout.FromNanoseconds(round(HEDGE_SECONDS * 1e9))
            safe.route.hedge_policy.hedge_on_per_try_timeout = True
        _retry(_route(host, name, doors, _IDEMPOTENT).route, doors.retry, _LOST)
        _retry(_route(host, name, doors).route, doors.retry, _NEVER_ARRIVED)
    else:
        _route(host, name, doors)
    if doors.affinity is not None:
        host.typed_per_filter_config[STATEFUL_SESSION].CopyFrom(packed(_session(doors.affinity)))


def _route(
    host: route_components_pb2.VirtualHost, cluster: str, doors: DoorSettings, methods: str = ""
) -> route_components_pb2.Route:
    """Adds a route to the cluster. `methods` limits it to these, and to requests that stay HTTP."""
    route = host.routes.add()
    route.match.prefix = "/"
    if methods:
        route.match.headers.add(name=":method").string_match.safe_regex.regex = methods
        route.match.headers.add(name="upgrade", present_match=True, invert_match=True)
    route.route.cluster = cluster
    route.route.timeout.FromNanoseconds(round((doors.timeout or 0) * 1e9))
    if doors.affinity is not None and doors.affinity.header:
        route.route.hash_policy.add().header.header_name = doors.affinity.header
    return route


def _retry(action: route_components_pb2.RouteAction, wanted: Retry, retry_on: str) -> None:
    """Each further try goes to another host, and to another step of the ladder where there is one."""
    policy = action.retry_policy
    policy.retry_on = retry_on
    policy.num_retries.value = wanted.attempts
    policy.host_selection_retry_max_attempts = 5
    policy.retry_back_off.base_interval.FromNanoseconds(round(wanted.back_off_base * 1e9))
    policy.retry_back_off.max_interval.FromNanoseconds(
        round(max(wanted.back_off_max, wanted.back_off_base) * 1e9)
    )
    if wanted.per_try_timeout is not None:
        policy.per_try_timeout.FromNanoseconds(round(wanted.per_try_timeout * 1e9))
    priority = policy.retry_priority
    priority.name = "envoy.retry_priorities.previous_priorities"
    priority.typed_config.CopyFrom(
        packed(previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=1))
    )
    host = policy.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
    host.typed_config.CopyFrom(packed(previous_hosts_pb2.PreviousHostsPredicate()))


def _session(affinity: SessionAffinity) -> stateful_session_pb2.StatefulSessionPerRoute:
    """Who served before is found again, draining or not.

    A cookie tells the caller, or a header of the answer, which it may send back. A caller that sends a value
    of its own in that header stays with it by the ring, as long as nothing drains.
    """
    session = stateful_session_pb2.StatefulSessionPerRoute()
    if affinity.header:
        header = extension(
            "envoy.http.stateful_session.header", header_pb2.HeaderBasedSessionState(name=affinity.header)
        )
        session.stateful_session.session_state.CopyFrom(header)
        return session
    state = cookie_pb2.CookieBasedSessionState()
    state.cookie.name, state.cookie.path = affinity.cookie, "/"
    if affinity.ttl:
        state.cookie.ttl.FromNanoseconds(round(affinity.ttl * 1e9))
    session.stateful_session.session_state.CopyFrom(extension("envoy.http.stateful_session.cookie", state))
    return session
