"""The plots of a report as SVG that can stand inside a page: text stays text, colours follow the page.

Pure: a result in, markup out. Accidents are bands, from their beginning until they are undone.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from loadtests.load.result import DoorResult, Result

CLUSTER_COLOURS = ("#3b7dd8", "#e8963a", "#4caf7d", "#c06fa8", "#5bb8c4", "#b08968")
FAILED_COLOUR = "#d6404b"
BAND_COLOUR = "#d6404b"
P50_COLOUR, P99_COLOUR = "#8a94a6", "#7c4dd0"
INK = "#010203"
"""Stands for the page's own text colour until the markup is done."""
WIDTH = 10.6

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

    Latencies are those of calls that were answered, by when they were due; their scale is logarithmic.
    """
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    moments = [step * result.step_s for step in range(len(door.line.failed) + 1)]
    layers = [*((c, door.line.served[c]) for c in result.clusters), ("failed", door.line.failed)]
    colours = [*CLUSTER_COLOURS[: len(result.clusters)], FAILED_COLOUR]
    base = [0.0] * len(moments)
    for (label, counts), colour in zip(layers, colours, strict=True):
        rates = [count / result.step_s for count in [*counts, counts[-1]]]
        top = [low + rate for low, rate in zip(base, rates, strict=True)]
        upper.fill_between(moments, base, top, step="post", label=label, color=colour, linewidth=0, alpha=0.9)
        base = top
    upper.set_ylim(bottom=0)
    upper.set_ylabel("calls/s")
    for label, values, colour in (
        ("p99", door.line.p99_ms, P99_COLOUR),
        ("p50", door.line.p50_ms, P50_COLOUR),
    ):
        known = [float("nan") if value is None else max(value, 0.1) for value in [*values, values[-1]]]
        lower.plot(moments, known, label=label, color=colour, linewidth=1.3, drawstyle="steps-post")
    lower.set_yscale("log")
    lower.yaxis.set_major_formatter("{x:g}")
    lower.grid(axis="y", linewidth=0.3, alpha=0.35)
    lower.set_ylabel("ms")
    lower.set_xlabel("seconds")
    for axes in (upper, lower):
        _bands(axes, result, named=axes is upper)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0, reverse=True)
    return _markup(figure, f"{door.door}: calls by the cluster that served them, and latency")


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
    for number, accident in enumerate(result.accidents):
        axes.axvspan(accident.began, accident.undone, color=BAND_COLOUR, alpha=0.10, linewidth=0, zorder=0)
        for at in (accident.began, accident.ended):
            axes.axvline(at, color=BAND_COLOUR, linewidth=0.8, linestyle=(0, (3, 3)), zorder=3)
        if named:
            axes.annotate(
                accident.name,
                (accident.began, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, 3 + 10 * (number % 2)),
                textcoords="offset points",
                fontsize=8.5,
                color=BAND_COLOUR,
            )


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
