"""Runs the demo in a terminal of its own and writes what its live view showed as one animated SVG.

`python tools/demo_picture.py docs/demo.svg`: nothing in the picture is drawn by hand. Frames are laid side by
side on a strip that CSS moves step by step; lines that look alike are kept once. Who prefers reduced motion
sees the frame of the first accident.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

COLUMNS, LINES = 100, 27
CELL, ROW, MARGIN, BASELINE = 8, 17, 14, 13
FRAMES_PER_SECOND = 1.6
"""Of the demo's time; the picture plays them faster."""
SHOWN_SECONDS = 0.22
STILL_SECONDS = 2.5
"""How long the last frame stays."""
STILL_FRAMES = 6
"""How many frames after the first death the one for reduced motion is."""
MOST_BYTES = 400_000
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
BACKGROUND, FOREGROUND = "#0d1117", "#c9d1d9"
COLOURS = {
    31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#56d4dd", 91: "#ffa198",
}  # fmt: skip
_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b]+)")

Run = tuple[int, str, str]
"""Column, text, CSS class."""


class Terminal:
    """As much of one as the view uses: positions, colours, clearing."""

    def __init__(self) -> None:
        self.rows: list[list[tuple[str, str]]] = []
        self._row = self._column = 0
        self._style: set[int] = set()
        self._clear()

    def _clear(self) -> None:
        self.rows = [[(" ", "")] * COLUMNS for _ in range(LINES)]

    def feed(self, text: str) -> None:
        """Take what was written to the terminal."""
        for parameters, final, plain in _TOKEN.findall(text):
            if plain:
                for character in plain:
                    if self._row < LINES and self._column < COLUMNS:
                        self.rows[self._row][self._column] = (character, self._css())
                    self._column += 1
            elif final == "H":
                row, column = (int(part) for part in (parameters or "1;1").split(";"))
                self._row, self._column = row - 1, column - 1
            elif final == "K":
                self.rows[self._row][self._column :] = [(" ", "")] * (COLUMNS - self._column)
            elif final == "J":
                self._clear()
            elif final == "m":
                codes = [int(code or 0) for code in parameters.split(";")]
                self._style = set() if 0 in codes else self._style | set(codes)

    def _css(self) -> str:
        names = [f"c{code}" for code in sorted(self._style) if code in COLOURS]
        names += [name for code, name in ((1, "b"), (2, "d")) if code in self._style]
        return " ".join(names)

    def lines(self) -> list[tuple[Run, ...]]:
        """Each row as runs of one style, without the blanks."""
        return [_runs(row) for row in self.rows]


def _runs(row: list[tuple[str, str]]) -> tuple[Run, ...]:
    runs: list[Run] = []
    for column, (character, css) in enumerate(row):
        if runs and runs[-1][2] == css and runs[-1][0] + len(runs[-1][1]) == column:
            runs[-1] = (runs[-1][0], runs[-1][1] + character, css)
        else:
            runs.append((column, character, css))
    return tuple(
        (column + len(text) - len(text.lstrip()), text.strip(), css)
        for column, text, css in runs
        if text.strip()
    )


def record(command: list[str]) -> list[list[tuple[Run, ...]]]:
    """Frames of the live view of a run, FRAMES_PER_SECOND of them; raises SystemExit when the run failed."""
    user, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "COLORTERM": ""}
    environment.pop("NO_COLOR", None)
    demo = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=program, stderr=program, env=environment
    )
    os.close(program)
    terminal, frames, data, last = Terminal(), [], b"", 0.0
    live = False
    while True:
        ready, _, _ = select.select([user], [], [], 0.05)
        if ready:
            try:
                data += os.read(user, 65_536)
            except OSError:
                break
        if not live and ENTER in data:
            live, data = True, data.partition(ENTER)[2]
        if live:
            shown, left, _ = data.partition(LEAVE)
            # Whole lines only: each ends by clearing what is right of it.
            whole, mark, rest = (shown, b"", b"") if left else shown.rpartition(b"\x1b[K")
            terminal.feed((whole + mark).decode(errors="replace"))
            data = rest
            if left:
                break
            if mark and time.monotonic() - last >= 1 / FRAMES_PER_SECOND:
                last = time.monotonic()
                frames.append(terminal.lines())
    output = b""
    while demo.poll() is None or select.select([user], [], [], 0)[0]:
        try:
            if select.select([user], [], [], 0.2)[0]:
                output += os.read(user, 65_536)
        except OSError:
            break
    if demo.wait() != 0:
        raise SystemExit(f"the demo failed:\n{output.decode(errors='replace')[-3000:]}")
    return [*frames, terminal.lines()]


def svg(frames: list[list[tuple[Run, ...]]]) -> str:
    """The animated picture."""
    width, height = COLUMNS * CELL + 2 * MARGIN, LINES * ROW + 2 * MARGIN
    known: dict[tuple[Run, ...], str] = {}
    strip = []
    for number, frame in enumerate(frames):
        uses = []
        for row, runs in enumerate(frame):
            if runs:
                name = known.setdefault(runs, f"l{len(known)}")
                uses.append(f'<use href="#{name}" y="{row * ROW + BASELINE}"/>')
        strip.append(f'<g transform="translate({number * width})">{"".join(uses)}</g>')
    defined = "".join(f'<g id="{name}">{"".join(map(_text, runs))}</g>' for runs, name in known.items())
    colours = "".join(f".c{code}{{fill:{colour}}}" for code, colour in COLOURS.items())
    moving = len(frames) * SHOWN_SECONDS
    total = moving + STILL_SECONDS
    still = _still(frames)
    # The strip moves one frame per step and then rests on the last one.
    stops = "".join(
        f"{100 * number * SHOWN_SECONDS / total:.3f}%{{transform:translateX({-number * width}px)}}"
        for number in range(len(frames))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="The live view of the demo: traffic of three clusters moves while clusters die">'
        f"<style>text{{font:13.3px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:{FOREGROUND};"
        f"white-space:pre}}{colours}.b{{font-weight:bold}}.d{{fill:#8b949e}}"
        f"@keyframes s{{{stops}100%{{transform:translateX({-(len(frames) - 1) * width}px)}}}}"
        f".s{{animation:s {total:.1f}s step-end infinite}}"
        "@media (prefers-reduced-motion:reduce){"
        f".s{{animation:none;transform:translateX({-still * width}px)}}}}</style>"
        f"<defs>{defined}</defs>"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>'
        f'<svg x="{MARGIN}" y="{MARGIN}" width="{COLUMNS * CELL}" height="{LINES * ROW}">'
        f'<g class="s">{"".join(strip)}</g></svg></svg>\n'
    )


def _still(frames: list[list[tuple[Run, ...]]]) -> int:
    """The frame that shows most at rest: some seconds into the first death."""
    dying = (
        n
        for n, frame in enumerate(frames)
        if any(run[1].startswith("SILENT") for row in frame for run in row)
    )
    return min(next(dying, 0) + STILL_FRAMES, len(frames) - 1)


def _text(run: Run) -> str:
    column, text, css = run
    # The width is given, so that columns stand under each other in any font.
    style = f' class="{css}"' if css else ""
    return f'<text x="{column * CELL}" textLength="{len(text) * CELL}"{style}>{html.escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("demo", nargs="*", help="options of `isthmus demo`, after --")
    given = parser.parse_args()
    frames = record([sys.executable, "-m", "isthmus", "demo", *given.demo])
    picture = svg(frames)
    if len(picture.encode()) > MOST_BYTES:
        raise SystemExit(f"{len(picture.encode())} bytes for {len(frames)} frames: over {MOST_BYTES}")
    given.picture.write_text(picture)
    sys.stdout.write(f"{given.picture}: {len(frames)} frames, {len(picture.encode())} bytes\n")


if __name__ == "__main__":
    main()
