"""What a change costs grows with the streams that want it: counted, not timed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from ads_client import CDS, EDS, Client, World, key, value

from isthmus.xds.stream import Stream

CONNECT: dict[str, Callable[[World], Client]] = {"sotw": World.connect, "delta": World.connect_delta}
SERVICES = [f"s{number}" for number in range(12)]


def cost(world: World, name: str, number: int = 1) -> tuple[set[Stream], int]:
    """Streams of which any code ran while a row changed, and how many calls that took."""
    streams: set[Stream] = set()
    calls = 0

    def look(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        one = frame.f_locals.get("self") if event == "call" else None
        if isinstance(one, Stream):
            streams.add(one)

    rows = {key(name): value(name.partition("_")[2], number)}
    gc.disable()  # what others left behind may have finalizers that would be counted
    sys.setprofile(look)
    try:
        world.batch(rows)
    finally:
        sys.setprofile(None)
        gc.enable()
    return streams, calls


def subscribed(world: World, connect: Callable[[World], Client], *names: str) -> Client:
    """A client that wants the assignments of these services and no clusters."""
    client = connect(world)
    client.subscribe(EDS, frozenset(names))
    client.settle()
    client.received.clear()
    return client


@pytest.mark.parametrize("connect", CONNECT.values(), ids=CONNECT)
def test_a_flip_touches_the_streams_that_hold_the_service_and_no_others(
    connect: Callable[[World], Client],
) -> None:
    world = World.of(SERVICES)
    holders = [subscribed(world, connect, "s0", f"s{number}") for number in range(1, 5)]
    others = [subscribed(world, connect, *SERVICES[number:]) for number in range(1, 8)]
    streams, _ = cost(world, "eds_s0")
    assert streams == {client.stream for client in holders}
    assert all(client.received for client in holders)
    assert not any(client.received for client in others)


@pytest.mark.parametrize("connect", CONNECT.values(), ids=CONNECT)
@pytest.mark.parametrize("equal", [True, False], ids=["that want the same", "that want other things each"])
def test_bystanders_cost_nothing(connect: Callable[[World], Client], equal: bool) -> None:
    """However many there are, and however many sets of names they hold."""
    calls = set()
    for bystanders in (5, 50):
        world = World.of(SERVICES)
        subscribed(world, connect, "s0")
        for number in range(bystanders):
            subscribed(world, connect, "s1", *([] if equal else [f"of its own {number}"]))
        calls.add(cost(world, "eds_s0")[1])
    assert len(calls) == 1


@pytest.mark.parametrize("connect", CONNECT.values(), ids=CONNECT)
def test_a_cluster_touches_the_streams_that_want_everything_and_those_that_name_it(
    connect: Callable[[World], Client],
) -> None:
    world = World.of(SERVICES)
    everything, naming, other = connect(world), connect(world), connect(world)
    everything.subscribe(CDS, frozenset({"*"}))
    naming.subscribe(CDS, frozenset({"s0"}))
    other.subscribe(CDS, frozenset({"s1"}))
    for client in (everything, naming, other):
        client.inbox.clear()
    assert cost(world, "cds_s0")[0] == {everything.stream, naming.stream}


@pytest.mark.parametrize("connect", CONNECT.values(), ids=CONNECT)
def test_who_has_left_a_name_or_the_worker_is_not_touched(connect: Callable[[World], Client]) -> None:
    world = World.of(SERVICES)
    stays, leaves, goes = (subscribed(world, connect, "s0", "s1") for _ in range(3))
    leaves.subscribe(EDS, frozenset({"s1"}))
    goes.stream.close()
    assert cost(world, "eds_s0")[0] == {stays.stream}
    leaves.subscribe(EDS, frozenset({"s0"}))
    for client in (stays, leaves):
        client.settle()
    assert cost(world, "eds_s0", 2)[0] == {stays.stream, leaves.stream}
    assert cost(world, "eds_s1", 2)[0] == {stays.stream}


def test_nothing_is_kept_of_streams_that_are_gone() -> None:
    world = World.of(SERVICES)
    clients = [subscribed(world, connect, "s0", "s1") for connect in CONNECT.values()]
    clients += [world.connect().started(), world.connect_delta().started()]
    for client in clients:
        client.stream.close()
    holders = world.ads.holders
    assert not any(vars(holders).values())
