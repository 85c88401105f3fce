"""Results as a terminal shows them: tables for people, who find the rest in the reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.load.machine import MOST_WITHHELD
from loadtests.load.result import Result


def show_findings(result: Result, console: Console) -> None:
    """What a scenario had to show and what was found, a line each."""
    table = Table("", "must show", "door", "event", "found", "at most", "", box=None, header_style="dim")
    for finding in result.findings:
        table.add_row(
            "[green]ok[/]" if finding.passed else "[bold red]FAILED[/]",
            finding.expectation,
            finding.door,
            finding.event,
            "-" if finding.value is None else f"{finding.value:g} {finding.unit}",
            "" if finding.bound is None else f"{finding.bound:g}",
            escape(finding.text),
        )
    console.print(table)


def show_summary(
    told: Sequence[tuple[str, Result | None, float]], took: float, out: Path, console: Console
) -> None:
    """A line for each scenario: name, result (None: it left none), seconds; all `took` so many seconds."""
    table = Table("scenario", "calls", "failed", "findings", "seconds", "result", title="Load and accidents")
    results = [result for _, result, _ in told if result is not None]
    for name, result, seconds in told:
        if result is None:
            table.add_row(name, "", "", "", f"{seconds:.0f}", "[bold red]no result[/]")
            continue
        calls = sum(door.calls for door in result.doors)
        failed = sum(door.failed for door in result.doors)
        bad = sum(not finding.passed for finding in result.findings)
        table.add_row(
            name,
            str(calls),
            str(failed),
            f"{len(result.findings) - bad} of {len(result.findings)}",
            f"{seconds:.0f}",
            "[green]passed[/]" if result.passed else "[bold red]FAILED[/]",
        )
    console.print()
    console.print(table)
    busy = [r.surroundings for r in results if r.surroundings.load_average > r.surroundings.cores]
    if busy:
        worst = max(s.load_average for s in busy)
        console.print(
            f"[yellow]the machine was busy before {len(busy)} of {len(told)} began: load average up to "
            f"{worst:g} on {busy[0].cores} cores. Times say little.[/]"
        )
    withheld = [r.surroundings.withheld for r in results if r.surroundings.withheld > MOST_WITHHELD]
    if withheld:
        console.print(
            f"[yellow]the machine's host withheld up to {max(withheld):.0%} of the processor time while "
            f"{len(withheld)} of {len(told)} were played. Times say little.[/]"
        )
    console.print(f"{took / 60:.1f} minutes; reports in {out}/index.html", markup=False)
