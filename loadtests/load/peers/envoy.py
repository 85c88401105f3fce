"""Stock Envoys with a static configuration: endpoints written by hand, found well or dead by active checks.

All clusters serve, as the policy of `front` says too: an endpoint's cluster is its locality, and all have the
same weight. (With a priority for each cluster instead, a dead cluster would have no callers but its own, and
there were nothing to compare.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.demo.envoy import envoy_with
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from loadtests.load.peers.peer import Peer

SERVICE = "front"
_TYPES = "type.googleapis.com/envoy.extensions."


@dataclass(frozen=True, kw_only=True)
class StaticEnvoy(Peer):
    """`checks` and `retries` are what is said differently; `connect` is a timeout."""

    checks: dict[str, Any]
    connect: str
    retries: dict[str, Any] | None

    async def start_in(self, stage: Stage, member: Member) -> None:
        name = f"{self.name}-{member.name}"
        config = self.config(member.envoy, list(self.endpoints(stage)))
        await stage.processes.start(name, envoy_with(stage.envoy, config, stage.folder / f"{name}.json"))

    def config(self, listen: str, found: list[tuple[str, str, int]]) -> dict[str, Any]:
        """What `envoy -c` takes; `found` are (cluster, address, port)."""
        route: dict[str, Any] = {"cluster": SERVICE}
        if self.retries is not None:
            route["retry_policy"] = self.retries
        hosts = {"name": SERVICE, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
        router = {"@type": f"{_TYPES}filters.http.router.v3.Router"}
        http = {
            "@type": f"{_TYPES}filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": SERVICE,
            "route_config": {"name": SERVICE, "virtual_hosts": [hosts]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        }
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}
        clusters = dict.fromkeys(cluster for cluster, _, _ in found)
        cluster = {
            "name": SERVICE,
            "type": "STATIC",
            "lb_policy": "ROUND_ROBIN",
            "connect_timeout": self.connect,
            "common_lb_config": {"locality_weighted_lb_config": {}},
            "health_checks": [{**self.checks, "http_health_check": {"path": "/healthz"}}],
            "load_assignment": {
                "cluster_name": SERVICE,
                "endpoints": [
                    {
                        "locality": {"region": name},
                        "load_balancing_weight": 1,
                        "lb_endpoints": [
                            {"endpoint": {"address": _address(address, port)}}
                            for owner, address, port in found
                            if owner == name
                        ],
                    }
                    for name in clusters
                ],
            },
        }
        listener = {"name": SERVICE, "address": _address(listen, self.port), "filter_chains": [chain]}
        return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


EXAMPLE = StaticEnvoy(
    name="envoy-static",
    about="Envoy, static configuration; health checks as in Envoy's own example of locality load balancing "
    "(every 2 s, 4 s while there is no traffic, timeout 3 s, one failure), no retries",
    port=15101,
    checks={
        "interval": "2s",
        "timeout": "3s",
        "no_traffic_interval": "4s",
        "no_traffic_healthy_interval": "4s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    },
    connect="5s",
    retries=None,
)
TUNED = StaticEnvoy(
    name="envoy-tuned",
    about="Envoy, static configuration tuned with care: health checks every second (timeout 0.5 s, two "
    "failures), connect timeout 0.25 s, two retries elsewhere after 1 s each",
    port=15102,
    checks={
        "interval": "1s",
        "timeout": "0.5s",
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 2,
    },
    connect="0.25s",
    retries={
        "retry_on": "5xx,reset,connect-failure,refused-stream",
        "num_retries": 2,
        "per_try_timeout": "1s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{_TYPES}retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 5,
    },
)
