"""`isthmus proxies` with real consoles: who has what, what was rejected, and what differs."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cli_scenes import Console, Ran

Isthmus = Callable[..., Awaitable[Ran]]
Start = Callable[..., Awaitable[Console]]


def a_type(state: str = "accepted", **differs: Any) -> dict[str, Any]:
    ways: dict[str, Any] = {"due": [], "inFlight": [], "heldBack": {}, "missing": [], "kept": []}
    return {
        "state": state,
        "accepted": "0f",
        "acceptedAt": time.time() - 200,
        "ackMs": 1.5,
        "rejected": "bad is bad" if state == "rejected" else "",
        "rejectedAt": time.time() - 10_000 if state == "rejected" else None,
        "wildcard": True,
        "resources": 3,
        "differs": ways | differs,
    }


def a_proxy(node: str, **types: Any) -> dict[str, Any]:
    return {
        "worker": "xds-0",
        "node": node,
        "class": "envoy@eu-1/eu/eu-1a@127.0.0.1:15001",
        "peer": "ipv4:10.0.0.1:4000",
        "identity": "",
        "variant": "delta",
        "since": time.time() - 90_000,
        "unknownTypes": [],
        "types": types,
    }


async def look() -> tuple[list[dict[str, Any]], list[str]]:
    bad = a_type("rejected", heldBack={"bad.shop.svc.clusterset.local:80": "ff"})
    return [a_proxy("web-1.shop", cds=a_type(), eds=a_type()), a_proxy("web-2.shop", cds=bad)], []


async def test_every_proxy_is_listed_with_its_states(isthmus: Isthmus, console: Start) -> None:
    agent = await console(proxies=look)
    ran = await isthmus("proxies", ISTHMUS_AGENTS=agent.url)
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[1][:6] == ["web-1.shop", "eu-1", "eu/eu-1a", "1d", "accepted", "3m"]
    assert lines[2][4:7] == ["rejected", "2h", "ago"]
    assert "web-2.shop rejected cds: bad is bad" in ran.err


async def test_one_proxy_is_found_by_its_node(isthmus: Isthmus, console: Start) -> None:
    agent = await console(proxies=look)
    ran = await isthmus("proxies", "web-1.shop", "-o", "json", ISTHMUS_AGENTS=agent.url)
    items = json.loads(ran.out)["items"]
    assert [(item["node"], item["variant"], item["types"]["cds"]["ackMs"]) for item in items] == [
        ("web-1.shop", "delta", 1.5)
    ]
    ran = await isthmus("proxies", "nobody", ISTHMUS_AGENTS=agent.url)
    assert (ran.code, ran.out) == (1, "No proxy nobody is connected.\n")


async def test_the_differences_are_told_by_name(isthmus: Isthmus, console: Start) -> None:
    agent = await console(proxies=look)
    ran = await isthmus("proxies", "--diff", ISTHMUS_AGENTS=agent.url)
    assert ran.code == 0
    assert "web-1.shop" not in ran.out
    assert "bad.shop.svc.clusterset.local:80" in ran.out
    quiet = await console()
    ran = await isthmus("proxies", "--diff", ISTHMUS_AGENTS=quiet.url)
    assert ran.out == "Every proxy has what it should have.\n"


async def test_a_worker_that_said_nothing_is_named(isthmus: Isthmus, console: Start) -> None:
    async def half() -> tuple[list[dict[str, Any]], list[str]]:
        return (await look())[0][:1], ["xds-1"]

    agent = await console(proxies=half)
    ran = await isthmus("proxies", ISTHMUS_AGENTS=agent.url)
    assert "web-1.shop" in ran.out
    assert "worker xds-1 did not tell its proxies in time" in ran.err
