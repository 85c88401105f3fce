"""What a process counts travels as rows, and how its loop fares is measured."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.flow import Table, pulse
from isthmus.flow.replica import Publisher, Replica
from isthmus.flow.stats import READY, STATS, Metric, Sample, Stats, samples

PUSHES = Metric(name="isthmus_test_pushes", help="Pushes.", labels=("type",))
TIME = Metric(name="isthmus_test_seconds", help="Time.", kind="histogram", bounds=(0.1, 1.0))
METRICS = (READY, PUSHES, TIME)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "link.sock"


def told(table: Table[str, bytes]) -> list[tuple[str, Sample]]:
    return sorted(samples(table.items(), METRICS), key=str)


async def test_a_worker_tells_control_what_it_counts_and_that_it_is_ready(path: Path) -> None:
    counted: Table[str, bytes] = Table(STATS)
    worker = Stats("xds-0")
    pushes, ready = 1.0, False

    def read() -> list[Sample]:
        return [Sample(PUSHES, ("cds",), (pushes,)), Sample(TIME, (), (1.0, 0.0, 2.0, 30.5))]

    def counts(number: float, is_ready: float) -> list[tuple[str, Sample]]:
        found = [Sample(PUSHES, ("cds",), (number,)), Sample(TIME, (), (1.0, 0.0, 2.0, 30.5))]
        return sorted([("xds-0", one) for one in (*found, Sample(READY, (), (is_ready,)))], key=str)

    async def settles(wanted: list[tuple[str, Sample]]) -> None:
        async with asyncio.timeout(60):
            while told(counted) != wanted:
                await asyncio.sleep(0.01)

    running = [
        asyncio.create_task(Publisher(path, {}, {STATS: counted}).run()),
        asyncio.create_task(Replica(path, {}, {STATS: worker.table}, name="xds-0").run()),
        asyncio.create_task(worker.run(read, lambda: ready)),
    ]
    try:
        await settles(counts(1.0, 0.0))
        pushes, ready = 7.0, True
        await settles(counts(7.0, 1.0))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def test_what_did_not_change_is_not_written_again() -> None:
    stats = Stats("dns-0")
    changed: list[str] = []
    stats.table.observe(lambda key, _old, _new: changed.append(key))
    for number in (1.0, 1.0, 2.0):
        stats.write([Sample(PUSHES, ("cds",), (number,)), Sample(PUSHES, ("eds",), (0.0,))])
    assert changed == ["isthmus_test_pushes|cds", "isthmus_test_pushes|eds", "isthmus_test_pushes|cds"]


@given(st.dictionaries(st.text(max_size=40), st.binary(max_size=40), max_size=5))
def test_rows_of_another_version_are_passed_over(rows: dict[str, bytes]) -> None:
    """Whatever lies in the table, reading it raises nothing, and good rows are still read."""
    stats = Stats("control", prefix="control/")
    stats.write([Sample(PUSHES, ("cds",), (3.0,))])
    good = dict(stats.table.items())
    known = "w/isthmus_test_pushes"
    wrong = {f"{known}|a|b": b"\x91\x01", f"{known}|a": b"\x91\xa1x", f"{known}|b": b"\x92\x01\x02"}
    assert list(samples((rows | wrong | good).items(), METRICS)) == [
        ("control", Sample(PUSHES, ("cds",), (3.0,)))
    ]


async def test_the_lag_of_the_loop_is_counted_and_its_maximum_is_forgotten_in_time() -> None:
    now = 0.0
    loop = pulse.Pulse(lambda: now)

    def most() -> float:
        return next(one.numbers[0] for one in loop.samples() if one.metric is pulse.LAG_MOST)

    loop.late(0.003)
    loop.late(0.7)
    assert most() == 0.7
    now = pulse.WINDOW_SECONDS + 1
    loop.late(0.001)
    assert most() == 0.7  # the window before still counts
    now = 2 * pulse.WINDOW_SECONDS + 2
    loop.late(0.002)
    assert most() == 0.002
    found = {one.metric: one.numbers for one in loop.samples()}
    assert found[pulse.LAG] == (1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, pytest.approx(0.706))
    assert found[pulse.CPU][0] > 0
    assert found[pulse.MEMORY][0] > 1_000_000
    assert found[pulse.TASKS] == (1.0,)  # the one that asks
