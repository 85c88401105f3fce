"""`isthmus events`: what was kept, then what happens, whoever goes away meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cli_scenes import ROOT, SECONDS, environment

Start = Callable[..., Awaitable[Any]]
Isthmus = Callable[..., Awaitable[Any]]


async def test_what_several_agents_kept_is_one_story(isthmus: Isthmus, console: Start) -> None:
    eu, us = await console(), await console(cluster="us-1")
    eu.ring.add("cluster", 10.0, [("us-1", "is Unknown\x1b[31m")])
    us.ring.add("health", 9.0, [("shop/checkout TCP/80 b of eu-1", "is Down: timeout")])
    eu.ring.add("plan", 11.5, [("shop/checkout TCP/80 from eu-1", "eu-1 50% -> 100%")])
    agents = f"{eu.url},{us.url}"
    ran = await isthmus("events", ISTHMUS_AGENTS=agents)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "1970-01-01 00:00:09.000  us-1  health  shop/checkout TCP/80 b of eu-1: is Down: timeout",
        "1970-01-01 00:00:10.000  eu-1  cluster  us-1: is Unknown?[31m",
        "1970-01-01 00:00:11.500  eu-1  plan  shop/checkout TCP/80 from eu-1: eu-1 50% -> 100%",
    ]
    ran = await isthmus("events", "-o", "json", ISTHMUS_AGENTS=agents)
    assert [item["agent"] for item in json.loads(ran.out)["items"]] == ["us-1", "eu-1", "eu-1"]


async def test_following_survives_an_agents_restart(console: Start, tmp_path: Path) -> None:
    eu = await console()
    eu.ring.add("plan", 1.0, [("first", "moved")])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "isthmus", "events", "--follow", "-o", "json", "--agent", eu.url, "--timeout", "1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(tmp_path),
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None

    async def next_subject() -> str:
        assert process.stdout is not None
        return str(json.loads(await process.stdout.readline())["subject"])

    try:
        async with asyncio.timeout(SECONDS):
            assert await next_subject() == "first"
            eu.ring.add("plan", 2.0, [("second", "moved")])
            assert await next_subject() == "second"
            port = eu.server.port
            await eu.server.close()
            assert b"eu-1 is away, trying again" in await process.stderr.readline()
            again = await console(run="another", port=port)
            again.ring.add("plan", 3.0, [("after the restart", "moved")])
            assert await next_subject() == "after the restart"
            assert b"eu-1 is back" in await process.stderr.readline()
    finally:
        process.kill()
        await process.wait()
