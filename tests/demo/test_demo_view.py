"""The view fits every window and says everything without colour and without UTF-8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.demo.board import ClusterRow, Event, Share, Snapshot, TrafficRow
from isthmus.demo.glyphs import ASCII, UNICODE, Glyphs, bar, fit, glyphs_for, sparkline
from isthmus.demo.interactive import HELP
from isthmus.demo.view import lines

SERVICES = ("front", "cart", "checkout")


def snapshot(clusters: int = 3, *, failed: int = 0, hub_cut: bool = False, events: int = 3) -> Snapshot:
    names = [f"eu-{n + 1}" for n in range(clusters)]
    rows = tuple(
        ClusterRow(name=name, done="silent" if n == 1 else "", seen="unknown" if n == 1 else "serving")
        for n, name in enumerate(names)
    )
    shares = {
        name: Share(now=0.5 if n != 1 else 0.0, change=-0.3 if n == 1 else 0.1)
        for n, name in enumerate(names)
    }
    return Snapshot(
        elapsed=75.0,
        rate=200.0,
        requests=12_345,
        failed=failed,
        queries=4_321,
        queries_failed=0,
        hub_cut=hub_cut,
        clusters=rows,
        traffic=tuple(
            TrafficRow(service=s, door=door, shares=shares, failed=failed)
            for s in SERVICES
            for door in ("envoy", "dns")
        ),
        p50=(None, 1.0, 2.0) * 20,
        p99=(None, 10.0, 4_000.0) * 20,
        events=tuple(Event(at=float(n), text=f"event {n} of eu-2", tone="bad") for n in range(events)),
        decisions=(
            Event(at=9.0, text="front: eu-2 33% to 0%, eu-1 33% to 50%; 2 endpoints fail checks in eu-2"),
        ),
        vantage="eu-1",
        chosen="eu-2",
        keys=f"{HELP} 1-3",
    )


def text(given: Snapshot, width: int, height: int = 30, glyphs: Glyphs = UNICODE) -> str:
    return "\n".join(line.plain for line in lines(given, width, height, glyphs))


@pytest.mark.parametrize("width", [60, 100, 160])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_everything_is_said_in_every_usual_window(width: int, glyphs: Glyphs) -> None:
    shown = text(snapshot(hub_cut=True), width, 30, glyphs)
    for word in ("eu-1", "[eu-2]", "eu-3", "SILENT", "serving", "HUB CUT OFF", "12345 requests, 0 failed"):
        assert word in shown
    for word in (*SERVICES, "envoy", "dns", "p50 latency", "p99 latency", "what happened", "event 2 of eu-2"):
        assert word in shown
    for word in (
        "what the planner decided for callers in eu-1",
        "front: eu-2 33% to 0%",
        "q)uit 1-3",
        " 50%",
        "  0%",
    ):
        assert word in shown
    if glyphs is ASCII:
        assert shown.isascii()
    else:
        assert "▆" in shown


@given(
    width=st.integers(20, 200),
    height=st.integers(5, 70),
    clusters=st.integers(1, 60),
    failed=st.integers(0, 10**6),
    glyphs=st.sampled_from([UNICODE, ASCII]),
)
def test_no_window_is_too_small_and_no_line_too_long(
    width: int, height: int, clusters: int, failed: int, glyphs: Glyphs
) -> None:
    found = lines(snapshot(clusters, failed=failed), width, height, glyphs)
    assert len(found) == height
    assert all(line.cell_len <= width for line in found)
    assert all("\n" not in line.plain for line in found)


def test_clusters_and_rows_that_do_not_fit_are_counted() -> None:
    assert "+16 clusters" in text(snapshot(20), 60)
    assert "+4 rows" in text(snapshot(), 60, 12)


def test_the_newest_comes_first_and_the_oldest_falls_out() -> None:
    shown = text(snapshot(events=50), 60, 30)
    assert shown.index("event 49") < shown.index("event 48")
    assert "event 0 " not in shown


def test_failures_are_told_in_words_at_their_rows() -> None:
    shown = text(snapshot(failed=7), 100)
    assert "12345 requests, 7 failed" in shown
    assert "7 ERR front" in shown


def test_shares_that_move_are_marked_with_their_direction() -> None:
    row = next(line for line in text(snapshot(), 100).splitlines() if line.startswith("front"))
    assert row.count("50%↑") == 2
    assert row.count("0%↓") == 1
    ascii_row = next(r for r in text(snapshot(), 100, 30, ASCII).splitlines() if r.startswith("front"))
    assert ascii_row.count("50%+") == 2
    assert ascii_row.count("0%-") == 1


def test_bars_show_whatever_is_more_than_nothing() -> None:
    assert bar(ASCII, 0.0, 4) == "...."
    assert bar(ASCII, 0.001, 4) == "#..."
    assert bar(ASCII, 1.0, 4) == "####"
    assert bar(ASCII, 0.5, 0) == ""


def test_sparklines_rise_with_the_logarithm_and_keep_gaps() -> None:
    drawn = sparkline(UNICODE, [None, 0.1, 1.0, 70.0, 5_000.0, 99_999.0], 8)
    assert drawn == "   ▁▁▄██"
    assert sparkline(UNICODE, [1.0] * 9, 3) == "▁▁▁"
    assert sparkline(UNICODE, [1.0], 0) == ""


def test_text_that_would_disturb_the_window_is_replaced() -> None:
    assert fit(UNICODE, "a\x1b[2Jb\n", 20) == "a?[2Jb?"
    assert fit(UNICODE, "世é", 20) == "?é"
    assert fit(ASCII, "é…", 20) == "??"
    assert fit(UNICODE, "abcdef", 4) == "abc…"
    assert fit(ASCII, "abcdef", 4) == "abc~"
    assert fit(ASCII, "abcdef", 0) == ""


def test_the_locale_says_what_the_terminal_can_show() -> None:
    assert glyphs_for({"LANG": "en_GB.UTF-8"}) is UNICODE
    assert glyphs_for({"LC_ALL": "C", "LANG": "en_GB.UTF-8"}) is ASCII
    assert glyphs_for({"LC_ALL": "", "LC_CTYPE": "C.utf8"}) is UNICODE
    assert glyphs_for({}) is ASCII
