"""When the prober says so, in simulated time (traffic-semantics, section 5)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_simulation import Network, World, simulate

from isthmus.model.health import HealthCheck
from isthmus.probes.holddown import LAST, QUIET
from isthmus.probes.schedule import QUICK


@settings(max_examples=80)
@given(
    kind=st.sampled_from(["silent", "refusing"]),
    interval=st.floats(0.2, 5.0),
    timeout=st.floats(0.1, 3.0),
    fall=st.integers(2, 5),
    moment=st.floats(0.0, 5.0),
    others=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_detection_keeps_its_bound_whenever_death_comes(
    kind: Literal["silent", "refusing"],
    interval: float,
    timeout: float,
    fall: int,
    moment: float,
    others: int,
    seed: int,
) -> None:
    check = HealthCheck(interval=interval, timeout=timeout, fall=fall)
    silence = timeout * fall if kind == "silent" else 0.0
    bound = interval + silence + QUICK * (fall - 1) + QUICK

    async def play() -> None:
        world = World(Network(), seed=seed)
        victim = world.add("victim", check=check)
        rest = [world.add(f"own{n}", cluster="own", check=check) for n in range(others)]
        await world.until(lambda: all(world.up(key) for key in (victim, *rest)))
        await world.wait(moment)
        died = world.now
        world.network.mode["victim"] = kind
        found = await world.until(lambda: world.up(victim) is False)
        assert found - died <= bound + 1e-6
        assert all(world.up(key) for key in rest)
        await world.stop()

    simulate(play)


@pytest.mark.parametrize(("kind", "bound"), [("silent", 1.5), ("refusing", 0.7)])
def test_the_defaults_detect_silence_in_one_and_a_half_seconds_and_a_refusal_in_less(
    kind: str, bound: float
) -> None:
    async def play() -> None:
        world = World(Network())
        victim, rest = world.add("victim"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(victim) and world.up(rest)))
        world.network.mode["victim"] = kind
        died = world.now
        assert await world.until(lambda: world.up(victim) is False) - died <= bound
        await world.stop()

    simulate(play)


def test_one_lost_check_changes_no_verdict_and_is_asked_again_at_once() -> None:
    async def play() -> None:
        world = World(Network())
        key = world.add("a")
        await world.until(lambda: world.up(key) is True)
        world.network.mode["a"] = "refusing"
        await world.until(lambda: bool((row := world.health.get(key)) and row.wavering))
        failed = world.now
        world.network.mode["a"] = "up"
        again = await world.until(lambda: bool((row := world.health.get(key)) and not row.wavering))
        assert again - failed <= QUICK + world.network.rtt + 0.001
        assert [row.up for _, _, row in world.history if row is not None] == [None, True, True, True]
        await world.stop()

    simulate(play)


def test_an_endpoint_that_flaps_is_held_down_longer_each_time() -> None:
    async def play() -> None:
        world = World(Network())
        key, own = world.add("flapping"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        waits = []
        for _ in range(5):
            world.network.mode["flapping"] = "refusing"
            down = await world.until(lambda: world.up(key) is False)
            world.network.mode["flapping"] = "up"
            waits.append(await world.until(lambda: world.up(key) is True) - down)
        assert waits[0] < 1.1
        for wait, least in zip(waits[1:], (2.0, 4.0, 8.0, 16.0), strict=True):
            assert least <= wait <= least + 0.6
        await world.stop()

    simulate(play)


def test_an_endpoint_that_passes_by_chance_is_up_a_few_times_and_no_more() -> None:
    async def play() -> None:
        world = World(Network())
        key, own = world.add("edge"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        world.network.mode["edge"] = "by chance"
        world.history.clear()
        await world.wait(600)
        told = [row.up for _, at, row in world.history if at == key and row is not None]
        ups = [up for before, up in pairwise([True, *told]) if up and not before]
        assert 1 <= len(ups) <= 6
        await world.stop()

    simulate(play)


def test_who_flapped_and_is_well_again_waits_no_more_than_a_moment() -> None:
    async def play() -> None:
        world = World(Network())
        key, own = world.add("flapping"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        for _ in range(6):
            world.network.mode["flapping"] = "refusing"
            await world.until(lambda: world.up(key) is False)
            world.network.mode["flapping"] = "up"
            await world.until(lambda: world.up(key) is True)
        world.network.mode["flapping"] = "refusing"
        await world.wait(LAST + 30)
        world.network.mode["flapping"] = "up"
        well = world.now
        assert await world.until(lambda: world.up(key) is True) - well <= QUIET + 0.6
        await world.stop()

    simulate(play)


def test_a_dead_target_costs_no_more_checks_than_a_live_one() -> None:
    async def play() -> None:
        world = World(Network(mode={"never": "refusing"}))
        dead, never, live = world.add("dead"), world.add("never"), world.add("live", cluster="own")
        await world.until(lambda: bool(world.up(dead) and world.up(live)))
        world.network.mode["dead"] = "refusing"
        await world.until(lambda: world.up(dead) is False)
        world.network.checks.clear()
        await world.wait(60)
        counts = {
            name: sum(address == name for _, address in world.network.checks)
            for name in ("dead", "never", "live")
        }
        assert 100 < min(counts.values()) <= max(counts.values()) < 140
        assert world.up(never) is None
        await world.stop()

    simulate(play)


def test_newcomers_are_spread_over_an_interval() -> None:
    async def play() -> None:
        world = World(Network())
        keys = [world.add(f"e{n}") for n in range(200)]
        begin = world.now
        await world.until(lambda: all(world.up(key) for key in keys))
        first = {address: at for at, address in reversed(world.network.checks)}
        assert max(first.values()) - begin <= 0.5
        tenths = [
            sum(begin + n / 20 <= at < begin + (n + 1) / 20 for at in first.values()) for n in range(10)
        ]
        assert min(tenths) > 0
        await world.stop()

    simulate(play)
