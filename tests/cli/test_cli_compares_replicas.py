"""`status` says where the replicas of one cluster's agent see different things."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from cli_scenes import Console, Ran
from console_tables import FAR, KEY, table

from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import EndpointId

Isthmus = Callable[..., Awaitable[Ran]]
Start = Callable[..., Awaitable[Console]]


def health(**reasons: str) -> Any:
    """Checks of endpoints, Down for a reason, or Up."""
    return table(
        "health",
        {
            CheckKey(KEY, FAR, EndpointId(name), "TCP/80"): Verdict(up=not reason, reason=reason)
            for name, reason in reasons.items()
        },
    )


async def test_what_one_replica_calls_down_and_another_does_not_is_named(
    isthmus: Isthmus, console: Start
) -> None:
    first = await console(health=health(a="timeout", b="refused", c=""))
    second = await console(health=health(a="", b="reset", c=""))
    remote = await console(cluster=FAR, health=health(a="timeout"))
    ran = await isthmus("status", ISTHMUS_AGENTS=f"{first.url},{second.url},{remote.url}")
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    down = rows[0].index("DOWN")
    assert {(row[0], row[down]) for row in rows[1:]} == {("eu-1", "2"), ("eu-1", "1"), ("us-1", "1")}
    assert ran.err == (
        "isthmus: eu-1: replicas differ on shop/checkout TCP/80, endpoint a of us-1: "
        f"Down from {first.url} (timeout), not from {second.url}\n"
    )
    ran = await isthmus("status", "-o", "json", ISTHMUS_AGENTS=f"{first.url},{second.url}")
    (row,) = json.loads(ran.out)["differences"]
    assert (row["endpoint"], row["down"], row["notDown"]) == ("a", {first.url: "timeout"}, [second.url])


async def test_a_long_list_of_differences_is_cut(isthmus: Isthmus, console: Start) -> None:
    first = await console(health=health(**{f"e{n}": "timeout" for n in range(30)}))
    second = await console(health=health())
    ran = await isthmus("status", ISTHMUS_AGENTS=f"{first.url},{second.url}")
    assert ran.err.count("replicas differ") == 10
    assert "and 20 more differences: see -o json" in ran.err


async def test_replicas_that_agree_say_nothing(isthmus: Isthmus, console: Start) -> None:
    agents = [await console(health=health(a="timeout")) for _ in range(2)]
    ran = await isthmus("status", ISTHMUS_AGENTS=",".join(agent.url for agent in agents))
    assert (ran.code, ran.err) == (0, "")
