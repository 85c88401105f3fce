"""Checks that nobody asked for: what they cost while nothing fails, and how soon they notice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_simulation import Network, World, simulate

from isthmus.model.health import CheckKey
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes.budget import Budget
from isthmus.probes.canaries import HURRIED_SECONDS, Canaries, intervals
from isthmus.probes.targets import DEFAULT_CHECK

RATE = 1_500.0


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 20_000), max_size=8))
def test_all_canaries_together_stay_within_the_rate_and_the_few_wait_for_nobody(
    counts: dict[str, int],
) -> None:
    found = intervals(counts, RATE)
    assert found.keys() == {cluster for cluster, count in counts.items() if count}
    assert all(seconds >= DEFAULT_CHECK.interval - 1e-9 for seconds in found.values())
    spent = sum(counts[cluster] / seconds for cluster, seconds in found.items())
    assert spent <= RATE * (1 + 1e-9)
    if sum(counts.values()) / DEFAULT_CHECK.interval >= RATE:
        assert spent == pytest.approx(RATE)
    fair = RATE / len(found) if found else 0.0
    for cluster, seconds in found.items():
        if counts[cluster] / DEFAULT_CHECK.interval <= fair:
            assert seconds == pytest.approx(DEFAULT_CHECK.interval)


def test_the_death_of_one_service_brings_forward_its_own_canaries_only() -> None:
    async def play() -> None:
        world = large(clusters=2, services=100)
        await world.until(lambda: len(world.health) == 601 and all(row.up for row in world.health.values()))
        await world.wait(20)
        dead = [key for key in world.rows if key.cluster == "c0" and key.service.name == "s7"]
        assert len(dead) == 3
        world.network.mode = {key.endpoint: "refusing" for key in dead}
        world.network.checks.clear()
        first = await world.until(
            lambda: any((row := world.health.get(key)) and row.wavering for key in dead)
        )
        assert await world.until(lambda: not any(world.up(key) for key in dead)) - first <= 0.3
        others = [address for at, address in world.network.checks if at >= first and "s7" not in address]
        assert len(others) <= 60, "a hundred a second"
        await world.stop()

    simulate(play)


def large(*, clusters: int, services: int) -> World:
    """Three canaries of each service in each cluster, far more than may be checked twice a second."""
    world = World(Network(), budget=Budget(canary_rate=106.0))
    for cluster in range(clusters):
        for service in range(services):
            for number in range(3):
                name = f"c{cluster}s{service}-{number}"
                target = world.target(name, canary=True)
                key = CheckKey(ServiceKey("shop", f"s{service}"), f"c{cluster}", EndpointId(name), "TCP/80")
                world.targets.put(key, target)
    world.add("own", cluster="own")
    return world


def test_clusters_that_flap_for_ever_are_not_checked_all_the_time() -> None:
    canaries = Canaries(Budget(canary_rate=100.0, hurried=500))
    for service in range(200):
        canaries.come(check(service))
    called, now = 0, 0.0
    for step in range(6_000):
        now = 1_000.0 + step * 0.1
        found = list(canaries.forward(check(step % 200), now))
        called += len(found) if len(found) > 1 else 0
    assert called <= 500 + 600 * 500 / HURRIED_SECONDS + 200
    assert called >= 500


def check(service: int) -> CheckKey:
    return CheckKey(ServiceKey("shop", f"s{service}"), "far", EndpointId("a"), "TCP/80")
