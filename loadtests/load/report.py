"""The HTML reports: a page for each scenario that needs nothing else, and one that lists them.

Drawn from the JSON results alone.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import jinja2
import msgspec

from loadtests.load import plots
from loadtests.load.doors import DOORS
from loadtests.load.expect import EXPECTATIONS
from loadtests.load.result import SCHEMA, Result

PAGES = Path(__file__).with_name("pages")
ASKED_OF_ALL = {
    "load": "Calls that living callers had to make took place; at the door where the most are missing.",
    "bites": "The fault was seen to do what it was meant to.",
    "ends": "When the bed has ended, none of its processes is left.",
}
"""What is asked of every scenario, whatever stands in its file."""


def write_report(result: Result, path: Path) -> None:
    """Write the page of a scenario."""
    path.write_text(page(result), encoding="utf-8")


def write_index(folder: Path, played: Collection[str]) -> None:
    """Write `index.html`: the scenarios just `played`, and apart from them older results of this schema.

    One that was played and left no result has not passed, and stands there as such.
    """
    results = []
    for file in sorted(folder.glob("*.json")):
        try:
            result = msgspec.json.decode(file.read_bytes(), type=Result)
        except msgspec.DecodeError:
            continue  # of another time, or cut
        if result.schema == SCHEMA and file.with_suffix(".html").exists():
            results.append(result)
    used = {door.door for result in results for door in result.doors}
    doors = [door for door in DOORS if door in used]
    now = [result for result in results if result.scenario in played]
    now.sort(key=lambda result: result.passed)  # what failed comes first
    before = [result for result in results if result.scenario not in played]
    broken = sorted({*played} - {result.scenario for result in now})
    template = _environment().get_template("index.html.j2")
    text = template.render(now=now, broken=broken, before=before, doors=doors, style=_style())
    (folder / "index.html").write_text(text, encoding="utf-8")


def page(result: Result) -> str:
    courses = [(door, plots.course(result, door)) for door in result.doors]
    courses += [(door, plots.course(result, door)) for door in result.peer_doors]
    memory = plots.memory(result) if result.memory_mb else ""
    missed = [finding for finding in result.findings if not finding.passed]
    template = _environment().get_template("report.html.j2")
    return template.render(result=result, missed=missed, courses=courses, memory=memory, style=_style())


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    found.filters |= {"ms": _ms, "number": _number, "asks": _asks}
    return found


def _style() -> str:
    return (PAGES / "style.css").read_text(encoding="utf-8")


def _asks(name: str) -> str:
    """What an expectation asks, in a sentence."""
    text = ASKED_OF_ALL.get(name) or EXPECTATIONS[name].__doc__ or ""
    return " ".join(text.partition("\n\n")[0].split())


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{'.3g' if value < 1000 else 'g'}} {unit}".rstrip()
