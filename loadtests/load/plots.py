"""The plots of a report as SVG that can stand inside a page: text stays text, colours follow the page.

Pure: a result in, markup out. Accidents are bands, from their beginning until they are undone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from loadtests.load.result import DoorResult, Result

CLUSTER_COLOURS = ("#3b7dd8", "#e8963a", "#4caf7d", "#c06fa8", "#5bb8c4", "#b08968")
FAILED_COLOUR = "#d6404b"
BAND_COLOUR = "#d6404b"
P50_COLOUR, P99_COLOUR = "#8a94a6", "#7c4dd0"
INK = "#010203"
"""Stands for the page's own text colour until the markup is done."""
WIDTH = 10.6
NAME_ROWS = 3
LETTERS = 150
"""So many letters of a name fit into a plot's width."""

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "isthmus",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }
)


def course(result: Result, door: DoorResult) -> str:
    """Calls per second by the cluster that served them, those that failed on top; below p50 and p99.

    Between them errors per second by the cluster of their callers, where a call failed. Latencies are those
    of calls that were answered, by when they were due; their scale is logarithmic.
    """
    line, clusters = door.line, result.clusters
    heights = (3.0, 1.6, 2.0) if door.failed else (3.0, 2.0)
    figure = Figure(figsize=(WIDTH, 0.84 * sum(heights)), layout="constrained")
    upper, *errors, lower = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    moments = [step * result.step_s for step in range(len(line.p50_ms) + 1)]
    colours = [CLUSTER_COLOURS[number % len(CLUSTER_COLOURS)] for number in range(len(clusters))]
    lost = [sum(counts) for counts in zip(*line.failed.values(), strict=True)]
    layers = [*((c, line.served[c]) for c in clusters), ("failed", lost)]
    _stacked(upper, moments, layers, [*colours, FAILED_COLOUR], result.step_s)
    upper.set_ylabel("calls/s")
    for axes in errors:
        _stacked(axes, moments, [(f"of {c}", line.failed[c]) for c in clusters], colours, result.step_s)
        axes.set_ylabel("errors/s")
    for label, values, colour in (
        ("p99", door.line.p99_ms, P99_COLOUR),
        ("p50", door.line.p50_ms, P50_COLOUR),
    ):
        known = [float("nan") if value is None else max(value, 0.1) for value in [*values, values[-1]]]
        lower.plot(moments, known, label=label, color=colour, linewidth=1.3, drawstyle="steps-post")
    lower.set_yscale("log")
    lower.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lower.yaxis.set_major_formatter("{x:g}")
    lower.yaxis.set_minor_locator(NullLocator())
    lower.grid(axis="y", linewidth=0.3, alpha=0.35)
    lower.set_ylabel("ms")
    lower.set_xlabel("seconds")
    for axes in (upper, *errors, lower):
        _bands(axes, result, named=axes is upper)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0, reverse=True)
    return _markup(figure, f"{door.door}: calls by the cluster that served them, and latency")


def _stacked(
    axes: Any,
    moments: Sequence[float],
    layers: Sequence[tuple[str, Sequence[int]]],
    colours: Sequence[str],
    step_s: float,
) -> None:
    """Counts of steps as rates, one upon the other."""
    base = [0.0] * len(moments)
    for (label, counts), colour in zip(layers, colours, strict=True):
        top = [low + count / step_s for low, count in zip(base, [*counts, counts[-1]], strict=True)]
        axes.fill_between(moments, base, top, step="post", label=label, color=colour, linewidth=0, alpha=0.9)
        base = top
    axes.set_ylim(bottom=0)


def memory(result: Result) -> str:
    """Megabytes of all processes of Isthmus, and of each role."""
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    lines = [("all", result.memory_mb, P50_COLOUR)]
    told = [level for level in result.levels if level.memory_mb]
    lines += [
        (level.role, level.memory_mb, colour) for level, colour in zip(told, CLUSTER_COLOURS, strict=False)
    ]
    for label, pairs, colour in lines:
        moments, taken = zip(*pairs, strict=True)
        axes.plot(moments, taken, color=colour, linewidth=1.3, label=label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MB")
    axes.set_xlabel("seconds")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    _bands(axes, result, named=False)
    return _markup(figure, "Memory of Isthmus and the API servers")


def _bands(axes: Any, result: Result, *, named: bool) -> None:
    axes.set_xlim(0, result.seconds)
    rows = _rows(result)
    for accident, row in zip(result.accidents, rows, strict=True):
        axes.axvspan(accident.began, accident.undone, color=BAND_COLOUR, alpha=0.10, linewidth=0, zorder=0)
        for at in (accident.began, accident.ended):
            axes.axvline(at, color=BAND_COLOUR, linewidth=0.8, linestyle=(0, (3, 3)), zorder=3)
        if named and row is not None:
            axes.annotate(
                accident.name,
                (accident.began, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, 3 + 10 * row),
                textcoords="offset points",
                fontsize=8.5,
                color=BAND_COLOUR,
            )


def _rows(result: Result) -> list[int | None]:
    """The row that each accident's name stands in, from below; None where it would cover the one before."""
    ends, found = [0.0] * NAME_ROWS, list[int | None]()
    for accident in result.accidents:
        row = next((row for row, end in enumerate(ends) if end <= accident.began), None)
        if row is not None:
            ends[row] = accident.began + len(accident.name) * result.seconds / LETTERS
        found.append(row)
    return found


def _markup(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Title": title}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # It scales with the page; two plots of one page must not share ids.
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r'<svg \1role="img"', text, count=1)
    mark = re.sub(r"\W+", "-", title)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", text)
    return text
