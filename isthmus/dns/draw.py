"""Drawing addresses from shares (traffic-semantics, section 4, row "DNS, Endpoints or headless").

Systematic sampling: k distinct members, each included with probability k times its share, exactly (integer
arithmetic throughout, so a member can never be drawn twice). Invariant: the same version, client and window
give the same members in the same order, for every record type, on every replica, here and in `_core`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple

MOST: Final = 8
"""An answer never has more members than this."""

_BITS: Final = 32
_SPACE: Final = 1 << _BITS
_WORD: Final = (1 << 64) - 1


class Shares(NamedTuple):
    """Groups of equal members, ready to draw from; members are numbered from 0, group after group.

    `upper` and `first` are per group: the running total of weights including it, and its first member;
    `members` is how many there are.
    """

    upper: tuple[int, ...]
    first: tuple[int, ...]
    members: int
    size: int
    """k: how many members one draw has."""


def shares(groups: Sequence[tuple[int, int]]) -> Shares:
    """Prepare groups of (basis points, number of members); groups without either take no part in draws.

    Where the basis points are equal shares but for their rounding, and one answer can hold all members, they
    are taken as equal: three clusters with one member each are 3334, 3333 and 3333 and shall all be named.
    """
    upper: list[int] = []
    first: list[int] = []
    count = total = 0
    level = sum(n for points, n in groups if points) <= MOST and _level(groups)
    for points, n in groups:
        first.append(count)
        total += (n if level else points) if points and n else 0
        upper.append(total)
        count += n
    if not total:
        return Shares(tuple(upper), tuple(first), count, 0)
    size = min(MOST, sum(n for points, n in groups if points))
    for index, (_, n) in enumerate(groups):
        weight = upper[index] - (upper[index - 1] if index else 0)
        if weight:
            size = min(size, total * n // weight)
    return Shares(tuple(upper), tuple(first), count, size)


def _level(groups: Sequence[tuple[int, int]]) -> bool:
    """Whether one share per member explains all basis points with an error below one each."""
    ranges = [((points - 1) / n, (points + 1) / n) for points, n in groups if points and n]
    return bool(ranges) and max(low for low, _ in ranges) < min(high for _, high in ranges)


def seed(version: bytes, client: str, window: int) -> int:
    """64 uniform bits for one client and one window of time; `version` names the service and its shares."""
    number = version_number(version)
    state = 0
    for word in (number, *client_words(client), window):
        state = _mix((state ^ word) + 0x9E3779B97F4A7C15 & _WORD)
    return state


def version_number(version: bytes) -> int:
    """A version as 64 bits; ours have eight bytes."""
    return int.from_bytes(version[:8], "big")


@lru_cache(maxsize=1024)
def client_words(client: str) -> tuple[int, int]:
    """An address as two words of 64 bits; IPv4 stands in the lower half. Another text has words too."""
    for family in (AF_INET, AF_INET6):
        try:
            number = int.from_bytes(inet_pton(family, client.partition("%")[0]), "big")
        except OSError:
            continue
        return number >> 64, number & _WORD
    return _WORD, int.from_bytes(client.encode()[:8], "big")


def _mix(word: int) -> int:
    """The finaliser of SplitMix64: every bit of the word moves every bit of the result."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31


def pick(held: Shares, number: int) -> list[int]:
    """The members of one draw, `number` from `seed`: who is in is decided by its upper half, who is first by
    its lower half, so that a caller who takes the first address draws the shares as well."""
    size = held.size
    if not size:
        return []
    upper = held.upper
    total = upper[-1]
    if size == held.members:
        members = list(range(size))
    else:
        members = []
        scale = size << _BITS
        for step in range(size):
            at = ((number >> _BITS) + (step << _BITS)) * total
            group = bisect_right(upper, at // scale)
            below = upper[group - 1] if group else 0
            n = _members(held, group)
            members.append(held.first[group] + (at - below * scale) * n // ((upper[group] - below) * scale))
    turn = (number % _SPACE) * size >> _BITS
    return members[turn:] + members[:turn]


def _members(held: Shares, group: int) -> int:
    following = group + 1
    return (held.first[following] if following < len(held.first) else held.members) - held.first[group]
