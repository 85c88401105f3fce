"""Nodes as bytes for the fast path: what `_core` needs to answer for a name by itself.

Layout, in native 32-bit words: the number of record types, then six words for each (type, kind, counts of
answers and additional records, offset, length of the answers, length of the additional records). Behind them
stand, by kind: whole records; or a draw (offset of its pool, length of one record, the number of the first
record of each member and the number of all) with its records. A pool is k, members, groups, window in
seconds, both halves of its version, then the running totals and the first member of each group. Offsets count
bytes from the start; pools and draws stand at multiples of four.

A name that is another one in some zones has instead of the number of types `PLACED`, then how many it is, and
three words for each (place, offset, length; 0 bytes where it does not exist), the first being that of all
other places; behind them stand, at multiples of four, names as above.

Invariant: a kind that cannot be said so is left to Python; what is said gives the same bytes as Python's.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack
from typing import Final

from isthmus.dns import wire
from isthmus.dns.draw import version_number
from isthmus.dns.node import EMPTY, Drawn, DrawnTargets, Fixed, NamedTargets, Node, Placed, Pod, Pool
from isthmus.dns.places import ANYWHERE

FIXED: Final = 0
DRAWN: Final = 1
LEFT_TO_PYTHON: Final = 2
EVERY_TYPE: Final = 1 << 16
PLACED: Final = 0xFFFFFFFF

UNSAID: Final = pack("=7I", 1, EVERY_TYPE, LEFT_TO_PYTHON, 0, 0, 0, 0)
"""A name that exists, and all that is asked of it is left to Python."""

_MOST_RECORDS_EACH: Final = 8
_TYPE: Final = Struct("=6I")

Section = tuple[int, int, int, bytes, int]
"""Record type, kind, counts, bytes, and how many of the bytes are additional records."""


def compiled(node: Node | Placed, name_length: int) -> bytes:
    """What stands at a name of that length in wire form."""
    match node:
        case Placed():
            return _placed(node, name_length)
        case Fixed() | Pod():
            return _joined(_fixed(node, name_length))
        case Drawn():
            return _drawn(node)
        case NamedTargets() | DrawnTargets():
            return _joined([_left(wire.SRV)])
        case _:
            return UNSAID


def _placed(node: Placed, name_length: int) -> bytes:
    """Places where it is the same share its bytes."""
    found = {ANYWHERE: node.default, **node.by_place}
    every = {place: compiled(one, name_length) if one is not None else b"" for place, one in found.items()}
    if len(set(every.values())) == 1 and every[ANYWHERE]:
        return every[ANYWHERE]
    body = b""
    table = pack("=2I", PLACED, len(every))
    start = len(table) + 12 * len(every)
    at: dict[bytes, int] = {}
    for place, one in every.items():
        if one not in at:
            at[one] = start + len(body)
            body += one + b"\x00" * (-len(one) % 4)
        table += pack("=3I", place, at[one], len(one))
    return table + body


def _left(rtype: int) -> Section:
    return rtype, LEFT_TO_PYTHON, 0, b"", 0


def _fixed(node: Fixed | Pod, name_length: int) -> list[Section]:
    sections: list[Section] = []
    for rtype, (answers, additional) in node.types():
        extra = wire.courtesies(answers, additional, wire.HEADER_SIZE + name_length + 4)
        tail = b"".join(extra)
        counts = len(answers) << 16 | len(extra)
        sections.append((rtype, FIXED, counts, b"".join(answers) + tail, len(tail)))
    return sections


def _drawn(node: Drawn) -> bytes:
    sections: list[Section] = [] if node.srv is EMPTY else [_left(wire.SRV)]
    families = [
        (rtype, each)
        for rtype in (wire.A, wire.AAAA)
        if any(each := [node.of_member(rtype, at) for at in node.pool.members])
    ]
    # Both families draw from one pool, which stands before them.
    start = 4 + _TYPE.size * (len(sections) + len(families))
    pool = _pool(node.pool)
    tables = b"".join(_TYPE.pack(rtype, kind, 0, 0, 0, 0) for rtype, kind, *_ in sections)
    body = pool
    for rtype, each in families:
        if max(map(len, each)) > _MOST_RECORDS_EACH:
            tables += _TYPE.pack(rtype, LEFT_TO_PYTHON, 0, 0, 0, 0)
            continue
        tables += _TYPE.pack(rtype, DRAWN, 0, start + len(body), 0, 0)
        body += _draw(start, each)
    return pack("=I", len(sections) + len(families)) + tables + body


def _pool(pool: Pool) -> bytes:
    shares = pool.shares
    version = version_number(pool.version)
    head = (shares.size, shares.members, len(shares.upper), pool.window, version >> 32, version & 0xFFFFFFFF)
    return pack(f"={6 + 2 * len(shares.upper)}I", *head, *shares.upper, *shares.first)


def _draw(pool: int, each: Sequence[Sequence[bytes]]) -> bytes:
    """The draw of one family: the records of each member, which are all of one length."""
    records = b"".join(record for records in each for record in records)
    starts = [0]
    for of_member in each:
        starts.append(starts[-1] + len(of_member))
    size = len(records) // starts[-1]
    padding = b"\x00" * (-len(records) % 4)
    return pack(f"={2 + len(starts)}I", pool, size, *starts) + records + padding


def _joined(sections: Sequence[Section]) -> bytes:
    at = 4 + _TYPE.size * len(sections)
    table = pack("=I", len(sections))
    for rtype, kind, counts, body, extra in sections:
        table += _TYPE.pack(rtype, kind, counts, at, len(body) - extra, extra)
        at += len(body)
    return table + b"".join(section[3] for section in sections)
