"""What the live view gathers: shares that move, latencies per half second, failures, bounded memory."""

from __future__ import annotations

from isthmus.demo.board import EVENTS_KEPT, SHARE_SLOTS, SLOT_SECONDS, SLOTS_KEPT, Board, Door, Snapshot
from isthmus.demo.load import Query, Request

BEGAN = 1_000.0
FRONT = "front.shop.svc.clusterset.local"
WINDOW = SHARE_SLOTS * SLOT_SECONDS


def board() -> Board:
    return Board(
        began=BEGAN,
        clusters=["eu-1", "eu-2"],
        routed={f"{FRONT}:80": "front"},
        named={FRONT: "front"},
        owner=lambda address: "eu-2" if address.startswith("10.65.") else "eu-1",
    )


def request(at: float, cluster: str = "eu-1", ms: float = 2.0, status: int = 200) -> Request:
    return Request(BEGAN + at, ms, "eu-1", f"{FRONT}:80", status, cluster)


def query(at: float, *addresses: str, code: int = 0) -> Query:
    return Query(BEGAN + at, 1.0, "eu-1", FRONT, code, addresses)


def shares(snapshot: Snapshot, door: Door) -> dict[str, float]:
    row = next(r for r in snapshot.traffic if r.door == door)
    return {name: share.now for name, share in row.shares.items()}


def test_shares_are_of_the_last_two_seconds_and_say_that_they_move() -> None:
    shown = board()
    for n in range(20):
        shown.request(request(n / 10, "eu-1" if n % 2 else "eu-2"))
        shown.request(request(WINDOW + n / 10))
    half = shown.snapshot(BEGAN + WINDOW + 0.01)
    assert shares(half, "envoy") == {"eu-1": 0.5, "eu-2": 0.5}
    all_moved = shown.snapshot(BEGAN + 2 * WINDOW + 0.01)
    assert shares(all_moved, "envoy") == {"eu-1": 1.0, "eu-2": 0.0}
    row = all_moved.traffic[0]
    assert (row.shares["eu-1"].change, row.shares["eu-2"].change) == (0.5, -0.5)


def test_every_address_of_a_dns_answer_is_a_share_of_it() -> None:
    shown = board()
    shown.query(query(0.1, "10.64.1.0", "10.64.1.1", "10.65.1.0", "10.64.1.2"))
    assert shares(shown.snapshot(BEGAN + 1), "dns") == {"eu-1": 0.75, "eu-2": 0.25}


def test_latencies_are_told_per_half_second_and_the_one_under_way_is_not() -> None:
    shown = board()
    for n in range(100):
        shown.request(request(0.1, ms=1.0 if n < 98 else 300.0))
    shown.request(request(0.6, ms=9.0))
    now = shown.snapshot(BEGAN + 0.9)
    assert (now.p50[-1], now.p99[-1]) == (1.0, 300.0)
    assert now.p50[-2] is None
    assert shown.snapshot(BEGAN + 1.1).p50[-1] == 9.0


def test_an_answer_that_comes_late_counts_when_it_comes() -> None:
    shown = board()
    shown.request(request(0.1, ms=2.0))
    assert shown.snapshot(BEGAN + 0.6).p99[-1] == 2.0
    shown.request(request(0.05, ms=400.0))
    assert shown.snapshot(BEGAN + 0.6).p99[-1] == 400.0


def test_failures_are_counted_by_door_and_have_no_latency() -> None:
    shown = board()
    shown.request(request(0.1, status=503))
    for bad in (query(0.1), query(0.1, code=2), query(0.1, code=-1)):
        shown.query(bad)
    now = shown.snapshot(BEGAN + 1)
    assert (now.requests, now.failed, now.queries, now.queries_failed) == (1, 1, 3, 3)
    assert [(row.door, row.failed) for row in now.traffic] == [("envoy", 1), ("dns", 3)]
    assert set(now.p99) == {None}


def test_what_nobody_shows_is_passed_over() -> None:
    shown = board()
    shown.request(Request(BEGAN, 1.0, "eu-1", "other:80", 200, "eu-1"))
    assert shown.snapshot(BEGAN + 1).requests == 0


def test_the_past_is_forgotten_and_the_counts_are_not() -> None:
    shown = board()
    for n in range(3 * SLOTS_KEPT):
        shown.request(request(n * SLOT_SECONDS))
        shown.tell(BEGAN + n, "something")
    now = shown.snapshot(BEGAN + 3 * SLOTS_KEPT * SLOT_SECONDS)
    assert now.requests == 3 * SLOTS_KEPT
    assert len(now.p50) == SLOTS_KEPT
    assert len(now.events) == min(EVENTS_KEPT, 3 * SLOTS_KEPT)
    assert now.events[-1].at == 3 * SLOTS_KEPT - 1


def test_a_service_without_a_door_through_envoy_has_one_row() -> None:
    shown = Board(
        began=BEGAN,
        clusters=["eu-1"],
        routed={"a:80": "a"},
        named={"a": "a", "b": "b"},
        owner=lambda address: "eu-1",
    )
    assert [(r.service, r.door) for r in shown.snapshot(BEGAN).traffic] == [
        ("a", "envoy"),
        ("a", "dns"),
        ("b", "dns"),
    ]
