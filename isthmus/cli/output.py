"""Answers on paper and screen: tables for people, JSON and YAML for programs.

Invariants: what clusters say never reaches the terminal as control characters; without a terminal, with
TERM=dumb, NO_COLOR or another encoding than UTF-8 a table has no colour, and no signs of ours beyond ASCII;
one that does not fit is wrapped in one column or turned into one block per row, never cut.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from isthmus.cli.agents import Company
from isthmus.cli.reach import Format

GAP = 2
LEAST_WRAPPED = 24
UNLIMITED = 100_000
_STYLES = {
    "ready": "green",
    "healthy": "green",
    "unknown": "yellow",
    "draining": "yellow",
    "unhealthy": "red",
    "left out": "dim",
    "not ready": "red",
    "away": "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What the output can show. `width` in columns."""

    width: int = UNLIMITED
    fancy: bool = False
    ascii: bool = True

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """The screen behind a stream, as it and the environment say."""
        terminal = stream.isatty()
        utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
        dumb = os.environ.get("TERM", "") in ("", "dumb") or bool(os.environ.get("NO_COLOR"))
        columns = os.environ.get("COLUMNS", "")
        if columns.isdigit() and int(columns) > 0:
            width = int(columns)
        else:
            width = os.get_terminal_size(stream.fileno()).columns if terminal else UNLIMITED
        return cls(width=max(width, 20), fancy=terminal and utf8 and not dumb, ascii=not utf8)


def clean(value: object, screen: Screen) -> str:
    """A cell's text without control characters, and in ASCII where nothing else can be shown."""
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return text.encode("ascii", "replace").decode() if screen.ascii else text


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], screen: Screen, *, wrap: int | None = None
) -> str:
    """The rows as text. `wrap` is the column that may be wrapped to fit, None: the last one."""
    cells = [[clean(cell, screen) for cell in row] for row in rows]
    flexible = len(headers) - 1 if wrap is None else wrap
    widths = [max(len(row[n]) for row in [list(headers), *cells]) for n in range(len(headers))]
    spare = screen.width - sum(widths) - GAP * (len(widths) - 1)
    if spare < 0:
        if widths[flexible] + spare < LEAST_WRAPPED:
            return _blocks(headers, cells, screen)
        widths[flexible] += spare
    return _rich(headers, cells, widths, screen) if screen.fancy else _plain(headers, cells, widths)


def _plain(headers: Sequence[str], cells: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    lines = []
    for row in (headers, *cells):
        parts = [
            textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
            for cell, width in zip(row, widths, strict=True)
        ]
        for number in range(max(len(part) for part in parts)):
            line = (" " * GAP).join(
                (part[number] if number < len(part) else "").ljust(width)
                for part, width in zip(parts, widths, strict=True)
            )
            lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def _blocks(headers: Sequence[str], cells: Sequence[Sequence[str]], screen: Screen) -> str:
    """One block of `HEADER  value` lines for each row, a blank line between."""
    margin = max(len(header) for header in headers) + GAP
    room = max(screen.width - margin, 8)
    blocks = []
    for row in cells:
        lines = []
        for header, cell in zip(headers, row, strict=True):
            if cell:
                first, *rest = textwrap.wrap(cell, room, break_on_hyphens=False) or [""]
                lines += [header.ljust(margin) + first, *(" " * margin + line for line in rest)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _rich(
    headers: Sequence[str], cells: Sequence[Sequence[str]], widths: Sequence[int], screen: Screen
) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for header, width in zip(headers, widths, strict=True):
        made.add_column(header, min_width=1, max_width=width, overflow="fold")
    for row in cells:
        made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console(width=min(screen.width, sum(widths) + GAP * len(widths)), force_terminal=True)
    with console.capture() as captured:
        console.print(made)
    return captured.get()


def emit(text: str) -> None:
    """Writes to stdout, whatever its encoding."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def note(text: str) -> None:
    """One line on stderr, beside the answer."""
    line = "".join(char if char.isprintable() else "?" for char in text)
    encoding = sys.stderr.encoding or "ascii"
    sys.stderr.write(f"isthmus: {line}\n".encode(encoding, "replace").decode(encoding))


def notes(company: Company) -> None:
    """Who is away, and who answers without having seen everything yet."""
    for away in company.away:
        note(f"{away.agent} is away: {away.reason}")
    for agent in company.here:
        if not agent.status.get("ready"):
            reasons = ", ".join(map(str, agent.status.get("notReady") or ["it does not say why"]))
            note(f"{agent.cluster} is not ready, what it says may be incomplete: {reasons}")


def structured(form: Format, value: dict[str, Any], company: Company | None = None) -> str:
    """The value as JSON or YAML, with who answered and who did not."""
    whole = dict(value)
    if company is not None:
        whole["agents"] = [
            {"name": agent.name, "cluster": agent.cluster, "ready": bool(agent.status.get("ready"))}
            for agent in company.here
        ]
        whole["unreachable"] = [{"agent": away.agent, "reason": away.reason} for away in company.away]
    return document(form, whole)


def document(form: Format, value: Any) -> str:
    """Any plain value as JSON or YAML."""
    if form is Format.JSON:
        import json

        return json.dumps(value, indent=2, ensure_ascii=True) + "\n"
    import yaml

    return yaml.safe_dump(value, sort_keys=False, width=110)
