"""What control remembers of changes: news only, and a flood in a few words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from isthmus.agent.chain import Chain, Place
from isthmus.agent.history import TOLD_AT_ONCE, record
from isthmus.agent.inputs import Hub, Member
from isthmus.agent.vantages import places
from isthmus.api import core
from isthmus.api.meta import ObjectKey, ObjectMeta
from isthmus.console.events import Ring
from isthmus.flow import Graph, Writer
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, ServiceKey, Vantage

ZONE = "topology.kubernetes.io/zone"


def check(number: int) -> CheckKey:
    return CheckKey(ServiceKey("shop", "web"), "us-1", EndpointId(f"web-{number:03}"), "TCP/80")


@pytest.fixture
def chain() -> Chain:
    return Chain(Place(cluster=ClusterId("eu-1"), region="eu", network=""), Member(), Hub())


def completed(chain: Chain) -> Writer[CheckKey, Verdict]:
    """Every source is complete and empty, but for two endpoints that are Up."""
    for source in (chain.member, chain.hub):
        for _kind, table in source.pairs():
            table.partition("test").replace({})
    chain.session.partition("test").replace({})
    chain.membership.partition("test").replace({})
    chain.vantages.partition("test").replace({chain.place.vantage: 1})
    health = chain.health.partition("test")
    health.replace({check(n): Verdict(up=True) for n in range(2)})
    return health


async def told(ring: Ring, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(60):
        while ring.last < count:
            await asyncio.sleep(0.001)
    items: list[dict[str, Any]] = ring.view()["items"]
    return items


async def test_what_was_there_is_no_news_and_a_flood_is_cut(chain: Chain) -> None:
    ring, health = Ring("run"), completed(chain)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(Graph([chain.plans]).run()),
            group.create_task(record(chain, ring, wall=lambda: 7.0)),
        ]
        async with asyncio.timeout(60):
            while not (chain.plans.synced and chain.health._subscriptions):
                await asyncio.sleep(0.001)
            while any(one.pending for one in chain.health._subscriptions):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert ring.last == 0
        health.put(check(1), Verdict(up=False, reason="timeout"))
        (event,) = await told(ring, 1)
        assert (event["kind"], event["at"]) == ("health", 7.0)
        assert event["subject"] == "shop/web TCP/80 web-001 of us-1"
        assert event["text"] == "is Down: timeout"
        health.replace({check(n): Verdict(up=False, reason="refused") for n in range(TOLD_AT_ONCE + 10)})
        items = await told(ring, TOLD_AT_ONCE + 2)
        assert len(items) == 1 + TOLD_AT_ONCE + 1
        # Every endpoint of the batch but the one that was Down before.
        assert items[-1]["text"] == "9 more changed at the same time"
        for task in tasks:
            task.cancel()


async def test_vantages_are_clusters_zones_and_wherever_proxies_are(chain: Chain) -> None:
    node = core.Node(metadata=ObjectMeta(name="n1", labels={ZONE: "eu-1a"}))
    chain.member.nodes.partition("test").replace({ObjectKey("", "n1"): node})
    chain.vantages.partition("test").replace({Vantage("eu", "eu-1b", ClusterId("eu-1")): 1})
    running = asyncio.create_task(Graph([chain.caller_zones.zones]).run())
    async with asyncio.timeout(60):
        while not chain.caller_zones.zones:
            await asyncio.sleep(0.001)
    assert places(chain) == {
        Vantage("eu", "", ClusterId("eu-1")),
        Vantage("eu", "eu-1a", ClusterId("eu-1")),
        Vantage("eu", "eu-1b", ClusterId("eu-1")),
    }
    running.cancel()
