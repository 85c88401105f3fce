"""Whom the prober believes (architecture, rule 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_simulation import Network, World, simulate

from isthmus.model.health import HealthCheck
from isthmus.probes import anchors, lag
from isthmus.probes.prober import anchor

API = anchor("api", 443)
PATIENCE = 30.0


@pytest.mark.parametrize(
    ("answered", "first_failure", "last_proof", "expected"),
    [
        (0, 10.0, anchors.NEVER, True),
        (1, 10.0, anchors.NEVER, False),
        (1, 10.0, 9.9, False),
        (1, 10.0, 10.0, True),
        (2, 10.0, 11.0, True),
    ],
)
def test_failures_count_when_something_else_passed_since(
    answered: int, first_failure: float, last_proof: float, expected: bool
) -> None:
    assert anchors.believed(anchors=answered, first_failure=first_failure, last_proof=last_proof) is expected


@given(st.floats(0, 10), st.floats(0.01, 10))
def test_a_failure_on_time_is_never_the_loops_fault(early: float, timeout: float) -> None:
    assert not lag.excuses(late=min(early, timeout) - timeout, timeout=timeout)
    assert lag.excuses(late=early + 0.3, timeout=timeout)


KINDS = pytest.mark.parametrize("kind", ["silent", "refusing"])


@KINDS
@pytest.mark.parametrize("with_api", [True, False])
@pytest.mark.parametrize("with_own", [True, False])
def test_the_loss_of_one_remote_cluster_is_a_verdict_at_once(
    kind: str, with_api: bool, with_own: bool
) -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,) if with_api else ())
        far = [world.add(f"far{n}") for n in range(20)]
        own = [world.add("own0", cluster="own")] if with_own else []
        await world.until(lambda: all(world.up(key) for key in (*far, *own)))
        await world.wait(3)
        world.network.mode |= {f"far{n}": kind for n in range(20)}
        died = world.now
        await world.until(lambda: not any(world.up(key) for key in far))
        assert world.now - died <= (1.5 if kind == "silent" else 0.7)
        assert all(world.up(key) for key in own)
        await world.stop()

    simulate(play)


@KINDS
def test_the_loss_of_everything_freezes_verdicts_until_something_answers(kind: str) -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,))
        names = {"own0": "own", "far0": "far", "far1": "far", "third0": "third"}
        keys = {name: world.add(name, cluster=cluster) for name, cluster in names.items()}
        await world.until(lambda: all(world.up(key) for key in keys.values()))
        world.network.mode = dict.fromkeys([*names, "api"], kind)
        await world.wait(PATIENCE)
        assert all(world.up(key) for key in keys.values())

        # The network returns, but far1 has died meanwhile: nobody else goes down, and far1 does.
        world.network.mode = {"far1": kind}
        await world.until(lambda: world.up(keys["far1"]) is False)
        await world.wait(PATIENCE)
        downs = {key.endpoint for _, key, row in world.history if row is not None and row.up is False}
        assert downs == {"far1"}
        await world.stop()

    simulate(play)


@pytest.mark.parametrize("survivor", ["api", "own0", "far0"])
def test_any_check_that_passes_is_proof_enough(survivor: str) -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,))
        names = {"own0": "own", "own1": "own", "far0": "far", "far1": "far"}
        keys = {name: world.add(name, cluster=cluster) for name, cluster in names.items()}
        await world.until(lambda: all(world.up(key) for key in keys.values()))
        world.network.mode = dict.fromkeys({*names, "api"} - {survivor}, "silent")
        lost = world.now
        lost_keys = [key for name, key in keys.items() if name != survivor]
        await world.until(lambda: not any(world.up(key) for key in lost_keys))
        assert world.now - lost <= 2.5
        await world.stop()

    simulate(play)


def test_without_anchors_the_checks_themselves_are_believed() -> None:
    async def play() -> None:
        world = World(Network(mode={"api": "refusing", "own0": "refusing"}), api_servers=(API,))
        far, own = world.add("far0"), world.add("own0", cluster="own")
        await world.until(lambda: world.up(far) is True)
        world.network.dead = True
        await world.until(lambda: world.up(far) is False)
        assert world.up(own) is None
        await world.stop()

    simulate(play)


def test_an_anchor_that_is_removed_no_longer_counts() -> None:
    async def play() -> None:
        world = World(Network())
        far, own = world.add("far0"), world.add("own0", cluster="own")
        await world.until(lambda: bool(world.up(far) and world.up(own)))
        world.network.dead = True
        await world.wait(PATIENCE)
        assert world.up(far) is True
        world.targets.drop(own)
        await world.until(lambda: world.up(far) is False)
        await world.stop()

    simulate(play)


@pytest.mark.parametrize("kind", ["broken here", "bug"])
def test_the_probers_own_trouble_is_no_targets_fault(kind: str) -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,))
        key, other = world.add("far0"), world.add("far1")
        await world.until(lambda: bool(world.up(key) and world.up(other)))
        world.network.mode["far0"] = kind
        begin, rows = world.now, len(world.history)
        await world.wait(PATIENCE)
        assert world.up(key) is True
        assert len(world.history) == rows
        assert sum(at > begin and address == "far0" for at, address in world.network.checks) > 10
        await world.stop()

    simulate(play)


def test_an_outage_of_everything_costs_hardly_more_checks_than_health() -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,))
        keys = [world.add(f"far{n}") for n in range(20)]
        await world.until(lambda: all(world.up(key) for key in keys))
        world.network.mode = dict.fromkeys([*(f"far{n}" for n in range(20)), "api"], "refusing")
        await world.wait(5)
        world.network.checks.clear()
        await world.wait(60)
        asked = [address for _, address in world.network.checks]
        assert len(asked) - asked.count("api") < 20 * 140
        assert asked.count("api") < 800  # the anchor is asked at most every 100 ms
        assert all(world.up(key) for key in keys)
        await world.stop()

    simulate(play)


def test_siblings_testify_where_there_is_nobody_else() -> None:
    async def play() -> None:
        slow = HealthCheck(interval=10.0)
        world = World(Network())
        keys = [world.add(f"own{n}", cluster="own", check=slow) for n in range(3)]
        await world.until(lambda: all(world.up(key) for key in keys))
        world.network.mode["own0"] = "refusing"
        await world.until(lambda: bool((row := world.health.get(keys[0])) and row.wavering))
        failed = world.now
        assert await world.until(lambda: world.up(keys[0]) is False) - failed <= 0.2
        await world.stop()

    simulate(play)


def test_a_single_failure_is_enough_where_that_is_asked_and_another_check_passed_meanwhile() -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,))
        hasty = HealthCheck(fall=1, interval=10.0, timeout=2.0)
        key = world.add("far0", check=hasty)
        await world.until(lambda: world.up(key) is True)
        world.network.mode["far0"] = "silent"
        world.network.checks.clear()
        await world.until(lambda: world.up(key) is False)
        assert [address for _, address in world.network.checks].count("far0") == 1
        await world.stop()

    simulate(play)


def test_a_timeout_noticed_late_is_the_loops_fault() -> None:
    async def play() -> None:
        world = World(Network(), api_servers=(API,))
        key = world.add("far0")
        await world.until(lambda: world.up(key) is True)
        world.network.mode["far0"] = "late"
        await world.wait(PATIENCE)
        assert world.up(key) is True
        world.network.mode["far0"] = "silent"
        await world.until(lambda: world.up(key) is False)
        await world.stop()

    simulate(play)
