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

from loadtests.load.result import Accident, DoorResult, Result

CLUSTER_COLOURS = ("#3b7dd8", "#e8963a", "#4caf7d", "#9b6dd6", "#5bb8c4", "#b08968")
FAILED_COLOUR = "#d6404b"
BAND_COLOUR = "#d6404b"
INK = "#010203"
"""Stands for the page's own text colour until the markup is done."""
WIDTH, HEIGHT = 10.6, 2.5

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


def requests(result: Result, door: DoorResult) -> str:
    """Calls per second by the cluster that served them, stacked; on top of them those that failed."""
    figure, axes = _axes(result, "calls/s")
    moments = _moments(result, len(door.line.failed))
    rates = [[count / result.step_s for count in door.line.served[c]] for c in result.clusters]
    failed = [count / result.step_s for count in door.line.failed]
    axes.stackplot(
        moments,
        *rates,
        failed,
        labels=[*result.clusters, "failed"],
        colors=[*CLUSTER_COLOURS[: len(rates)], FAILED_COLOUR],
        step="post",
        linewidth=0,
        alpha=0.9,
    )
    axes.set_ylim(bottom=0)
    _legend(axes)
    return _markup(figure, f"Calls per second at {door.door}, by the cluster that served them")


def latency(result: Result, door: DoorResult) -> str:
    """p50 and p99 of what was answered, by when it was due; logarithmic."""
    figure, axes = _axes(result, "ms")
    moments = _moments(result, len(door.line.failed))
    for values, label, colour in (
        (door.line.p99_ms, "p99", CLUSTER_COLOURS[1]),
        (door.line.p50_ms, "p50", CLUSTER_COLOURS[0]),
    ):
        known = [float("nan") if value is None else max(value, 0.1) for value in values]
        axes.plot(moments, known, label=label, color=colour, linewidth=1.3, drawstyle="steps-post")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", linewidth=0.3, alpha=0.35)
    _legend(axes)
    return _markup(figure, f"Latency at {door.door}")


def memory(result: Result) -> str:
    """Megabytes of all processes of Isthmus."""
    figure, axes = _axes(result, "MB", height=1.9)
    axes.plot(
        [at for at, _ in result.memory_mb],
        [mb for _, mb in result.memory_mb],
        color=CLUSTER_COLOURS[0],
        linewidth=1.3,
    )
    axes.set_ylim(bottom=0)
    return _markup(figure, "Memory of Isthmus and the API servers")


def _axes(result: Result, label: str, height: float = HEIGHT) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(0, result.seconds)
    axes.set_ylabel(label)
    axes.set_xlabel("seconds")
    for number, accident in enumerate(result.accidents):
        _band(axes, accident, number)
    return figure, axes


def _band(axes: Any, accident: Accident, number: int) -> None:
    axes.axvspan(accident.began, accident.undone, color=BAND_COLOUR, alpha=0.10, linewidth=0, zorder=0)
    for at in (accident.began, accident.ended):
        axes.axvline(at, color=BAND_COLOUR, linewidth=0.8, linestyle=(0, (3, 3)), zorder=3)
    axes.annotate(
        accident.name,
        (accident.began, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, 3 + 10 * (number % 2)),
        textcoords="offset points",
        fontsize=8.5,
        color=BAND_COLOUR,
    )


def _legend(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0, reverse=True)


def _moments(result: Result, steps: int) -> Sequence[float]:
    return [step * result.step_s for step in range(steps)]


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
