"""What Nodes say of zones becomes rows for DNS callers there; where no policy asks for zones, nothing."""

from __future__ import annotations

import pytest
from fedtables import settles
from policyworld import ME, WEB, World

from isthmus.agent.callerzones import standpoint
from isthmus.agent.doors import Doors
from isthmus.api import core, kinds, labels
from isthmus.api.meta import ObjectKey, ObjectMeta
from isthmus.dns import places, row
from isthmus.dns.places import ZONES_KEY, Places, Zones
from isthmus.flow import Graph
from isthmus.model.names import ServiceKey, Vantage
from isthmus.model.plan import PlanKey

CLUSTER = Vantage("eu", "", ME)
SERVICE = ServiceKey(*WEB)
ZONES = {name: Vantage("eu", f"eu-{name}", ME) for name in ("a", "b", "c")}
NEAR_FIRST = {"tiers": [{"match": {"scope": "SameZone"}}, {"match": {"scope": "SameCluster"}}]}


class Zoned(World):
    """A service with an endpoint in each of two zones, Nodes in three, and what the doors are given."""

    def __init__(self) -> None:
        super().__init__()
        self.callers.replace({CLUSTER: 1})
        self.doors = Doors(self.chain, self.outputs.vips, self.callers)
        self.doors.wants.partition("test").replace({})
        self.graph = Graph([*self.outputs.tables, *self.doors.tables])
        for number, name in enumerate(ZONES, 1):
            self.node(name, name, f"10.0.{number}.1", f"10.244.{number}.0/24")
        self.slice({"a": "10.244.1.7", "b": "10.244.2.7"})

    def node(self, name: str, zone: str, address: str, pods: str, region: str = "") -> None:
        told = {labels.ZONE: f"eu-{zone}"} | ({labels.REGION: region} if region else {})
        node = core.Node(
            metadata=ObjectMeta(name=name, labels=told if zone else {}),
            spec=core.NodeSpec(pod_cidrs=[pods]),
            status=core.NodeStatus(
                addresses=[core.NodeAddress("InternalIP", address), core.NodeAddress("Hostname", name)]
            ),
        )
        self.writers["member/nodes"].put(ObjectKey("", name), node)

    def slice(self, pods: dict[str, str]) -> None:
        found = core.EndpointSlice(
            metadata=ObjectMeta(name="web-1", namespace="shop", labels={labels.SERVICE_NAME: "web"}),
            endpoints=[
                core.SliceEndpoint(addresses=[address], node_name=node) for node, address in pods.items()
            ],
            ports=[core.SlicePort(name="http", port=8080)],
        )
        self.writers["member/endpointslices"].put(ObjectKey("shop", "web-1"), found)

    def answers(self, at: Vantage) -> set[str] | None:
        """The addresses with a share for callers there, None where they have no row of their own."""
        raw = self.doors.dns.get(row.row_key(at, SERVICE))
        if raw is None:
            return None
        found = row.decode(raw)
        drawn = found.draw.members if found.draw is not None else ()
        return {".".join(map(str, found.members[at].v4[0])) for at in drawn}

    def rows(self) -> list[str]:
        return [key for key in self.doors.dns if key != ZONES_KEY]

    def of(self, address: str, *, direct: bool = False) -> str:
        """The zone of an address: for the workers, and for who asks why."""
        found, why = self.chain.caller_zones.of(address, direct=direct)
        assert why
        held = Places(direct=direct)
        raw = self.doors.dns.get(ZONES_KEY)
        held.set(places.decode(raw) if raw is not None else Zones())
        number = held.of_asker(address)
        if number != (held.number(str(found)) if found is not None else places.ANYWHERE):
            return "not told yet"
        return found.zone if found is not None else ""

    def why(self, address: str) -> str:
        return self.chain.caller_zones.of(address, direct=True)[1]


async def test_zones_have_rows_of_their_own_where_the_policy_tells_them_apart() -> None:
    world = Zoned()
    world.policy("member", NEAR_FIRST | {"dns": {"answer": "Endpoints"}})
    async with world.running():
        await settles(lambda: world.answers(ZONES["a"]) == {"10.244.1.7"})
        await settles(lambda: world.answers(ZONES["b"]) == {"10.244.2.7"})
        assert world.answers(CLUSTER) == {"10.244.1.7", "10.244.2.7"}
        assert world.answers(ZONES["c"]) is None, "nothing of its own there: what holds for the cluster does"
        world.slice({"a": "10.244.1.7", "b": "10.244.2.7", "c": "10.244.3.7"})
        await settles(lambda: world.answers(ZONES["c"]) == {"10.244.3.7"})


async def test_without_a_preference_for_zones_nothing_is_planned_for_them() -> None:
    world = Zoned()
    world.policy("member", {"strategy": "FailOver", "dns": {"answer": "Endpoints"}})
    async with world.running():
        await settles(lambda: world.answers(CLUSTER) == {"10.244.1.7", "10.244.2.7"})
        assert {key.vantage for key in world.chain.plans} == {CLUSTER}
        assert len(world.rows()) == 1


async def test_a_clusterset_ip_is_the_same_in_all_zones() -> None:
    world = Zoned()
    world.policy("member", NEAR_FIRST)
    async with world.running():
        await settles(lambda: world.answers(CLUSTER) is not None)
        assert {key.vantage for key in world.chain.plans} == {CLUSTER}


async def test_rows_of_zones_follow_policies_nodes_and_proxies() -> None:
    world = Zoned()
    world.policy("member", NEAR_FIRST | {"dns": {"answer": "Endpoints"}})
    async with world.running():
        await settles(lambda: world.answers(ZONES["a"]) == {"10.244.1.7"})
        world.policy("member", {"strategy": "FailOver", "dns": {"answer": "Endpoints"}}, generation=2)
        await settles(lambda: len(world.rows()) == 1)
        assert {key.vantage for key in world.chain.plans} == {CLUSTER}
        world.policy("member", NEAR_FIRST | {"dns": {"answer": "Endpoints"}}, generation=3)
        await settles(lambda: world.answers(ZONES["b"]) == {"10.244.2.7"})
        world.callers.replace({CLUSTER: 1, ZONES["b"]: 1})
        world.writers["member/nodes"].drop(ObjectKey("", "b"))
        await settles(lambda: world.answers(ZONES["b"]) is None)
        assert PlanKey(SERVICE, "", ZONES["b"]) in world.chain.plans, "its proxies are still there"
        world.callers.replace({CLUSTER: 1})
        await settles(lambda: PlanKey(SERVICE, "", ZONES["b"]) not in world.chain.plans)
        world.node("b", "b", "10.0.2.1", "10.244.2.0/24")
        await settles(lambda: world.answers(ZONES["b"]) == {"10.244.2.7"})


async def test_a_region_of_their_own_tells_callers_apart_without_any_policy() -> None:
    world = Zoned()
    world.put(
        "member", kinds.SERVICE, WEB, spec={"clusterIP": "None", "ports": [{"port": 80, "name": "http"}]}
    )
    async with world.running():
        await settles(lambda: world.answers(CLUSTER) == {"10.244.1.7", "10.244.2.7"})
        assert {key.vantage for key in world.chain.plans} == {CLUSTER}
        world.node("far", "z", "10.0.9.1", "10.244.9.0/24", region="us")
        await settles(lambda: Vantage("us", "eu-z", ME) in {key.vantage for key in world.chain.plans})
        assert len(world.rows()) == 1, "and as their answer is the same, it is sent once"


async def test_addresses_are_told_by_who_has_them() -> None:
    world = Zoned()
    world.node("nowhere", "", "10.0.7.1", "10.244.7.0/24")
    async with world.running():
        await settles(lambda: ZONES_KEY in world.doors.dns)
        assert [world.of(f"10.0.{n}.1") for n in (1, 2, 3, 7, 8)] == ["eu-a", "eu-b", "eu-c", "", ""]
        assert [world.of(f"10.244.{n}.9", direct=True) for n in (1, 2, 7)] == ["eu-a", "eu-b", ""]
        assert world.of("10.244.1.9") == "", "without --dns-forward a pod that asks is somebody's resolver"
        assert "--dns-forward" in world.chain.caller_zones.of("10.244.1.9", direct=False)[1]
        world.node("twin", "b", "10.0.1.1", "10.244.8.0/24")
        await settles(lambda: world.of("10.0.1.1") == "")
        assert "several zones" in world.why("10.0.1.1")


async def test_ranges_of_pods_are_not_believed_where_pods_are_elsewhere() -> None:
    world = Zoned()
    async with world.running():
        await settles(lambda: world.of("10.244.1.9", direct=True) == "eu-a")
        world.slice({"a": "10.244.1.7", "b": "10.244.3.8"})
        await settles(lambda: world.of("10.244.1.9", direct=True) == "")
        assert world.of("10.0.1.1") == "eu-a", "what a Node says of itself holds"
        assert "10.244.3.8 of shop/web-1 is on b" in world.why("10.244.1.9")
        world.slice({"a": "10.244.1.7", "b": "10.244.2.8"})
        await settles(lambda: world.of("10.244.1.9", direct=True) == "eu-a")


async def test_a_node_without_a_range_of_pods_moves_and_its_pods_are_elsewhere() -> None:
    world = Zoned()
    world.node("bare", "a", "10.0.8.1", "")
    world.slice({"bare": "10.244.1.7"})
    async with world.running():
        await settles(lambda: world.of("10.244.1.9", direct=True) == "eu-a")
        world.node("bare", "b", "10.0.8.1", "")
        await settles(lambda: world.of("10.244.1.9", direct=True) == "")


@pytest.mark.parametrize("text", ["", "no address", "10.0.0.1/33", "10.0.0.1.5"])
def test_what_is_no_address_of_a_node_is_left_out(text: str) -> None:
    node = core.Node(
        metadata=ObjectMeta(name="n", labels={labels.ZONE: "eu-a"}),
        spec=core.NodeSpec(pod_cidrs=[text, "fd00::/64"]),
        status=core.NodeStatus(addresses=[core.NodeAddress("InternalIP", text)]),
    )
    found = standpoint(node, CLUSTER)
    assert found is not None
    assert (found.nodes, [length for _, length in found.pods]) == ((), [64])
