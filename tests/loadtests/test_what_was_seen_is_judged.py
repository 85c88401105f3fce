"""Expectations judge what was seen, and every one of them can fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from loadtests.load.expect import EXPECTATIONS, Finding, Seen, judge
from loadtests.load.marks import Mark, Phase
from loadtests.load.samples import Death, Sample, Samples

CLUSTERS = ("eu-1", "eu-2", "us-1")
BEGAN, ENDED, UNDONE, OVER = 5.0, 15.0, 15.5, 20.0


def mark(**other: Any) -> Mark:
    told = {
        "name": "silent",
        "fault": "cluster-silent",
        "victims": ("eu-2",),
        "began": BEGAN,
        "ended": ENDED,
        "undone": UNDONE,
        "evidence": "7 packets dropped",
    }
    return Mark(**{**told, **other})


def call(at: float, cluster: str, why: str = "", ms: float = 2.0, door: str = "grpc") -> Sample:
    return Sample(at, ms, door, "eu-1", cluster, why)


FIRST = [round(BEGAN + number / 100, 2) for number in range(100)]
"""The moments of the fault's first calls."""


def course(
    *,
    away: float = 0.0,
    lost: Sequence[float] = (),
    back: float = UNDONE,
    slow: float = 0.0,
    again: float = OVER,
    long: float = 2.5,
) -> list[Sample]:
    """100 calls a second in turn to all; eu-2 is left `away` seconds into the fault and joined at `back`.

    Calls due at the moments `lost` fail; those due in the fault's first `slow` seconds, and `long` seconds
    from `again` on, take 300 ms.
    """
    rows = []
    for number in range(2000):
        at = round(number / 100, 2)
        there = not BEGAN + away <= at < back
        cluster = CLUSTERS[number % 3] if there else ("eu-1", "us-1")[number % 2]
        ms = 300.0 if BEGAN <= at < BEGAN + slow or again <= at < again + long else 2.0
        rows.append(call(at, "", "timeout") if at in lost else call(at, cluster, ms=ms))
    return rows


def findings(
    kind: str, rows: Sequence[Sample], marks: Sequence[Mark] = (), **arguments: Any
) -> list[Finding]:
    expectation = EXPECTATIONS[kind](**arguments)
    return list(expectation.judge(Seen(began=0.0, ended=OVER, rows=rows, marks=marks)))


@pytest.mark.parametrize(
    ("kind", "arguments", "good", "bad"),
    [
        ("failures", {"most": 0}, course(), course(lost=[7.0])),
        ("failures", {"ratio": 0.001}, course(lost=[7.0]), course(lost=[7.0, 8.0, 9.0])),
        ("failures", {"most": 0, "event": "silent"}, course(lost=[1.0]), course(lost=[7.0])),
        ("failures", {"most": 0, "apart": ("silent",)}, course(lost=[7.0]), course(lost=[16.0])),
        (
            "between",
            {"after": 3.0, "but": {"silent": ("grpc",)}},
            course(lost=[4.5, 7.0, 18.0]),
            course(lost=[3.9]),
        ),
        ("between", {"after": 3.0}, course(), course(lost=[19.0])),
        ("in-flight", {"seconds": 1.5}, course(lost=[5.1, 6.4]), course(lost=[6.6])),
        ("in-flight", {"seconds": 1.5}, course(lost=FIRST[:63]), course(lost=FIRST[:64])),
        ("in-flight", {"seconds": 1.5, "share": 0.1}, course(lost=FIRST[:23]), course(lost=FIRST[:24])),
        ("detection", {"seconds": 1.5}, course(lost=FIRST[:49]), course(lost=FIRST[:51])),
        ("moves", {"seconds": 1.0}, course(away=0.9), course(away=1.2)),
        ("moves", {"seconds": 1.0}, course(slow=0.9), course(slow=1.2)),
        ("stale", {"seconds": 1.0}, course(away=0.9), course(away=1.2)),
        ("stale", {"seconds": 1.0}, course(away=0.9, lost=[5.5]), course(away=0.9, lost=[6.5])),
        ("returns", {"seconds": 2.0}, course(back=17.0), course(back=18.0)),
        ("returns", {"seconds": 2.0}, course(), course(back=OVER)),
        ("settles", {"seconds": 2.0}, course(slow=1.5), course(slow=2.5)),
        ("settles", {"seconds": 2.0}, course(), course(slow=10.0)),
        ("swings", {"most": 2}, course(), [*course()[:800], *course(back=8.0)[800:1000], *course()[1000:]]),
        ("settles", {"seconds": 2.0}, course(slow=1.5), course(slow=1.5, again=9.0)),
        ("settles", {"seconds": 2.0}, course(slow=1.5), course(slow=1.5, again=17.5)),
        # What a machine stutters is no relapse.
        ("settles", {"seconds": 2.0}, course(slow=1.5, again=9.0, long=1.5), course(again=9.0, long=2.6)),
        (
            "settles",
            {"seconds": 2.0, "calm_ms": 310.0},
            course(slow=2.5),
            course(lost=[round(BEGAN + n / 100, 2) for n in range(250)]),
        ),
        ("settles", {"seconds": 2.0, "over": True}, course(slow=11.5), course(slow=13.0)),
        ("p99", {"ms": 5.0}, course(), [call(n / 100, "eu-1", ms=9.0) for n in range(2000)]),
        ("p99", {"ms": 5.0}, course(), course(lost=[n / 100 for n in range(100)])),
    ],
)
def test_an_expectation_passes_and_fails(
    kind: str, arguments: Any, good: list[Sample], bad: list[Sample]
) -> None:
    (passed,) = findings(kind, good, [mark()], **arguments)
    (failed,) = findings(kind, bad, [mark()], **arguments)
    assert passed.passed, passed
    assert not failed.passed, failed


def test_a_door_without_calls_passes_nothing() -> None:
    for kind, expectation in EXPECTATIONS.items():
        given = {"seconds": 10.0, "ms": 10.0, "percent": 10.0, "after": 0.0, "what": "deaths", "most": 1}
        needed = {key: value for key, value in given.items() if key in expectation.__struct_fields__}
        wanted = expectation(doors=("grpc",), **needed)
        found = judge([wanted], Seen(began=0.0, ended=OVER, rows=[], marks=[mark()]))
        assert not any(finding.passed for finding in found), kind


def test_shares_are_held_against_the_bound_in_every_phase() -> None:
    plan = {"eu-1": 1 / 3, "eu-2": 1 / 3, "us-1": 1 / 3}
    even = mark(phases=(Phase(began=0.0, ended=5.0, shares=plan),))
    moved = mark(phases=(Phase(began=0.0, ended=5.0, shares=plan), Phase(began=6.0, ended=15.0, shares=plan)))
    (good,) = findings("shares", course(), [even])
    (bad,) = findings("shares", course(), [moved])
    assert good.passed
    assert not bad.passed
    assert bad.text == "eu-2: 0.0 % of 900, planned 33.3 %"


def test_what_a_fault_counted_has_a_bound_and_must_be_there() -> None:
    for counts, passed in (({"deaths": 3}, True), ({"deaths": 4}, False), ({}, False)):
        (finding,) = findings("counted", course(), [mark(counts=counts)], what="deaths", most=3)
        assert finding.passed is passed


def test_a_door_that_never_reached_the_victim_shows_nothing_of_it() -> None:
    """Nor does one that gives no answer at all, however long nobody is led to the victim by it."""
    apart = [call(n / 100, ("eu-1", "us-1")[n % 2]) for n in range(2000)]
    dead = [
        call(n / 100, "", "DNS SERVFAIL") if n >= 500 else call(n / 100, CLUSTERS[n % 3]) for n in range(2000)
    ]
    for rows in (apart, dead):
        for kind in ("moves", "stale", "returns"):
            (finding,) = findings(kind, rows, [mark()], seconds=2.0)
            assert not finding.passed, finding
        for kind in ("swings", "detection"):
            given = {"most": 2} if kind == "swings" else {"seconds": 2.0}
            (finding,) = findings(kind, rows, [mark()], **given)
            assert not finding.passed, finding


def test_calls_that_were_open_at_the_cut_are_told_and_may_be_lost() -> None:
    open_then = [call(BEGAN - 0.005, "", "reset", ms=20.0), call(BEGAN - 0.006, "eu-1", ms=20.0)]
    rows = sorted([*course(lost=FIRST[:63]), *open_then], key=lambda row: row.at)
    (finding,) = findings("in-flight", rows, [mark()], seconds=1.5)
    assert finding.passed
    assert (finding.value, finding.bound) == (64, 64)
    assert "64 calls failed: 1 of 2 that were open at the cut, 0 due later than 1.5 s" in finding.text


def test_calls_that_did_not_take_place_fail_the_scenario() -> None:
    def told(rows: Sequence[Sample], **other: Any) -> Seen:
        return Seen(
            began=0.0, ended=OVER, rows=rows, marks=[], rates={"grpc": 100.0}, callers=CLUSTERS, **other
        )

    few = [row for row in course() if not 7.0 <= row.at < 10.0]
    assert [f.passed for f in judge([], told(course()))] == [True]
    (missing,) = judge([], told(few))
    assert (missing.expectation, missing.passed, missing.value) == ("load", False, 0.15)
    (failures,) = EXPECTATIONS["failures"]().judge(told(few))
    assert not failures.passed
    assert failures.text == "1700 calls took place where 2000 were due"
    # The dead do not call.
    resting = [Death(cluster="us-1", began=5.0, ended=14.0)]
    assert [f.passed for f in judge([], told(few, deaths=resting))] == [True]
    (nobody,) = judge([], told([]))
    assert not nobody.passed


def test_what_others_disturb_is_theirs_and_a_relapse_is_not() -> None:
    other = mark(name="other", began=8.0, ended=8.9, undone=9.0)
    for again, passed in ((8.1, True), (11.0, False)):
        rows = course(again=again, long=1.8)
        (finding,) = findings("settles", rows, [mark(), other], seconds=1.0, event="silent")
        assert finding.passed is passed, finding


def test_a_fault_that_was_not_seen_to_bite_fails_the_scenario() -> None:
    for marks, rows, passed in (
        ([mark()], course(), True),
        ([mark(evidence="")], course(), False),
        ([mark()], course(away=-5.0), False),
    ):
        seen = Seen(began=0.0, ended=OVER, rows=rows, marks=marks)
        assert [finding.passed for finding in judge([], seen)] == [passed]


def test_rows_come_back_as_they_went_in_and_the_dead_are_left_out() -> None:
    rows = [call(3.0, "eu-2"), call(1.0, "", "timeout"), Sample(2.0, 4.0, "dns-udp", "us-1", "eu-1")]
    samples = Samples(rows)
    assert list(samples) == rows
    dead = [Death(cluster="us-1", began=2.003, ended=9.0)]
    assert samples.living(dead) == [rows[1], rows[0]]


def test_a_call_that_is_open_when_the_next_fault_begins_was_cut_by_that_one() -> None:
    first, second = mark(), mark(name="again", began=BEGAN + 22.0, ended=BEGAN + 30.0, undone=BEGAN + 30.0)
    steady = [
        Sample(at, 5.0, "grpc", "us-1", ("eu-1", "eu-2")[n % 2]) for n, at in enumerate(every(0.0, 40.0))
    ]
    torn = Sample(BEGAN + 21.99, 2000.0, "grpc", "us-1", "eu-2", "UNAVAILABLE")
    seen = Seen(began=0.0, ended=60.0, rows=[*steady, torn], marks=[first, second])
    for event, failed in (("silent", 0.0), ("again", 1.0)):
        (finding,) = EXPECTATIONS["in-flight"](doors=("grpc",), event=event, seconds=1.8).judge(seen)
        assert (finding.passed, finding.value) == (True, failed), finding


def every(since: float, until: float) -> list[float]:
    """Ten moments a second."""
    return [since + n / 10 for n in range(int((until - since) * 10))]
