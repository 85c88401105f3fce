"""The last-good store: what it kept it gives back, marked stale, and no trouble with the disk is fatal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from isthmus.agent import lastgood
from isthmus.agent.lastgood import LastGood, seed
from isthmus.api import core, kinds
from isthmus.api.meta import ObjectKey, ObjectMeta
from isthmus.flow import Table

SOURCE = "member/services"


def service(name: str, ip: str = "") -> core.Service:
    return core.Service(
        metadata=ObjectMeta(namespace="shop", name=name), spec=core.ServiceSpec(cluster_ip=ip)
    )


def rows(*services: core.Service) -> dict[ObjectKey, core.Service]:
    return {one.metadata.key: one for one in services}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastgood, "BATCH_SECONDS", 0.0)
    monkeypatch.setattr(lastgood, "CONFIRM_SECONDS", 0.01)


class Following:
    """A store that follows a table for the length of a block."""

    def __init__(self, store: LastGood, table: Table[ObjectKey, Any]) -> None:
        self._task = asyncio.create_task(store.follow(SOURCE, table), name="follow")

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def holds(store: LastGood, wanted: dict[ObjectKey, core.Service]) -> None:
    async with asyncio.timeout(60):
        while True:
            found = await store.load(SOURCE, kinds.SERVICE)
            if found is not None and found[1] == wanted:
                return
            await asyncio.sleep(0.005)


async def test_rows_changes_and_deletions_outlive_the_process(tmp_path: Path) -> None:
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    writer = table.partition("reflector")
    writer.replace(rows(service("a"), service("b")))
    async with LastGood(tmp_path / "db") as store, Following(store, table):
        await holds(store, rows(service("a"), service("b")))
        writer.put(ObjectKey("shop", "b"), service("b", "10.0.0.1"))
        writer.drop(ObjectKey("shop", "a"))
        await holds(store, rows(service("b", "10.0.0.1")))
    async with LastGood(tmp_path / "db") as store:
        await holds(store, rows(service("b", "10.0.0.1")))


async def test_what_changed_just_before_an_orderly_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastgood, "BATCH_SECONDS", 3_600.0)
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    writer = table.partition("server")
    before, after = rows(service("a"), service("b")), rows(service("b", "10.0.0.2"), service("c"))
    async with LastGood(tmp_path / "db") as store, Following(store, table):
        writer.replace(before)
        await holds(store, before)
        writer.replace(after)
    async with LastGood(tmp_path / "db") as store:
        await holds(store, after)


async def test_a_seeded_table_is_stale_since_it_was_saved(tmp_path: Path) -> None:
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    table.partition("reflector").replace(rows(service("a")))
    async with LastGood(tmp_path / "db", wall=lambda: 1234.0) as store, Following(store, table):
        await holds(store, rows(service("a")))
    again: Table[ObjectKey, core.Service] = Table(SOURCE)
    writer = again.partition("reflector")
    async with LastGood(tmp_path / "db") as store:
        assert await seed(store, SOURCE, kinds.SERVICE, again, writer)
    assert dict(again.items()) == rows(service("a"))
    assert again.stale == {"reflector": 1234.0}
    assert again.synced


async def test_a_source_that_has_answered_is_not_overwritten(tmp_path: Path) -> None:
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    writer = table.partition("reflector")
    writer.replace(rows(service("old")))
    async with LastGood(tmp_path / "db") as store:
        async with Following(store, table):
            await holds(store, rows(service("old")))
        writer.replace(rows(service("new")))
        assert not await seed(store, SOURCE, kinds.SERVICE, table, writer)
    assert dict(table.items()) == rows(service("new"))


async def test_stale_rows_are_not_saved_and_fresh_ones_replace_everything(tmp_path: Path) -> None:
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    writer = table.partition("reflector")
    writer.replace(rows(service("a"), service("b")))
    async with LastGood(tmp_path / "db") as store, Following(store, table):
        await holds(store, rows(service("a"), service("b")))
        writer.stale(1.0)
        writer.drop(ObjectKey("shop", "a"))
        await asyncio.sleep(0.05)
        await holds(store, rows(service("a"), service("b")))
        writer.stale(None)
        writer.put(ObjectKey("shop", "c"), service("c"))
        await holds(store, rows(service("b"), service("c")))


async def test_what_changed_while_stale_is_saved_although_nothing_changes_after(tmp_path: Path) -> None:
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    writer = table.partition("reflector")
    writer.replace(rows(service("a")))
    async with LastGood(tmp_path / "db") as store, Following(store, table):
        await holds(store, rows(service("a")))
        # As a list after an outage does it: the rows come before the watch says that all is well.
        writer.stale(1.0)
        writer.replace(rows(service("b")))
        async with asyncio.timeout(60):
            while SOURCE not in store._owed:
                await asyncio.sleep(0.005)
        writer.stale(None)
        await holds(store, rows(service("b")))


async def test_a_file_that_cannot_be_used_now_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "db"
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    table.partition("reflector").replace(rows(service("a")))
    async with LastGood(file) as store, Following(store, table):
        await holds(store, rows(service("a")))
    with monkeypatch.context() as patch:
        patch.setattr(lastgood, "SCHEMA", "SELECT what_the_disk_refuses();")
        async with LastGood(file) as store:
            assert await store.load(SOURCE, kinds.SERVICE) is None
    async with LastGood(file) as store:
        await holds(store, rows(service("a")))


async def test_a_quiet_source_is_confirmed_from_time_to_time(tmp_path: Path) -> None:
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    table.partition("reflector").replace(rows(service("a")))
    now = [1.0]
    async with LastGood(tmp_path / "db", wall=lambda: now[0]) as store, Following(store, table):
        await holds(store, rows(service("a")))
        now[0] = 99.0
        async with asyncio.timeout(60):
            while (await store.load(SOURCE, kinds.SERVICE) or (0.0, {}))[0] != 99.0:
                await asyncio.sleep(0.005)


async def test_a_damaged_file_costs_only_what_was_in_it(tmp_path: Path) -> None:
    file = tmp_path / "db"
    file.write_bytes(b"this is no database, and long enough to be looked at as one" * 20)
    table: Table[ObjectKey, core.Service] = Table(SOURCE)
    table.partition("reflector").replace(rows(service("a")))
    async with LastGood(file) as store, Following(store, table):
        await holds(store, rows(service("a")))
    assert file.with_suffix(".damaged").exists()


async def test_a_directory_that_cannot_be_written_is_not_fatal(tmp_path: Path) -> None:
    async with LastGood(tmp_path / "missing" / "db") as store:
        assert await store.load(SOURCE, kinds.SERVICE) is None
