"""Targets that come, change and go."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_simulation import Network, World, simulate
from prometheus_client import CollectorRegistry

from isthmus.model.health import CheckKey, HealthCheck, Verdict
from isthmus.probes.budget import Budget


def test_health_is_complete_at_once_and_a_new_target_is_unknown() -> None:
    async def play() -> None:
        world = World(Network())
        await world.until(lambda: world.health.synced)
        key = world.add("a", canary=True)
        await world.until(lambda: key in world.health)
        assert world.health.get(key) == Verdict(up=None, canary=True, since=world.history[0][0])
        await world.until(lambda: world.up(key) is True)
        await world.stop()

    simulate(play)


def test_an_endpoint_that_was_never_up_never_goes_down() -> None:
    async def play() -> None:
        world = World(Network(mode={"a": "refusing"}))
        other = world.add("own", cluster="own")
        key = world.add("a")
        await world.until(lambda: world.up(other) is True)
        await world.wait(100)
        assert world.up(key) is None
        assert [row for _, changed, row in world.history if changed == key] == [world.health.get(key)]
        world.network.mode["a"] = "up"
        await world.until(lambda: world.up(key) is True)
        await world.stop()

    simulate(play)


def test_a_verdict_says_why_and_since_when() -> None:
    async def play() -> None:
        world = World(Network())
        key, _own = world.add("a"), world.add("own", cluster="own")
        await world.until(lambda: world.up(key) is True)
        world.network.mode["a"] = "refusing"
        down = await world.until(lambda: world.up(key) is False)
        row = world.health.get(key)
        assert row is not None
        assert row.reason == "refused"
        assert abs(row.since - down) < 0.01
        await world.stop()

    simulate(play)


def test_a_failure_that_passed_is_no_reason_any_more() -> None:
    async def play() -> None:
        world = World(Network())
        key, _own = world.add("a"), world.add("own", cluster="own")
        await world.until(lambda: world.up(key) is True)
        world.network.mode["a"] = "refusing"
        await world.until(lambda: bool((row := world.health.get(key)) and row.reason))
        assert world.up(key) is True, "one failure is not enough"
        world.network.mode["a"] = "up"
        await world.until(lambda: not ((row := world.health.get(key)) and row.reason))
        assert world.up(key) is True
        await world.stop()

    simulate(play)


def test_a_target_that_goes_takes_its_verdict_and_its_past_with_it() -> None:
    async def play() -> None:
        world = World(Network())
        key, own = world.add("a"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        world.network.mode["a"] = "silent"
        await world.until(lambda: world.up(key) is False)
        world.targets.drop(key)
        await world.until(lambda: key not in world.health)
        world.network.checks.clear()
        await world.wait(10)
        assert "a" not in {address for _, address in world.network.checks}
        world.add("a")
        await world.until(lambda: key in world.health)
        assert world.up(key) is None
        await world.stop()

    simulate(play)


def test_another_address_is_another_target_and_another_interval_is_not() -> None:
    async def play() -> None:
        world = World(Network())
        key = world.add("a", canary=True)
        await world.until(lambda: world.up(key) is True)
        target = world.rows.get(key)
        assert target is not None
        world.targets.put(key, msgspec.structs.replace(target, canary=False, check=HealthCheck(interval=1.0)))
        await world.until(lambda: bool((row := world.health.get(key)) and not row.canary))
        assert world.up(key) is True
        world.targets.put(key, msgspec.structs.replace(target, address="b"))
        await world.until(lambda: world.up(key) is None)
        await world.until(lambda: world.up(key) is True)
        assert world.network.checks[-1][1] == "b"
        await world.stop()

    simulate(play)


def test_a_silent_target_delays_no_other() -> None:
    async def play() -> None:
        silent = {f"s{n}": "silent" for n in range(500)}
        world = World(Network(mode=dict(silent)))
        slow = HealthCheck(timeout=30.0)
        for name in silent:
            world.add(name, check=slow)
        keys = [world.add(f"e{n}") for n in range(20)]
        begin = world.now
        await world.until(lambda: all(world.up(key) for key in keys))
        assert world.now - begin < 0.6
        victim = keys[0]
        world.network.mode["e0"] = "refusing"
        died = world.now
        assert await world.until(lambda: world.up(victim) is False) - died <= 0.7
        await world.stop()

    simulate(play)


def test_targets_beyond_the_limit_wait_for_a_place_and_count_as_up() -> None:
    async def play() -> None:
        world = World(Network(), budget=Budget(targets=2))
        keys = [world.add(f"e{n}") for n in range(4)]
        await world.until(lambda: len(world.health) == 2)
        checked = sorted(key.endpoint for key in world.health)
        world.targets.drop(next(key for key in keys if key.endpoint == checked[0]))
        await world.until(lambda: len({key.endpoint for key in world.health} - set(checked)) == 1)
        assert len(world.health) == 2
        for key in keys:
            world.targets.drop(key)
        await world.until(lambda: len(world.health) == 0)
        await world.stop()

    simulate(play)


def test_a_free_place_is_not_lost_on_a_target_that_has_just_gone() -> None:
    async def play() -> None:
        world = World(Network(), budget=Budget(targets=2))
        keys = [world.add(f"e{n}") for n in range(40)]
        await world.until(lambda: len(world.health) == 2)
        last = next(key for key in reversed(keys) if key not in world.health)
        for key in keys:
            if key != last:
                world.targets.drop(key)  # all at once: those that are checked and those that wait
        await world.until(lambda: world.up(last) is True)
        await world.stop()

    simulate(play)


def test_counters_start_at_zero_and_follow() -> None:
    registry = CollectorRegistry()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"isthmus_probes_{name}", labels)

    async def play() -> None:
        world = World(Network(), registry=registry)
        assert value("checks_total", result="failed") == 0.0
        assert value("changes_total", verdict="down") == 0.0
        key, own = world.add("a"), world.add("own", cluster="own")
        await world.until(lambda: bool(world.up(key) and world.up(own)))
        world.network.mode["a"] = "refusing"
        await world.until(lambda: world.up(key) is False)
        assert value("targets") == 2.0
        assert value("targets_down") == 1.0
        assert value("changes_total", verdict="down") == 1.0
        assert value("checks_total", result="failed") == 2.0
        assert (value("checks_total", result="passed") or 0) >= 2
        world.targets.drop(key)
        await world.until(lambda: key not in world.health)
        assert value("targets_down") == 0.0
        await world.stop()

    simulate(play)


modes = st.sampled_from(["up", "refusing", "silent", "broken here"])
moves = st.one_of(
    st.tuples(st.just("mode"), st.sampled_from("abcd"), modes),
    st.tuples(st.just("add"), st.sampled_from("abcd"), st.just("")),
    st.tuples(st.just("drop"), st.sampled_from("abcd"), st.just("")),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from(["0.05", "0.3", "2"])),
)


@settings(max_examples=60)
@given(st.lists(moves, max_size=30), st.integers(0, 100))
def test_whatever_happens_health_has_exactly_the_targets_and_settles_on_the_truth(
    plan: list[tuple[str, str, str]], seed: int
) -> None:
    async def play() -> None:
        world = World(Network(), seed=seed)
        present: dict[str, CheckKey] = {"own": world.add("own", cluster="own")}
        await world.until(lambda: world.up(present["own"]) is True)
        up_before: set[str] = set()
        world.health.observe(
            lambda key, _old, new: up_before.add(key.endpoint) if new is not None and new.up else None
        )
        for move, name, what in plan:
            match move:
                case "mode":
                    world.network.mode[name] = what
                case "add":
                    present[name] = world.add(name)
                case "drop":
                    up_before.discard(name)
                    if name in present:
                        world.targets.drop(present.pop(name))
                    await world.wait(0)
                case _:
                    await world.wait(float(what))
        await world.wait(70)
        assert set(world.health.keys()) == set(present.values())
        for name, key in present.items():
            mode = world.network.mode.get(name, "up")
            if mode == "up":
                assert world.up(key) is True
            elif mode in ("refusing", "silent"):
                assert world.up(key) is (False if name in up_before else None)
        await world.stop()

    simulate(play)
