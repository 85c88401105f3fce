"""The prober at its limits, in simulated time: who waits, and for how long."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from probe_simulation import Network, SimulatedLoop, World, simulate
from prometheus_client import CollectorRegistry

from isthmus.model.health import CheckKey, HealthCheck
from isthmus.probes.budget import Budget


def test_a_cluster_with_too_many_targets_delays_itself_and_no_other() -> None:
    async def play() -> None:
        registry = CollectorRegistry()
        world = World(Network(), budget=Budget(rate=100.0), registry=registry)
        few = [world.add(f"few{n}", cluster="few") for n in range(5)]
        for n in range(500):
            world.add(f"many{n}", cluster="many")
        await world.until(lambda: len(world.health) == 505)
        await world.wait(20)
        world.network.checks.clear()
        await world.wait(20)
        counts = Counter(address for _, address in world.network.checks)
        assert 1_900 < counts.total() < 2_100
        assert min(counts[key.endpoint] for key in few) > 35  # all they asked for, but for a little
        of_many = [counts[f"many{n}"] for n in range(500)]
        assert max(of_many) - min(of_many) <= 1
        assert (registry.get_sample_value("isthmus_probes_delayed_total", {"limit": "agent"}) or 0) > 1_000
        assert (registry.get_sample_value("isthmus_probes_checks_waiting") or 0) > 400
        world.network.mode["few0"] = "refusing"
        died = world.now
        assert await world.until(lambda: world.up(few[0]) is False) - died <= 0.9
        await world.stop()

    simulate(play)


def test_a_cluster_of_silent_targets_holds_up_nobody_else() -> None:
    async def play() -> None:
        world = World(Network(), budget=Budget(at_once=40))
        far = [world.add(f"far{n}", check=HealthCheck(timeout=5.0)) for n in range(500)]
        own = [world.add(f"own{n}", cluster="own") for n in range(20)]
        await world.until(lambda: all(world.up(key) for key in (*far, *own)))
        world.network.mode = {f"far{n}": "silent" for n in range(500)}
        await world.wait(30)
        world.network.mode["own0"] = "refusing"
        died = world.now
        assert await world.until(lambda: world.up(own[0]) is False) - died <= 0.8
        await world.until(lambda: not any(world.up(key) for key in far), seconds=1_000)
        await world.stop()

    simulate(play)


def test_ten_thousand_ports_of_one_address_are_no_flood() -> None:
    async def play() -> None:
        registry = CollectorRegistry()
        world = World(Network(), budget=Budget(host_rate=50.0), registry=registry)
        for n in range(2_000):
            key = world.add(f"p{n}")
            target = world.rows.get(key)
            assert target is not None
            world.targets.put(key, world.at(target, "10.64.0.1"))
        other = world.add("other")
        await world.until(lambda: world.up(other) is True)
        await world.wait(2)
        world.network.checks.clear()
        began = world.now
        await world.wait(10)
        at_victim = [at for at, address in world.network.checks if address == "10.64.0.1"]
        assert 450 <= len(at_victim) <= 550
        assert max(Counter(int((at - began) * 2) for at in at_victim).values()) <= 40
        assert (registry.get_sample_value("isthmus_probes_delayed_total", {"limit": "host"}) or 0) > 1_000
        await world.stop()

    simulate(play)


def test_places_are_shared_among_clusters_and_who_loses_one_counts_as_up() -> None:
    async def play() -> None:
        registry = CollectorRegistry()
        world = World(Network(), budget=Budget(targets=30), registry=registry)
        for n in range(100):
            world.add(f"hog{n}", cluster="hog")
        await world.until(lambda: len(world.health) == 30)
        few = [world.add(f"few{n}", cluster="few") for n in range(10)]
        await world.until(lambda: all(world.up(key) for key in few))
        assert len(world.health) == 30
        assert registry.get_sample_value("isthmus_probes_targets_unchecked") == 80
        await world.stop()

    simulate(play)


CLUSTERS, OF_EACH = 20, 300


def canaries(world: World) -> dict[str, list[CheckKey]]:
    """6,000 canaries of 20 clusters, eight times as many as their rate checks at the default interval."""
    return {
        cluster: [world.add(f"{cluster}-{n}", cluster=cluster, canary=True) for n in range(OF_EACH)]
        for cluster in (f"c{number}" for number in range(CLUSTERS))
    }


def test_thousands_of_canaries_cost_their_rate_and_those_who_were_asked_for_are_not_delayed() -> None:
    async def play() -> None:
        budget, registry = Budget(), CollectorRegistry()
        world = World(Network(), budget=budget, registry=registry)
        of = canaries(world)
        asked = [world.add(f"asked{n}", cluster="c0") for n in range(20)]
        await world.until(lambda: all(world.up(key) for keys in of.values() for key in keys))
        world.network.checks.clear()
        await world.wait(20)
        counts = Counter(address for _, address in world.network.checks)
        of_asked = sum(counts.pop(key.endpoint) for key in asked)
        assert 20 * 20 / 0.5 <= of_asked <= 20 * 20 / 0.4
        assert 0.95 < counts.total() / 20 / budget.canary_rate < 1.05
        interval = registry.get_sample_value("isthmus_probes_canary_interval_seconds")
        assert interval == pytest.approx(CLUSTERS * OF_EACH / budget.canary_rate)
        world.network.mode["asked0"] = "silent"
        died = world.now
        assert await world.until(lambda: world.up(asked[0]) is False) - died <= 1.5
        await world.stop()

    simulate(play)


@pytest.mark.parametrize(("mode", "bound"), [("refusing", 0.4), ("silent", 1.6)])
def test_the_death_of_a_cluster_is_noticed_as_soon_as_with_few_canaries(mode: str, bound: float) -> None:
    async def play() -> None:
        world = World(Network())
        of = canaries(world)
        await world.until(lambda: all(world.up(key) for keys in of.values() for key in keys))
        await world.wait(5)
        world.network.mode = dict.fromkeys((key.endpoint for key in of["c7"]), mode)
        died = world.now
        await world.until(lambda: not any(world.up(key) for key in of["c7"]))
        assert world.now - died <= bound + 0.5  # and an interval for those that had just been checked
        assert all(world.up(key) for cluster in of if cluster != "c7" for key in of[cluster])
        world.network.mode = {}
        recovered = world.now
        await world.until(lambda: all(world.up(key) for key in of["c7"]))
        assert world.now - recovered <= 2.0
        await world.stop()

    simulate(play)


def test_the_death_of_one_service_among_thousands_waits_for_its_canaries_turn() -> None:
    async def play() -> None:
        budget = Budget()
        world = World(Network(), budget=budget)
        of = canaries(world)
        await world.until(lambda: all(world.up(key) for keys in of.values() for key in keys))
        await world.wait(5)
        dead = of["c3"][:3]
        world.network.mode = dict.fromkeys((key.endpoint for key in dead), "silent")
        died = world.now
        await world.until(lambda: not any(world.up(key) for key in dead))
        assert world.now - died <= CLUSTERS * OF_EACH / budget.canary_rate + 1.5
        await world.stop()

    simulate(play)


def test_a_target_that_goes_while_it_waits_is_not_checked() -> None:
    async def play() -> None:
        world = World(Network(), budget=Budget(rate=2.0, at_once=4))
        keys = [world.add(f"e{n}") for n in range(50)]
        await world.until(lambda: len(world.health) == 50)
        await world.wait(1)
        for key in keys[:49]:
            world.targets.drop(key)
        await world.until(lambda: len(world.health) == 1)
        world.network.checks.clear()
        await world.until(lambda: world.up(keys[49]) is True)
        await world.wait(10)
        assert {address for _, address in world.network.checks} == {"e49"}
        assert len(world.network.checks) > 15
        await world.stop()

    simulate(play)


def test_a_prober_that_ends_begins_nothing_for_those_that_wait() -> None:
    async def play() -> None:
        world = World(
            Network(mode={f"e{n}": "silent" for n in range(400)}), budget=Budget(at_once=50, rate=100)
        )
        for n in range(400):
            world.add(f"e{n}")
        await world.until(lambda: len(world.health) == 400)
        await world.wait(3.3)
        begun = len(world.network.checks)
        world.task.cancel()
        await asyncio.gather(world.task, return_exceptions=True)
        assert len(world.network.checks) == begun
        loop = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
        await world.stop()

    simulate(play)


def test_while_the_loop_stands_still_no_silence_is_held_against_anybody() -> None:
    async def play() -> None:
        world = World(Network())
        keys = [world.add(f"far{n}") for n in range(10)]
        own = world.add("own", cluster="own")
        await world.until(lambda: all(world.up(key) for key in (*keys, own)))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        world.network.mode = {f"far{n}": "silent" for n in range(10)}
        frozen = world.now + 30
        while world.now < frozen:  # half of the time the loop does something else
            await world.wait(0.15)
            loop.now += 0.25
        assert all(world.up(key) for key in keys)
        thawed = world.now
        assert await world.until(lambda: not any(world.up(key) for key in keys)) - thawed <= 1.6
        await world.stop()

    simulate(play)


def test_a_refusal_is_believed_however_late_the_loop() -> None:
    async def play() -> None:
        world = World(Network())
        far, own = world.add("far"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(far) and world.up(own)))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        world.network.mode = {"far": "refusing"}
        while world.up(far):
            await world.wait(0.15)
            loop.now += 0.25
        await world.stop()

    simulate(play)


def test_an_endpoint_that_fails_every_second_time_goes_down_and_comes_back_late() -> None:
    async def play() -> None:
        world = World(Network(mode={"a": "alternating"}))
        key, own = world.add("a"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        down = await world.until(lambda: world.up(key) is False)
        row = world.health.get(key)
        assert row is not None
        assert row.reason == "refused"
        assert down - 1_000.0 < 10
        world.network.mode["a"] = "up"
        await world.until(lambda: world.up(key) is True)
        world.network.mode["a"] = "alternating"
        down = await world.until(lambda: world.up(key) is False)
        world.network.mode["a"] = "up"
        assert await world.until(lambda: world.up(key) is True) - down >= 2.0
        await world.stop()

    simulate(play)


def test_failures_far_apart_are_forgiven() -> None:
    async def play() -> None:
        world = World(Network())
        key, own = world.add("a"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        for _ in range(40):
            world.network.mode["a"] = "refusing"
            await world.until(lambda: bool((row := world.health.get(key)) and row.wavering))
            world.network.mode["a"] = "up"
            await world.wait(6)
        assert all(row.up is not False for _, _, row in world.history if row is not None)
        await world.stop()

    simulate(play)
