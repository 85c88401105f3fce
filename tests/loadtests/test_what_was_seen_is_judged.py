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


def course(
    *, away: float = 0.0, lost: Sequence[float] = (), back: float = UNDONE, slow: float = 0.0
) -> list[Sample]:
    """100 calls a second in turn to all; eu-2 is left `away` seconds into the fault and joined at `back`.

    Calls due at the moments `lost` fail; those due in the fault's first `slow` seconds take 300 ms.
    """
    rows = []
    for number in range(2000):
        at = round(number / 100, 2)
        there = not BEGAN + away <= at < back
        cluster = CLUSTERS[number % 3] if there else ("eu-1", "us-1")[number % 2]
        ms = 300.0 if BEGAN <= at < BEGAN + slow else 2.0
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
        ("between", {"after": 3.0}, course(lost=[4.5, 7.0, 18.0]), course(lost=[3.9])),
        ("between", {"after": 3.0}, course(), course(lost=[19.0])),
        ("in-flight", {"seconds": 1.5}, course(lost=[5.1, 6.4]), course(lost=[6.6])),
        ("in-flight", {"seconds": 1.5}, course(), course(lost=[5 + n / 100 for n in range(100)])),
        ("detection", {"seconds": 1.5}, course(lost=[9.0]), course(lost=[5 + n / 100 for n in range(100)])),
        ("moves", {"seconds": 1.0}, course(away=0.9), course(away=1.2)),
        ("moves", {"seconds": 1.0}, course(slow=0.9), course(slow=1.2)),
        ("stale", {"seconds": 1.0}, course(away=0.9), course(away=1.2)),
        ("returns", {"seconds": 2.0}, course(back=17.0), course(back=18.0)),
        ("returns", {"seconds": 2.0}, course(), course(back=OVER)),
        ("settles", {"seconds": 2.0}, course(slow=1.5), course(slow=2.5)),
        ("settles", {"seconds": 2.0}, course(), course(slow=10.0)),
        ("swings", {"most": 2}, course(), [*course()[:800], *course(back=8.0)[800:1000], *course()[1000:]]),
        ("p99", {"ms": 5.0}, course(), [call(n / 100, "eu-1", ms=9.0) for n in range(2000)]),
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


def test_memory_must_not_grow() -> None:
    flat = [(n / 2, 100.0 + n % 2) for n in range(40)]
    grown = [(n / 2, 100.0 + n) for n in range(40)]
    for taken, passed in ((flat, True), (grown, False)):
        seen = Seen(began=0.0, ended=OVER, rows=[], marks=[], memory=taken)
        (finding,) = EXPECTATIONS["memory"](percent=5.0).judge(seen)
        assert finding.passed is passed


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
