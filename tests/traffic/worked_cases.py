"""The worked cases of split-vectors.yaml as services, policies and plans, for all rooms' tests.

Every case becomes a service `shop/checkout` with one port, http TCP/80, on which endpoints listen as 8080. An
unhealthy endpoint is a ready one with a verdict Down, a draining one is terminating but still serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from isthmus.api.meta import ObjectMeta
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, ServiceKey, Vantage
from isthmus.model.plan import Plan
from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.model.service import Endpoint, EndpointPort, Export, Port, Protocol, Service, ServiceType
from isthmus.traffic.accept import accept
from isthmus.traffic.planner import plan

KEY = ServiceKey("shop", "checkout")
PORT = Port(name="http", protocol=Protocol.TCP, port=80)
VECTORS = Path(__file__).with_name("split-vectors.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedCase:
    """One case: everything `plan()` takes, and the shares it must give by `cluster/region/zone`."""

    name: str
    service: Service
    policy: Policy
    endpoints: dict[ClusterId, list[Endpoint]]
    clusters: dict[ClusterId, ClusterView]
    verdicts: dict[CheckKey, Verdict]
    vantage: Vantage
    shares: dict[str, int]
    panic: bool

    def plan(self, port: Port | None = PORT) -> Plan:
        """The plan of the case's port, or (None) of its service as a whole."""
        return plan(
            service=self.service,
            port=port,
            policy=self.policy,
            endpoints=self.endpoints,
            clusters=self.clusters,
            verdict=self.verdicts.get,
            vantage=self.vantage,
        )


def load_worked_cases() -> list[WorkedCase]:
    """All cases of the file, in its order."""
    return [_case(raw) for raw in yaml.safe_load(VECTORS.read_text())]


def policy_object(spec: dict[str, Any], name: str = KEY.name) -> GlobalTrafficPolicy:
    """A GlobalTrafficPolicy as it would arrive from an API server."""
    return GlobalTrafficPolicy(
        metadata=ObjectMeta(name=name, namespace=KEY.namespace, creation_timestamp="2025-06-01T10:00:00Z"),
        spec=msgspec.Raw(msgspec.json.encode(spec)),
    )


def service_of(*clusters: str, port: Port = PORT) -> Service:
    """A service that these clusters export with that port."""
    exports = tuple(
        Export(
            cluster=ClusterId(cluster), key=KEY, created=0.0, type=ServiceType.CLUSTER_SET_IP, ports=(port,)
        )
        for cluster in clusters
    )
    return Service(
        key=KEY,
        type=ServiceType.CLUSTER_SET_IP,
        ports=(port,),
        exports=exports,
        ip_families=(),
        affinity=None,
        internal_traffic_policy="Cluster",
        traffic_distribution="",
        labels=(),
        annotations=(),
        conflicts=(),
    )


def _case(raw: dict[str, Any]) -> WorkedCase:
    policy = accept(policy_object(raw["policy"]), "member") if "policy" in raw else DEFAULT_POLICY
    assert isinstance(policy, Policy), policy
    unknown = set(raw.get("unknown", ()))
    endpoints: dict[ClusterId, list[Endpoint]] = {}
    clusters: dict[ClusterId, ClusterView] = {}
    verdicts: dict[CheckKey, Verdict] = {}
    for index, group in enumerate(raw["groups"]):
        cluster = ClusterId(group["cluster"])
        clusters[cluster] = ClusterView(id=cluster, region=group["region"], unknown=cluster in unknown)
        states = [state for state in ("healthy", "unhealthy", "draining") for _ in range(group[state])]
        for number, state in enumerate(states, start=1):
            endpoint = _endpoint(
                cluster, group["region"], group["zone"], f"10.{64 + index}.0.{number}", state
            )
            endpoints.setdefault(cluster, []).append(endpoint)
            if state != "draining":
                check = CheckKey(KEY, cluster, endpoint.id, "TCP/80")
                verdicts[check] = Verdict(up=state == "healthy")
    return WorkedCase(
        name=raw["name"],
        service=service_of(*endpoints),
        policy=policy,
        endpoints=endpoints,
        clusters=clusters,
        verdicts=verdicts,
        vantage=Vantage(
            raw["vantage"]["region"], raw["vantage"]["zone"], ClusterId(raw["vantage"]["cluster"])
        ),
        shares=raw["expect"]["shares"],
        panic=raw["expect"]["panic"],
    )


def _endpoint(cluster: ClusterId, region: str, zone: str, address: str, state: str) -> Endpoint:
    draining = state == "draining"
    return Endpoint(
        id=EndpointId(f"checkout-{address.replace('.', '-')}"),
        cluster=cluster,
        region=region,
        zone=zone,
        addresses=(address,),
        ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=8080),),
        ready=not draining,
        serving=True,
        terminating=draining,
    )
