"""The HTML report: one page that needs nothing else, drawn from the JSON result alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from loadtests.load import plots
from loadtests.load.result import Result

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(result: Result, path: Path) -> None:
    """Write the page."""
    path.write_text(page(result), encoding="utf-8")


def page(result: Result) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["ms"] = _ms
    environment.filters["number"] = _number
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    doors: list[dict[str, Any]] = [
        {"told": door, "requests": plots.requests(result, door), "latency": plots.latency(result, door)}
        for door in result.doors
    ]
    memory = plots.memory(result) if result.memory_mb else ""
    return template.render(result=result, doors=doors, memory=memory)


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return (
        f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
    )


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:g} {unit}".rstrip()
