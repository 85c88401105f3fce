"""The reflector where the server has lost rows, or where those who listen to the rows are at fault."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from isthmus.api import kinds
from isthmus.api.core import Service
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import Client
from isthmus.kube.reflector import Linger, Reflector, Timing

FAST = Timing(backoff=Backoff(first=0.001, longest=0.01))
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}


def service(name: str, version: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": version}}


def event(type_: str, name: str, version: str) -> dict[str, Any]:
    return {"type": type_, "object": service(name, version)}


def mirror(
    client: Client, table: Table[ObjectKey, Service], seconds: float, **more: Any
) -> Reflector[Service]:
    """Rows whose names begin alike are a group."""
    linger = Linger(seconds=seconds, group=lambda key: key.name[0])
    writer = table.partition("test")
    return Reflector(client, kinds.SERVICE, writer, timing=FAST, linger=linger, rng=Random(7), **more)


def names(table: Table[ObjectKey, Service]) -> list[str]:
    return sorted(key.name for key in table)


async def test_lost_rows_stay_while_the_server_may_get_them_back(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    table: Table[ObjectKey, Service] = Table("services")
    listed = asyncio.Event()
    script.lists += [
        script.page(*(service(name) for name in ("a1", "a2", "b", "c", "d")), version="10"),
        script.page(service("a1"), version="20"),
    ]
    script.watches += [
        script.stream(GONE),
        script.stream(hold=False, after=listed),
        script.stream(event("DELETED", "b", "21"), event("ADDED", "c", "22"), hold=True),
    ]
    reflector = mirror(client, table, seconds=3600.0)
    async with running(reflector.run()):
        await until(lambda: reflector.state.lists == 2)
        # The group of a2 is still there, so it was deleted; of the others nothing is known.
        assert names(table) == ["a1", "b", "c", "d"]
        listed.set()
        await until(lambda: names(table) == ["a1", "c", "d"])


async def test_lost_rows_that_nobody_writes_again_go_after_a_while(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    table: Table[ObjectKey, Service] = Table("services")
    script.lists += [script.page(service("a"), service("b"), version="10"), script.page(version="20")]
    script.watches += [script.stream(GONE), script.stream(event("ADDED", "b", "21"), hold=True)]
    async with running(mirror(client, table, seconds=0.05).run()):
        await until(lambda: names(table) == ["b"])


async def test_a_server_that_is_listed_again_and_again_keeps_lost_rows_no_longer(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    now = 0.0
    table: Table[ObjectKey, Service] = Table("services")
    listed = [asyncio.Event() for _ in range(6)]
    script.lists.append(script.page(service("a"), version="10"))
    script.lists += [script.page(version=str(20 + number)) for number in range(6)]
    script.watches.append(script.stream(GONE))
    # Each watch ends long before lost rows go, and says by a broken line that a list is needed.
    for event_ in listed:
        script.watches.append(script.stream(after=event_, then=GONE))
    reflector = mirror(client, table, seconds=50.0, clock=lambda: now)
    async with running(reflector.run()):
        for number, event_ in enumerate(listed[:-1]):
            await until(lambda n=number: reflector.state.watches == n + 2)
            assert names(table) == ["a"]
            now += 12.0
            event_.set()
        await until(lambda: names(table) == [])


async def test_lost_rows_stay_as_long_as_the_server_is_away(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    table: Table[ObjectKey, Service] = Table("services")
    back = asyncio.Event()
    script.lists += [script.page(service("a"), version="10"), script.page(version="20")]
    script.watches += [script.stream(GONE), *[script.failure(500) for _ in range(20)]]
    script.watches.append(script.stream(hold=True, after=back))
    async with running(mirror(client, table, seconds=0.01).run()):
        await until(lambda: len(script.watches) < 5)
        assert names(table) == ["a"]
        back.set()
        await until(lambda: names(table) == [])


async def test_a_defect_of_a_listener_does_not_end_the_reflector(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    table: Table[ObjectKey, Service] = Table("services")
    raised = []

    def owns(_key: ObjectKey) -> bool:
        if not raised:
            raised.append(True)
            raise TypeError("a defect")
        return True

    script.lists += [script.page(service("a"), version="10"), script.page(service("b"), version="11")]
    reflector = Reflector(client, kinds.SERVICE, table.partition("test", owns), timing=FAST)
    async with running(reflector.run()):
        await until(lambda: names(table) == ["b"])


async def test_the_age_of_last_good_rows_outlives_the_first_failure(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    table: Table[ObjectKey, Service] = Table("services")
    writer = table.partition("test")
    writer.stale(100.0)
    script.lists.append(script.failure(500))
    script.lists.append(script.silence())
    async with running(
        Reflector(client, kinds.SERVICE, writer, timing=FAST, wall=lambda: 5_000.0).run()
    ) as _:
        await until(lambda: len(script.requests("list")) == 2)
        assert table.stale == {"test": 100.0}
