"""A host that gives a machine's processors to others is seen; times that were missed then are taken again."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from loadtests.load import run
from loadtests.load.expect import EXPECTATIONS, Finding, missed_times_only
from loadtests.load.machine import MOST_WITHHELD, Ticks, ticks
from loadtests.load.order import EXIT_FAILED, EXIT_PASSED
from loadtests.load.result import SCHEMA, Result, Surroundings
from loadtests.load.run import says_little, telling
from loadtests.load.terminal import show_summary

TIMES = ("p99", "returns", "settles")


def finding(name: str, passed: bool = False) -> Finding:
    return Finding(expectation=name, value=None, passed=passed)


def result(withheld: float, *findings: Finding) -> Result:
    around = Surroundings(
        command="", started="", machine="", cores=2, load_average=0.0, withheld=withheld, versions={}
    )
    return Result(
        schema=SCHEMA,
        scenario="mine",
        about="",
        passed=all(each.passed for each in findings),
        seconds=1.0,
        step_s=0.5,
        rates={},
        clusters=[],
        accidents=[],
        findings=list(findings),
        doors=[],
        memory_mb=[],
        levels=[],
        peers=[],
        peer_doors=[],
        surroundings=around,
    )


def test_the_part_of_time_that_the_host_withheld_is_read(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 10 0 10 30 7 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    before = ticks(stat)
    assert before == Ticks(withheld=30, every=1000)
    stat.write_text("cpu  150 0 75 810 10 0 15 40 8 0\n")
    assert ticks(stat).part(before) == pytest.approx(10 / 100)
    assert before.part(before) == 0


def test_the_kernel_tells_the_time_of_all_processors() -> None:
    before = ticks()
    assert before.every > before.withheld >= 0
    assert ticks().every >= before.every


def test_only_bounds_that_are_times_are_times() -> None:
    assert [name for name, kind in sorted(EXPECTATIONS.items()) if kind.of_times] == list(TIMES)


@pytest.mark.parametrize(
    ("findings", "only"),
    [
        ([finding("settles", passed=True)], False),
        ([finding("settles")], True),
        ([finding("settles"), finding("load"), finding("failures", passed=True)], True),
        ([finding("settles"), finding("failures")], False),
        ([finding("settles"), finding("in-flight")], False),
        ([finding("bites")], False),
        ([finding("ends")], False),
        ([], False),
    ],
)
def test_what_was_missed_beside_times_says_something(findings: list[Finding], only: bool) -> None:
    assert missed_times_only(findings) is only
    assert says_little(result(2 * MOST_WITHHELD, *findings)) is only
    assert not says_little(result(MOST_WITHHELD, *findings))


@pytest.mark.parametrize(
    ("again", "plays", "code"),
    [(0, 1, EXIT_FAILED), (1, 2, EXIT_FAILED), (2, 3, EXIT_PASSED), (5, 3, EXIT_PASSED)],
)
def test_what_says_little_is_played_again_and_the_last_play_stands(
    again: int, plays: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0.0)
    told = [result(0.2, finding("settles")), result(0.3, finding("returns")), result(0.3)]
    played: list[Result] = []

    def once() -> tuple[int, Result | None]:
        played.append(told[len(played)])
        return EXIT_PASSED if played[-1].passed else EXIT_FAILED, played[-1]

    said = io.StringIO()
    assert telling(once, again, Console(file=said, width=200)) == (code, played[-1])
    assert len(played) == plays
    assert said.getvalue().count("played again") == plays - 1
    assert plays == 1 or "withheld 20% of the processor time" in said.getvalue()


@pytest.mark.parametrize("kept", [None, result(0.0, finding("settles")), result(0.5, finding("failures"))])
def test_what_says_enough_is_played_once(kept: Result | None) -> None:
    plays = iter([(EXIT_FAILED, kept)])
    assert telling(lambda: next(plays), 2, Console(file=io.StringIO())) == (EXIT_FAILED, kept)


def test_people_see_what_the_host_withheld(tmp_path: Path) -> None:
    missed = result(0.4, finding("settles"))
    said = io.StringIO()
    show_summary([("mine", missed, 1.0)], 2.0, tmp_path, Console(file=said, width=200))
    (mine,) = (line for line in said.getvalue().splitlines() if "0 of 1" in line)
    assert "FAILED" in mine
    assert "withheld up to 40% of the processor time while 1 of 1 were played" in said.getvalue()


def test_a_result_of_before_is_read() -> None:
    old = msgspec.to_builtins(result(0.1))
    del old["surroundings"]["withheld"]
    assert msgspec.convert(old, type=Result).surroundings.withheld == 0
