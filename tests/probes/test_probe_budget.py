"""What checks may cost, and who waits (pure)."""

from __future__ import annotations

import resource
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.health import CheckKey
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes.budget import (
    BURST_SECONDS,
    HOST_BURST_SECONDS,
    Budget,
    Hosts,
    Places,
    Turns,
    affordable,
)

CLUSTERS = st.sampled_from("abcd")
Item = tuple[str, int]


def key(cluster: str, number: int) -> CheckKey:
    return CheckKey(ServiceKey("shop", "web"), cluster, EndpointId(str(number)), "TCP/80")


moves = st.one_of(
    st.tuples(st.just("ask"), CLUSTERS),
    st.tuples(st.just("done"), CLUSTERS),
    st.tuples(st.just("pass"), st.sampled_from(["0.001", "0.05", "1"])),
)


@given(st.lists(moves, max_size=300), st.integers(1, 8), st.sampled_from([10.0, 100.0]))
def test_turns_keep_the_limits_and_lose_nobody(
    plan: list[tuple[str, str]], at_once: int, rate: float
) -> None:
    turns: Turns[Item] = Turns(Budget(at_once=at_once, rate=rate))
    now, asked = 100.0, 0
    busy: Counter[str] = Counter()
    began: list[float] = []
    order: list[Item] = []

    def begin(item: Item) -> None:
        busy[item[0]] += 1
        began.append(now)
        order.append(item)
        assert busy.total() <= at_once
        free = at_once - busy.total()
        assert busy[item[0]] <= free + 1 or busy[item[0]] == 1
        recent = [at for at in began if at > now - 1.0]
        assert len(recent) <= rate * (1.0 + BURST_SECONDS) + 1

    for move, what in plan:
        if move == "ask":
            item = (what, asked)
            asked += 1
            if turns.ask(what, item, now):
                begin(item)
        elif move == "done" and busy[what]:
            busy[what] -= 1
            turns.done(what)
        elif move == "pass":
            now += float(what)
        for item in turns.ready(now):
            begin(item)
        if (again := turns.again(now)) is not None:
            assert again > now
    while turns.waiting:
        now = turns.again(now) or now + 1e-9
        for cluster in list(busy):
            for _ in range(busy[cluster]):
                turns.done(cluster)
            busy[cluster] = 0
        for item in turns.ready(now):
            begin(item)
    assert len(order) == asked
    for cluster in "abcd":
        numbers = [number for name, number in order if name == cluster]
        assert numbers == sorted(numbers)  # first come, first served


def test_a_cluster_of_silent_targets_never_holds_all_checks() -> None:
    turns: Turns[Item] = Turns(Budget(at_once=100, rate=1e9))
    held = sum(turns.ask("silent", ("silent", n), 0.0) for n in range(10_000))
    assert held == 50
    assert not turns.ask("other", ("other", 0), 0.0)  # behind those that wait, but not for long
    assert turns.ready(0.0) == [("other", 0)]


def test_under_the_rate_clusters_take_turns() -> None:
    turns: Turns[Item] = Turns(Budget(at_once=1_000, rate=10.0))
    for n in range(500):
        turns.ask("many", ("many", n), 0.0)
    for n in range(3):
        turns.ask("few", ("few", n), 0.0)
    served = [item for step in range(1, 20) for item in turns.ready(step * 0.1)]
    assert sum(name == "few" for name, _ in served[:6]) == 3


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0, 0.05)), max_size=200))
def test_a_host_is_never_asked_more_often_than_it_may(asked: list[tuple[str, float]]) -> None:
    hosts, now = Hosts(Budget(host_rate=20.0)), 0.0
    began: dict[str, list[float]] = {"x": [], "y": [], "z": []}
    for host, pause in asked:
        now += pause
        at = hosts.book(host, now)
        assert at >= now
        began[host].append(at)
    for times in began.values():
        assert times == sorted(times)
        for at in times:
            # A rate with a burst: so many in any window of a second.
            assert len([t for t in times if at <= t < at + 1.0]) <= 20 * (1.0 + HOST_BURST_SECONDS) + 2


def test_hosts_that_are_not_asked_any_more_are_forgotten() -> None:
    hosts = Hosts(Budget())
    for n in range(100_000):
        hosts.book(str(n), float(n))
    assert len(hosts._booked) < 2_000


comings = st.lists(st.tuples(st.booleans(), CLUSTERS, st.integers(0, 9)), max_size=200)


@given(comings, st.integers(1, 8))
def test_places_go_to_those_who_have_the_fewest(plan: list[tuple[bool, str, int]], limit: int) -> None:
    places, held, present = Places(Budget(targets=limit)), set(), set()
    for comes, cluster, number in plan:
        one = key(cluster, number)
        if comes and one not in present:
            present.add(one)
            loser = places.come(one)
            held.add(one)
            held.discard(loser)  # type: ignore[arg-type]
        elif not comes and one in present:
            present.discard(one)
            held.discard(one)
            if (heir := places.go(one)) is not None:
                assert heir in present
                held.add(heir)
        assert len(held) == min(limit, len(present))
        assert places.waiting == len(present) - len(held)
        assert all(places.waits(one) is (one not in held) for one in present)
        counts = Counter(one.cluster for one in held)
        for one in present - held:  # who waits has no fewer places than others, but for one
            assert counts[one.cluster] >= max(counts.values()) - 1


def test_no_more_checks_at_once_than_half_of_the_files_that_may_be_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert affordable(Budget(at_once=2_000)).at_once == 100
        assert affordable(Budget(at_once=7)).at_once == 7
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
