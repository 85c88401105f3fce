"""Which endpoints are checked, and how (traffic-semantics, section 1, verdicts).

With `health` in the policy, or `probe` on a cluster's export, every endpoint that is not left out is checked.
Without either, up to CANARIES endpoints speak for each (cluster, network). Invariant: canaries are chosen by
the endpoints' names alone, so that one that comes or goes moves at most one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from isthmus.model.health import CheckKey, CheckProtocol, CheckTarget, HealthCheck
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.plan import port_id
from isthmus.model.policy import Policy
from isthmus.model.service import Endpoint, Export, Port, Protocol, Service

CANARIES = 3
DEFAULT_CHECK = HealthCheck()


def targets(
    service: Service,
    export: Export,
    endpoints: Sequence[Endpoint],
    policy_of: Callable[[Port], Policy],
    own_cluster: ClusterId,
) -> dict[CheckKey, CheckTarget]:
    """The checks of what one cluster exports: of each endpoint and port that speaks for itself or for others.

    `endpoints` are that cluster's; `policy_of` is the policy in force for a port; its check wins over the
    export's.
    """
    found: dict[CheckKey, CheckTarget] = {}
    name = f"{service.key.name}.{service.key.namespace}.svc.clusterset.local"
    for port in filter(export.exposes, service.ports):
        port_name = port_id(port)
        asked = policy_of(port).health or export.probe
        check = asked or DEFAULT_CHECK
        if not _possible(check, port):
            continue
        reachable = [e for e in endpoints if e.addresses and e.target_port(port) is not None]
        if asked is None:
            chosen: Iterable[Endpoint] = _canaries(service.key, (e for e in reachable if e.ready))
        else:
            chosen = (e for e in reachable if _counts(e, export))
        for endpoint in chosen:
            key = CheckKey(service.key, export.cluster, endpoint.id, port_name)
            found[key] = CheckTarget(
                address=endpoint.addresses[0],
                port=check.port or endpoint.target_port(port) or 0,
                check=check,
                canary=asked is None,
                network=endpoint.network,
                own_cluster=export.cluster == own_cluster,
                name=name,
                udp=port.protocol is Protocol.UDP or check.port is not None,
            )
    return found


def _possible(check: HealthCheck, port: Port) -> bool:
    """Whether the check can speak for that port: its protocol fits, or it looks elsewhere by its own wish."""
    match check.protocol:
        case CheckProtocol.ICMP:
            return True
        case CheckProtocol.DNS:
            return check.port is not None or port.protocol is not Protocol.SCTP
        case _:
            return check.port is not None or port.protocol is Protocol.TCP


def _counts(endpoint: Endpoint, export: Export) -> bool:
    """Whether the planner may count it: ready, or one that drains."""
    return endpoint.ready or (endpoint.serving and (endpoint.terminating or export.draining))


def _canaries(service: ServiceKey, endpoints: Iterable[Endpoint]) -> Iterable[Endpoint]:
    """The first few of each network in an order that a hash of the names gives (rendezvous hashing)."""
    by_network: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_network.setdefault(endpoint.network, []).append(endpoint)
    for members in by_network.values():
        yield from sorted(members, key=lambda e: _rank(service, e))[:CANARIES]


def _rank(service: ServiceKey, endpoint: Endpoint) -> bytes:
    text = f"{service}\n{endpoint.cluster}\n{endpoint.id}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
