"""Names that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST = 3


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Names `a/b` like that one: the same behind another `a/`, or mistyped; three at most."""
    names = sorted(set(known))
    short = name.rpartition("/")[2]
    elsewhere = [one for one in names if one.rpartition("/")[2] == short]
    mistyped = get_close_matches(name, names, n=MOST, cutoff=0.75)
    return list(dict.fromkeys([*elsewhere, *mistyped]))[:MOST]
