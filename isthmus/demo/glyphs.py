"""Bars and sparklines out of characters, for terminals that speak UTF-8 and for those that do not."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LOWEST_MS = 1.0
HIGHEST_MS = 5_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """`levels` from nothing to the most, all of them one column wide."""

    full: str
    empty: str
    levels: str
    rise: str
    fall: str
    rule: str
    cut: str


UNICODE = Glyphs(full="▆", empty="·", levels=" ▁▂▃▄▅▆▇█", rise="↑", fall="↓", rule="─", cut="…")
ASCII = Glyphs(full="#", empty=".", levels=" _.:-=+*#", rise="+", fall="-", rule="-", cut="~")


def bar(glyphs: Glyphs, share: float, width: int) -> str:
    """`width` columns, filled by `share` of 0 to 1; whatever is more than nothing shows."""
    filled = round(max(0.0, min(1.0, share)) * width)
    if share > 0 and width:
        filled = max(1, filled)
    return glyphs.full * filled + glyphs.empty * (width - filled)


def sparkline(glyphs: Glyphs, values: Sequence[float | None], width: int) -> str:
    """The last `width` latencies in milliseconds, on a logarithmic scale; None is a blank."""
    top = len(glyphs.levels) - 1
    marks = []
    for value in values[-width:] if width else []:
        if value is None:
            marks.append(glyphs.levels[0])
            continue
        bounded = max(LOWEST_MS, min(HIGHEST_MS, value))
        place = math.log(bounded / LOWEST_MS) / math.log(HIGHEST_MS / LOWEST_MS)
        marks.append(glyphs.levels[1 + round(place * (top - 1))])
    return "".join(marks).rjust(width)


def fit(glyphs: Glyphs, text: str, width: int) -> str:
    """At most `width` columns of the text, marked where it is cut.

    Characters that the terminal cannot show, or not in one column, become `?`.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(character if _fits(glyphs, character) else "?" for character in text)
    if len(text) <= width:
        return text
    return text[: max(0, width - 1)] + glyphs.cut[:width]


def _fits(glyphs: Glyphs, character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    narrow = (
        unicodedata.east_asian_width(character) in ("N", "Na", "A") and unicodedata.combining(character) == 0
    )
    return glyphs is UNICODE and narrow and character.isprintable()


def glyphs_for(environ: Mapping[str, str]) -> Glyphs:
    """What the terminal can show, by its locale as POSIX reads it."""
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    return UNICODE if locale.lower().replace("-", "").endswith("utf8") else ASCII
