"""A snapshot as lines of text that fit a window: pure, and every line is at most as wide as the window.

Clusters are columns; a row is a service and the door that its callers come through. Colour only repeats
what the words say, so that a terminal without it misses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from isthmus.demo.board import MOVED_SHARE, Event, Share, Snapshot, TrafficRow
from isthmus.demo.glyphs import Glyphs, bar, fit, sparkline

WIDE = 100
"""From so many columns on, what happened and what was decided stand side by side."""
AIRY = 26
"""From so many lines on, blank ones set the parts apart."""
NARROWEST_CELL = 10
TONES = {"plain": "", "bad": "bold red", "good": "green"}
COLOURS = ("cyan", "magenta", "yellow", "blue", "green", "bright_red")
LEAST_LOG_ROWS = 2


def lines(snapshot: Snapshot, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """`height` lines of at most `width` columns; what does not fit is left out and said to be."""
    label = max(15, min(22, width // 5))
    shown = max(1, min(len(snapshot.clusters), (width - label) // NARROWEST_CELL))
    cell = max(1, (width - label) // shown)
    footer = [_keys(snapshot, width, glyphs)]
    head = [
        _title(snapshot, width, glyphs),
        *_clusters(snapshot, label, cell, shown, glyphs),
    ]
    # Air where there is room for it.
    air = [Text()] if height >= AIRY else []
    head += air
    latency = [*air, *_latency(snapshot, label, width, glyphs), *air]
    room = height - len(head) - len(latency) - len(footer) - (1 + LEAST_LOG_ROWS)
    traffic = _traffic(snapshot, label, cell, shown, max(0, room), glyphs)
    body = [*head, *traffic, *latency]
    logs = _logs(snapshot, width, height - len(body) - len(footer), glyphs)
    found = [*body, *logs][: max(0, height - len(footer))]
    found += [Text()] * (height - len(footer) - len(found))
    return [*found, *footer][:height]


def _title(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Text:
    minutes, seconds = divmod(int(max(0.0, snapshot.elapsed)), 60)
    parts = [
        ("Isthmus ", "bold"),
        (f"{minutes:02}:{seconds:02}  {snapshot.requests} requests, ", ""),
        _failed(snapshot.failed),
        (f"; {snapshot.queries} DNS, ", ""),
        _failed(snapshot.queries_failed),
        (f"; {snapshot.rate:.0f} a second", ""),
    ]
    return _joined(parts, width, glyphs)


def _failed(count: int) -> tuple[str, str]:
    return f"{count} failed", "bold red" if count else "green"


def _clusters(snapshot: Snapshot, label: int, cell: int, shown: int, glyphs: Glyphs) -> list[Text]:
    hidden = len(snapshot.clusters) - shown
    names = [(_pad(glyphs, f"+{hidden} clusters" if hidden else "", label), "")]
    done = [(_pad(glyphs, "HUB CUT OFF" if snapshot.hub_cut else "", label), "bold red")]
    for index, cluster in enumerate(snapshot.clusters[:shown]):
        chosen = cluster.name == snapshot.chosen
        name = f"[{cluster.name}]" if chosen else cluster.name
        names.append((_pad(glyphs, name, cell), f"bold {_colour(index)}{' reverse' if chosen else ''}"))
        state = cluster.done.upper() or cluster.seen or "serving"
        if cluster.done and cluster.seen not in ("", "serving"):
            state += f" ({cluster.seen})"
        tone = "bold red" if cluster.done else "green" if state == "serving" else "yellow"
        done.append((_pad(glyphs, state, cell), tone))
    width = label + cell * shown
    return [_joined(names, width, glyphs), _joined(done, width, glyphs)]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _traffic(snapshot: Snapshot, label: int, cell: int, shown: int, room: int, glyphs: Glyphs) -> list[Text]:
    rows = snapshot.traffic
    cut = len(rows) > room
    kept = rows[: max(0, room - 1)] if cut else rows
    found = [_row(snapshot, row, label, cell, shown, glyphs) for row in kept]
    if cut and room:
        left = len(rows) - len(found)
        found.append(
            _joined([(f"+{left} rows, the window is too small", "dim")], label + cell * shown, glyphs)
        )
    return found


def _row(snapshot: Snapshot, row: TrafficRow, label: int, cell: int, shown: int, glyphs: Glyphs) -> Text:
    name = f"{row.failed} ERR {row.service}" if row.failed else row.service
    parts = [(_pad(glyphs, name, label - 6), "bold red" if row.failed else ""), (f"{row.door:<6}", "dim")]
    for index, cluster in enumerate(snapshot.clusters[:shown]):
        parts += _cell(row.shares[cluster.name], cell, _colour(index), glyphs)
    return _joined(parts, label + cell * shown, glyphs)


def _cell(share: Share, cell: int, colour: str, glyphs: Glyphs) -> list[tuple[str, str]]:
    """A bar, a percentage and whether it moves: `cell` columns, the last one blank."""
    moving = " "
    if share.change > MOVED_SHARE:
        moving = glyphs.rise
    elif share.change < -MOVED_SHARE:
        moving = glyphs.fall
    numbers = f"{share.now * 100:3.0f}%{moving}"
    width = max(0, cell - len(numbers) - 1)
    drawn = bar(glyphs, share.now, width)
    filled = drawn.rstrip(glyphs.empty)
    return [
        (filled, colour),
        (drawn[len(filled) :], "dim"),
        (numbers, "bold" if moving.strip() else ""),
        (" ", ""),
    ]


def _latency(snapshot: Snapshot, label: int, width: int, glyphs: Glyphs) -> list[Text]:
    found = []
    for name, values in (("p50", snapshot.p50), ("p99", snapshot.p99)):
        newest = next((value for value in reversed(values) if value is not None), None)
        number = "-" if newest is None else f"{newest:.1f} ms"
        room = min(len(values), max(0, width - label - 11))
        parts = [
            (_pad(glyphs, f"{name} latency", label), ""),
            (f"{number:>10} ", "bold"),
            (sparkline(glyphs, values, room), "cyan" if name == "p50" else "magenta"),
        ]
        found.append(_joined(parts, width, glyphs))
    return found


def _logs(snapshot: Snapshot, width: int, room: int, glyphs: Glyphs) -> list[Text]:
    planner = f"what the planner decided for callers in {snapshot.vantage or '...'}"
    if width >= WIDE:
        half = (width - 2) // 2
        left = _log("what happened", snapshot.events, half, room, glyphs)
        right = _log(planner, snapshot.decisions, width - 2 - half, room, glyphs)
        return [_beside(one, other, half) for one, other in zip(left, right, strict=True)]
    events = max(2, room // 2)
    return [
        *_log("what happened", snapshot.events, width, min(room, events), glyphs),
        *_log(planner, snapshot.decisions, width, room - events, glyphs),
    ]


def _log(title: str, events: Sequence[Event], width: int, room: int, glyphs: Glyphs) -> list[Text]:
    """A heading and the newest events below, the newest first, in `room` lines; long ones are folded."""
    if room <= 0:
        return []
    heading = fit(glyphs, f"{glyphs.rule * 2} {title} ", width)
    found = [_joined([(heading + glyphs.rule * (width - len(heading)), "dim")], width, glyphs)]
    for index, event in enumerate(reversed(events)):
        style = TONES[event.tone] or ("bold" if index == 0 else "")
        for start, part in _folded(event.text, max(1, width - 8)):
            moment = f"{event.at:5.1f} s " if start else " " * 8
            found.append(_joined([(moment, "dim"), (part, style)], width, glyphs))
        if len(found) >= room:
            break
    found = found[:room]
    return found + [Text()] * (room - len(found))


def _folded(text: str, width: int) -> list[tuple[bool, str]]:
    """The text in at most three lines, broken between words where it can be; True marks the first."""
    parts: list[tuple[bool, str]] = []
    while text and len(parts) < 3:
        if len(text) <= width or len(parts) == 2:
            parts.append((not parts, text))
            break
        end = text.rfind(" ", 0, width + 1)
        end = end if end > width // 2 else width
        parts.append((not parts, text[:end]))
        text = text[end:].lstrip()
    return parts


def _beside(left: Text, right: Text, width: int) -> Text:
    return Text.assemble(left, " " * (width + 2 - left.cell_len), right)


def _keys(snapshot: Snapshot, width: int, glyphs: Glyphs) -> Text:
    return _joined([(snapshot.keys, "dim")], width, glyphs)


def _pad(glyphs: Glyphs, text: str, width: int) -> str:
    return fit(glyphs, text, max(0, width - 1)).ljust(width)


def _joined(parts: Sequence[tuple[str, str]], width: int, glyphs: Glyphs) -> Text:
    """The parts in a row, cut to `width` columns."""
    text = Text(no_wrap=True, end="")
    room = width
    for part, style in parts:
        taken = fit(glyphs, part, room)
        text.append(taken, style=style or None)
        room -= len(taken)
        if room <= 0:
            break
    return text
