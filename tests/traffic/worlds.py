"""Generated worlds for the properties of plans: clusters, endpoints, verdicts, policies and vantages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from worked_cases import KEY, PORT, policy_object, service_of

from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, Vantage
from isthmus.model.policy import Policy
from isthmus.model.service import Endpoint, EndpointPort, Protocol, Service
from isthmus.traffic.accept import accept
from isthmus.traffic.planner import Reckoning, reckon

REGIONS = {"a": "eu", "b": "eu", "c": "us", "d": ""}
NAMES = sorted(REGIONS)
ZONES = ("", "z1", "z2")
STATES = ("healthy", "unhealthy", "unprobed", "draining", "left out")
PORTS = (EndpointPort(name="http", protocol=Protocol.TCP, port=8080),)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything `plan()` takes."""

    service: Service
    policy: Policy
    endpoints: dict[ClusterId, list[Endpoint]]
    clusters: dict[ClusterId, ClusterView]
    verdicts: dict[CheckKey, Verdict]
    vantage: Vantage

    def reckon(self) -> Reckoning:
        return reckon(
            service=self.service,
            port=PORT,
            policy=self.policy,
            endpoints=self.endpoints,
            clusters=self.clusters,
            verdict=self.verdicts.get,
            vantage=self.vantage,
        )

    def check(self, endpoint: Endpoint) -> CheckKey:
        return CheckKey(KEY, endpoint.cluster, endpoint.id, "TCP/80")

    def turned(self, endpoint: Endpoint, up: bool) -> World:
        """The same world, but for one verdict."""
        return replace(self, verdicts={**self.verdicts, self.check(endpoint): Verdict(up=up)})

    def with_dead(self, names: set[str]) -> World:
        """The same world with every endpoint of these clusters Down."""
        dead = {
            self.check(endpoint): Verdict(up=False)
            for name, members in self.endpoints.items()
            if name in names
            for endpoint in members
        }
        return replace(self, verdicts={**self.verdicts, **dead})


def accepted(spec: dict[str, Any]) -> Policy:
    policy = accept(policy_object(spec), "member")
    assert isinstance(policy, Policy), policy
    return policy


def endpoint(cluster: str, number: int, zone: str, state: str) -> Endpoint:
    """One endpoint in a state (the verdict that `unhealthy` needs is the world's)."""
    return Endpoint(
        id=EndpointId(f"pod-{number}"),
        cluster=ClusterId(cluster),
        region=REGIONS[cluster],
        zone=zone,
        addresses=(f"10.{64 + NAMES.index(cluster)}.0.{number}",),
        ports=PORTS,
        ready=state in ("healthy", "unhealthy", "unprobed"),
        serving=state != "left out",
        terminating=state in ("draining", "left out"),
    )


_weights = st.sampled_from([0, 0, 1, 3, 80])


@st.composite
def _targets(draw: st.DrawFn, *, weighed: bool) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    if not weighed:
        return [{"cluster": name} for name in names]
    weights = [draw(_weights) for _ in names]
    weights[0] += 1
    return [{"cluster": name, "weight": weight} for name, weight in zip(names, weights, strict=True)]


@st.composite
def _tiers(draw: st.DrawFn) -> list[dict[str, Any]]:
    tiers: list[dict[str, Any]] = [
        {"match": {"scope": scope}}
        for scope in draw(st.lists(st.sampled_from(["SameZone", "SameCluster", "SameRegion"]), unique=True))
    ]
    named = draw(_targets(weighed=True))
    weights = [{"cluster": target["cluster"], "weight": target["weight"]} for target in named]
    tiers.append({"match": {"clusters": [target["cluster"] for target in named]}, "weights": weights})
    return draw(st.permutations(tiers))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """An accepted policy of any form."""
    spec: dict[str, Any] = draw(
        st.one_of(
            st.just({}),
            st.just({"strategy": "Locality"}),
            _targets(weighed=False).map(lambda targets: {"strategy": "Locality", "targets": targets}),
            _targets(weighed=False).map(lambda targets: {"strategy": "FailOver", "targets": targets}),
            _targets(weighed=True).map(lambda targets: {"strategy": "ActiveActive", "targets": targets}),
            st.just({"strategy": "ActiveActive"}),
            _tiers().map(lambda tiers: {"tiers": tiers}),
        )
    )
    spec = {**spec, "overprovisioningPercent": draw(st.sampled_from([100, 140, 1000]))}
    spec["fallback"] = draw(st.sampled_from(["Any", "None"]))
    if draw(st.booleans()):
        spec["expectedEndpoints"] = draw(st.integers(min_value=1, max_value=8))
    if draw(st.booleans()):
        spec["onClusterUnknown"] = "Keep"
    return accepted(spec)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A service in up to four clusters of three zones, seen from somewhere."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    endpoints: dict[ClusterId, list[Endpoint]] = {}
    verdicts: dict[CheckKey, Verdict] = {}
    for name in names:
        drawn = draw(st.lists(st.tuples(st.sampled_from(ZONES), st.sampled_from(STATES)), max_size=6))
        members = [endpoint(name, number, zone, state) for number, (zone, state) in enumerate(drawn, 1)]
        endpoints[ClusterId(name)] = members
        for member, (_, state) in zip(members, drawn, strict=True):
            if state in ("healthy", "unhealthy"):
                check = CheckKey(KEY, ClusterId(name), member.id, "TCP/80")
                verdicts[check] = Verdict(up=state == "healthy")
    own = draw(st.sampled_from(NAMES))
    flags = st.fixed_dictionaries(
        {"unknown": st.booleans(), "draining": st.sampled_from([False, False, True])}
    )
    return World(
        service=service_of(*names),
        policy=draw(policies()),
        endpoints=endpoints,
        clusters={
            ClusterId(name): ClusterView(id=ClusterId(name), region=REGIONS[name], **draw(flags))
            for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
        },
        verdicts=verdicts,
        vantage=Vantage(REGIONS[own], draw(st.sampled_from(ZONES)), ClusterId(own)),
    )
