"""A terminal's second screen, on which only lines that changed are written again.

Writing never waits: a terminal that takes nothing now (a stopped one) misses frames, and gets the difference
to what it last took when it takes something again.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence

from rich.color import ColorSystem
from rich.console import Console
from rich.text import Text

from isthmus.demo.keys import LEAVE

ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"
SMALLEST = (20, 5)
_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


class Screen:
    """Draws on the terminal behind a file descriptor, between `enter` and `leave`."""

    def __init__(self, descriptor: int, console: Console) -> None:
        """`console` knows what colours there are (None: none)."""
        self._descriptor = descriptor
        self._console = console
        self._colours = _SYSTEMS.get(console.color_system or "")
        self._shown: list[Text] = []
        self._size = (0, 0)
        self._entered = False

    def size(self) -> tuple[int, int]:
        """Columns and lines, at least SMALLEST."""
        found = os.get_terminal_size(self._descriptor)
        return max(SMALLEST[0], found.columns), max(SMALLEST[1], found.lines)

    def enter(self) -> None:
        self._entered = True
        self._write(ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was; harmless when it was never taken."""
        if self._entered:
            self._entered = False
            self._write(LEAVE)

    def draw(self, lines: Sequence[Text], size: tuple[int, int]) -> None:
        """Show the lines, made for a window of that size; their styles are spans."""
        _, writable, _ = select.select([], [self._descriptor], [], 0)
        if not writable:
            return
        text = difference([] if size != self._size else self._shown, lines, self._ansi)
        if size != self._size:
            text = "\x1b[2J" + text
        self._size, self._shown = size, list(lines)
        self._write(text)

    def _ansi(self, line: Text) -> str:
        return "".join(
            segment.style.render(segment.text, color_system=self._colours) if segment.style else segment.text
            for segment in line.render(self._console)
        )

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(self._descriptor, data) :]


def difference(shown: Sequence[Text], wanted: Sequence[Text], ansi: Callable[[Text], str]) -> str:
    """What to write so that a screen that shows the one shows the other."""
    return "".join(
        f"\x1b[{number + 1};1H{ansi(line)}\x1b[K"
        for number, line in enumerate(wanted)
        if number >= len(shown) or not _same(shown[number], line)
    )


def _same(one: Text, other: Text) -> bool:
    return one.plain == other.plain and one.spans == other.spans
