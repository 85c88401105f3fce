"""The address families are asked for until the server tells them, and what it told is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from scripted_server import Script, access_to, scripted

from isthmus.agent import families
from isthmus.flow import Table
from isthmus.kube.client import Client
from isthmus.model.service import AddressFamily

BOTH = {"metadata": {"name": "x", "namespace": "default"}, "spec": {"ipFamilies": ["IPv4", "IPv6"]}}
TOLD = (AddressFamily.IPV4, AddressFamily.IPV6)


class Asked:
    """A server with answers in order; `waits` are the pauses of who asks, unwaited."""

    def __init__(self, script: Script) -> None:
        self.waits: list[float] = []
        self.table: Table[str, tuple[AddressFamily, ...]] = Table("families")
        self.rows: list[tuple[AddressFamily, ...] | None] = []
        self.synced: list[bool] = []
        self._script = script

    async def ask(self, *answers: int) -> None:
        """Lets the server answer so; returns when the last answer was heard."""
        script = self._script
        for status in answers:
            body = BOTH if status == 201 else {"code": status}
            script.answers.append(script.answer(body, status=status))
        heard = asyncio.Event()

        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            self.rows.append(self.table.get(""))
            self.synced.append(self.table.synced)
            if not script.answers:
                heard.set()
                await asyncio.Event().wait()

        async with Client(access_to(script.url), timeout=5.0) as client, asyncio.timeout(60):
            work = families.follow(client, self.table.partition("server"), sleep=sleep)
            following = asyncio.create_task(work)
            await heard.wait()
            following.cancel()
            await asyncio.wait([following])


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    async with scripted() as script:
        yield Asked(script)


@pytest.mark.parametrize("failure", [500, 403, 404, 429, 503])
async def test_a_failure_keeps_what_was_told_and_the_server_is_asked_again_soon(
    asked: Asked, failure: int
) -> None:
    await asked.ask(201, failure, failure, 201)
    assert asked.rows == [TOLD] * 4
    assert asked.waits[0] == asked.waits[3] == families.LATER_SECONDS
    assert families.SOON_SECONDS / 2 <= asked.waits[1] <= families.SOON_SECONDS < 2 * asked.waits[2]


async def test_a_server_that_does_not_want_the_question_is_asked_seldom(asked: Asked) -> None:
    await asked.ask(422, 201, 422)
    assert asked.waits == [families.LATER_SECONDS] * 3
    assert asked.rows == [None, TOLD, TOLD]
    assert asked.synced[0]


async def test_nobody_waits_for_ever_for_a_server_that_refuses(asked: Asked) -> None:
    await asked.ask(*[403] * (families.PATIENCE + 20))
    assert asked.synced.index(True) == families.PATIENCE - 1
    assert max(asked.waits) <= 60.0
