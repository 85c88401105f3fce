"""Verdicts outlive the prober, but only those that still mean the same."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_simulation import Network, World, simulate

from isthmus.flow import Table
from isthmus.model.health import CheckKey, Verdict
from isthmus.probes import memory
from isthmus.probes.memory import Note, Notes
from isthmus.probes.prober import Prober, anchor

API = anchor("api", 443)
texts = st.text(max_size=8)
NOW = 5_000.0
fields = (*(texts for _ in range(6)), st.booleans(), st.booleans(), st.floats(0, 1e9), texts)
notes = st.lists(st.builds(Note, *fields, st.floats(NOW - memory.OLD_SECONDS, NOW)), max_size=5)


@given(notes)
def test_what_was_written_is_read_again(found: list[Note]) -> None:
    known = memory.decode(memory.encode(found), NOW)
    assert known == {one.key: one for one in found}
    assert all(key.service.namespace for key in memory.verdicts(known))


@pytest.mark.parametrize("age", [-1.0, memory.OLD_SECONDS + 1.0])
def test_what_is_old_or_from_the_future_is_forgotten(age: float) -> None:
    one = Note("shop", "web", "far", "a", "TCP/80", "TCP a 80", False, False, 1.0, "timeout", NOW - age)
    other = msgspec.structs.replace(one, name="other", seen=NOW)
    assert memory.decode(memory.encode([one, other]), NOW) == {other.key: other}


@given(st.binary(max_size=50))
def test_what_is_no_page_is_nothing(page: bytes) -> None:
    assert memory.decode(page, 0.0) == {}
    assert memory.decode(msgspec.json.encode({"notes": [[1]]}), 0.0) == {}


async def known(world: World) -> Notes:
    return memory.decode(memory.encode(await world.prober.known()), world.now)


async def left_behind(**modes: str) -> tuple[Notes, dict[str, CheckKey]]:
    """What a prober knew that saw these endpoints Up and then so; `own` and the API server are Up."""
    world = World(Network(), api_servers=(API,))
    keys = {name: world.add(name) for name in modes}
    keys["own"] = world.add("own", cluster="own")
    await world.until(lambda: all(world.up(key) for key in keys.values()))
    world.network.mode |= modes
    dead = [keys[name] for name, mode in modes.items() if mode != "up"]
    await world.until(lambda: not any(world.up(key) for key in dead))
    found = await known(world)
    await world.stop()
    return found, keys


def again(found: Notes, network: Network) -> World:
    return World(network, api_servers=(API,), notes=found)


def test_what_was_down_is_down_after_a_restart_and_stays_so() -> None:
    async def play() -> None:
        found, keys = await left_behind(dead="silent", alive="up")
        world = again(found, Network(mode={"dead": "silent"}))
        for name in ("dead", "alive"):
            world.add(name)
        await world.until(lambda: world.health.synced)
        assert world.up(keys["dead"]) is False  # from the first moment
        await world.wait(30)
        row = world.health.get(keys["dead"])
        assert row is not None
        assert (row.up, row.reason) == (False, "timeout")
        assert {row.up for _, key, row in world.history if key == keys["dead"] and row} == {False}
        await world.stop()

    simulate(play)


def test_what_has_recovered_meanwhile_is_up_after_its_checks() -> None:
    async def play() -> None:
        found, keys = await left_behind(dead="silent")
        world = again(found, Network())
        world.add("dead")
        begin = world.now
        assert await world.until(lambda: world.up(keys["dead"]) is True) - begin <= 1.1
        await world.stop()

    simulate(play)


def test_what_dies_during_the_restart_goes_down_because_it_was_up_before() -> None:
    async def play() -> None:
        found, keys = await left_behind(alive="up")
        world = again(found, Network(mode={"alive": "refusing"}))
        world.add("alive")
        begin = world.now
        assert await world.until(lambda: world.up(keys["alive"]) is False) - begin <= 0.8
        await world.stop()

    simulate(play)


def test_a_restart_without_a_network_accuses_nobody() -> None:
    async def play() -> None:
        found, keys = await left_behind(alive="up")
        world = again(found, Network(dead=True))
        world.add("alive")
        world.add("own", cluster="own")
        await world.wait(30)
        assert world.up(keys["alive"]) is True
        assert world.up(keys["own"]) is True
        await world.stop()

    simulate(play)


def test_another_target_of_that_name_begins_anew_and_one_that_is_gone_is_forgotten() -> None:
    async def play() -> None:
        found, keys = await left_behind(moved="refusing", gone="refusing")
        world = again(found, Network(mode={"elsewhere": "refusing"}))
        target_key = world.add("moved")
        target = world.rows.get(target_key)
        assert target is not None
        world.targets.put(target_key, world.at(target, "elsewhere"))
        await world.until(lambda: keys["gone"] not in world.health)
        assert world.up(keys["moved"]) is None
        await world.wait(10)
        assert world.up(keys["moved"]) is None
        world.add("gone")
        await world.wait(0.01)
        assert world.up(keys["gone"]) is None
        await world.stop()

    simulate(play)


def test_what_has_not_come_yet_is_not_forgotten() -> None:
    async def play() -> None:
        found, keys = await left_behind(dead="silent")
        world = again(found, Network())
        assert {one.key for one in await world.prober.known()} == set(found)
        assert keys["dead"] in found
        await world.stop()

    simulate(play)


def test_what_has_not_come_grows_old_however_often_it_is_written_down() -> None:
    async def play() -> None:
        found, keys = await left_behind(dead="silent")
        loop = asyncio.get_running_loop()
        health: Table[CheckKey, Verdict] = Table("health")
        later = Prober(Table("checks"), health.partition("prober"), clock=loop.time, notes=found)
        await asyncio.sleep(memory.OLD_SECONDS - 60)
        assert keys["dead"] in memory.decode(memory.encode(await later.known()), loop.time())
        await asyncio.sleep(120)
        assert memory.decode(memory.encode(await later.known()), loop.time()) == {}

    simulate(play)


def test_only_what_was_judged_is_noted() -> None:
    async def play() -> None:
        world = World(Network(mode={"never": "refusing"}), api_servers=(API,))
        world.add("never")
        key = world.add("a", canary=True)
        await world.until(lambda: world.up(key) is True)
        await world.wait(1)
        found: dict[str, Any] = {one.endpoint: (one.up, one.canary) for one in await world.prober.known()}
        assert found == {"a": (True, True), "api 443": (True, False)}
        await world.stop()

    simulate(play)
