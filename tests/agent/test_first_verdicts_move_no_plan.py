"""Which verdicts make plans anew: those that can change one, and no others."""

from __future__ import annotations

import asyncio

from fedtables import Fed, settles
from hypothesis import example, given, settings
from hypothesis import strategies as st

from isthmus.agent.followers import DownCounts
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Graph, Priority, Table
from isthmus.mcs import conflict
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, ServiceKey, Vantage
from isthmus.model.plan import Plan, PlanKey, port_id
from isthmus.model.policy import Policy
from isthmus.model.service import Endpoint, EndpointPort, Export, Port, Protocol, ServiceType
from isthmus.traffic.planner import plan

EU, US = ClusterId("eu-1"), ClusterId("us-1")
WEB = ServiceKey("shop", "web")
HERE = Vantage("eu", "", EU)
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
GRPC = Port(name="grpc", protocol=Protocol.TCP, port=81)
DNS = Port(name="dns", protocol=Protocol.UDP, port=53)
PORTS = (HTTP, GRPC, DNS)
NETWORKS = ("", "", "behind")
"""Of the endpoints of each cluster."""

Place_ = tuple[ClusterId, int, Port]
places = st.tuples(st.sampled_from([EU, US]), st.sampled_from([0, 1, 2]), st.sampled_from([HTTP, GRPC]))
found = st.none() | st.builds(
    Verdict,
    up=st.sampled_from([True, False, None]),
    canary=st.booleans(),
    wavering=st.sampled_from([False, False, True]),
)


def check(place: Place_) -> CheckKey:
    cluster, number, port = place
    return CheckKey(WEB, cluster, EndpointId(f"{cluster}-{number}"), port_id(port))


def plans(health: Table[CheckKey, Verdict]) -> list[Plan]:
    """Every plan of a service that two clusters offer over two networks."""
    exports = [
        Export(key=WEB, cluster=cluster, created=1.0, type=ServiceType.CLUSTER_SET_IP, ports=PORTS)
        for cluster in (EU, US)
    ]
    endpoints = {cluster: [endpoint(cluster, number) for number in range(3)] for cluster in (EU, US)}
    return [
        plan(
            service=conflict.merge(exports),
            port=port,
            policy=Policy(),
            endpoints=endpoints,
            clusters={},
            verdict=health.get,
            vantage=HERE,
        )
        for port in (*PORTS, None)
    ]


def endpoint(cluster: ClusterId, number: int) -> Endpoint:
    return Endpoint(
        id=EndpointId(f"{cluster}-{number}"),
        cluster=cluster,
        region="",
        zone="",
        addresses=(f"10.64.0.{number}",),
        ports=tuple(EndpointPort(name=p.name, protocol=p.protocol, port=p.port) for p in PORTS),
        network=NETWORKS[number],
    )


@settings(max_examples=300)
@given(before=st.dictionaries(places, found), place=places, after=found)
@example(
    before={
        (US, 0, HTTP): Verdict(up=True, wavering=True),  # of it the other port hears until all its own speak
        (US, 0, GRPC): Verdict(up=True),
    },
    place=(US, 2, GRPC),
    after=Verdict(up=True),
)
def test_a_verdict_that_does_not_matter_changes_no_plan(
    before: dict[Place_, Verdict | None], place: Place_, after: Verdict | None
) -> None:
    health: Table[CheckKey, Verdict] = Table("health")
    writer = health.partition("prober")
    writer.replace({check(at): verdict for at, verdict in before.items() if verdict is not None})
    downs = DownCounts(health)
    mattered: list[bool] = []
    health.observe(lambda key, old, new: mattered.append(downs.matters(key, old, new)))
    planned = plans(health)
    writer.drop(check(place)) if after is None else writer.put(check(place), after)
    assert any(mattered) or plans(health) == planned


class Heard(Fed):
    """A chain in eu-1 that hears of shop/web in us-1: a TCP and a UDP port, three endpoints."""

    def __init__(self) -> None:
        super().__init__(hub_live=False)
        self.callers.replace({HERE: 1})
        self.graph = Graph([self.chain.plans, self.chain.service_checks])
        self.put("hub", kinds.CLUSTER, ObjectKey("", US))
        space, about = f"isthmus-{US}", {"cluster": US, "service": {"namespace": "shop", "name": "web"}}
        ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]
        offer = about | {"ports": ports, "ipFamilies": ["IPv4"], "exportedAt": "2026-01-01T00:00:00Z"}
        self.put("hub", kinds.EXPORTED_SERVICE, ObjectKey(space, "web.shop"), spec=offer)
        entries = [{"id": f"e{n}", "addresses": [f"10.65.0.{n}"]} for n in range(3)]
        endpoints = about | {"ports": ports, "endpoints": entries}
        self.put("hub", kinds.EXPORTED_ENDPOINTS, ObjectKey(space, "web.shop.0-0"), spec=endpoints)

    def say(self, up: bool | None) -> None:
        for key, target in self.chain.checks.items():
            self.health.put(key, Verdict(up=up, canary=target.canary))

    def plan(self, port: str) -> Plan | None:
        return self.chain.plans.get(PlanKey(WEB, port, HERE))


async def test_plans_are_made_for_the_dead_and_not_for_the_living() -> None:
    heard = Heard()
    async with heard.running():
        await settles(lambda: heard.plan("TCP/80") is not None and len(heard.chain.checks) == 3)
        made = heard.chain.plans.computed
        heard.say(None)
        heard.say(True)
        await asyncio.sleep(0)
        assert not any(heard.chain.plans.dirty(priority) for priority in Priority)
        assert heard.chain.plans.computed == made
        heard.say(False)
        await settles(lambda: (found := heard.plan("TCP/80")) is not None and found.panic)
        # A port that nobody can check follows the canaries of the others.
        await settles(lambda: (found := heard.plan("UDP/53")) is not None and found.panic)
        heard.say(True)
        await settles(
            lambda: all((found := heard.plan(port)) and not found.panic for port in ("", "TCP/80", "UDP/53"))
        )
