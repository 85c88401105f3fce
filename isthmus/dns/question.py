"""What a query asks, read by hand: every class of malformed message has its outcome (RFC 1035, 6891, 9619).

Invariant: reading never raises and never looks outside the message, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from isthmus.dns import wire

_RR: Final = Struct("!HHIH")
_TWO: Final = Struct("!HH")
_MAX_RECORDS: Final = 32
"""Records beyond the question that we are willing to walk over; IXFR and OPT need one each."""
_OPCODE_QUERY: Final = 0


class Edns(NamedTuple):
    """The OPT record of a query: the payload the client can take, the version it speaks, the DO bit.

    `options` is the undivided data of OPT, already checked to divide into whole options.
    """

    size: int
    version: int
    do: bool
    options: bytes


class Question(NamedTuple):
    """A query with one well-formed question. `folded` is the name in lower case, in wire form."""

    ident: int
    flags: int
    """The bits a reply copies: opcode, RD, CD."""
    folded: bytes
    question: bytes
    """Name, type and class byte for byte as they came."""
    qtype: int
    qclass: int
    edns: Edns | None


class Malformed(NamedTuple):
    """A query that gets an error and no more: FORMERR, or NOTIMP for an opcode we do not speak."""

    ident: int
    flags: int
    rcode: int
    question: bytes = b""


def parse(query: bytes) -> Question | Malformed | None:
    """Read a message; None where it deserves no reply: shorter than a header, or itself a reply."""
    if len(query) < wire.HEADER_SIZE:
        return None
    ident, bits, qdcount, ancount, nscount, arcount = wire.HEADER.unpack_from(query)
    if bits & wire.QR:
        return None
    flags = bits & (wire.OPCODE_MASK | wire.RD | wire.CD)
    if bits & wire.OPCODE_MASK != _OPCODE_QUERY:
        return Malformed(ident, flags, wire.NOTIMP)
    end = name_end(query, wire.HEADER_SIZE) if qdcount == 1 else None
    if end is None or len(query) < end + 4:
        return Malformed(ident, flags, wire.FORMERR)
    question = query[wire.HEADER_SIZE : end + 4]
    qtype, qclass = _TWO.unpack_from(query, end)
    edns: Edns | None = None
    if ancount or nscount or arcount:
        found = _edns(query, end + 4, ancount + nscount, arcount)
        if isinstance(found, str):
            return Malformed(ident, flags, wire.FORMERR, question)
        edns = found
    if qtype in (wire.OPT, wire.TKEY, wire.TSIG):
        return Malformed(ident, flags, wire.FORMERR, question)
    return Question(ident, flags, query[wire.HEADER_SIZE : end].lower(), question, qtype, qclass, edns)


def name_end(query: bytes, at: int) -> int | None:
    """Offset behind an uncompressed name; None where it is cut, too long, or has a label of another kind."""
    start = at
    size = len(query)
    while at < size:
        length = query[at]
        if length == 0:
            return at + 1 if at + 1 - start <= wire.MAX_NAME else None
        if length > wire.MAX_LABEL:
            return None
        at += 1 + length
    return None


def _edns(query: bytes, at: int, before: int, arcount: int) -> Edns | str | None:
    """The OPT record among the additional ones, None where there is none, else what is wrong."""
    if before + arcount > _MAX_RECORDS:
        return "too many records"
    edns: Edns | None = None
    for index in range(before + arcount):
        end = _owner_end(query, at)
        if end is None or len(query) < end + _RR.size:
            return "cut record"
        rtype, size, ttl, length = _RR.unpack_from(query, end)
        data = end + _RR.size
        if len(query) < data + length:
            return "cut record"
        if rtype == wire.OPT:
            if index < before or edns is not None or end != at + 1:
                return "misplaced OPT"
            options = query[data : data + length]
            if not _divides(options):
                return "cut option"
            edns = Edns(size, ttl >> 16 & 0xFF, bool(ttl & wire.DO), options)
        at = data + length
    return edns


def _owner_end(query: bytes, at: int) -> int | None:
    """Offset behind an owner name, which may end in a pointer; where it points to is of no interest."""
    size = len(query)
    while at < size:
        length = query[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > wire.MAX_LABEL:
            return None
        at += 1 + length
    return None


def _divides(options: bytes) -> bool:
    at = 0
    while at < len(options):
        if at + 4 > len(options):
            return False
        at += 4 + _TWO.unpack_from(options, at)[1]
    return at == len(options)


def options_of(options: bytes) -> Iterator[tuple[int, bytes]]:
    """Code and data of each option; `options` is that of an `Edns`, which divides."""
    at = 0
    while at < len(options):
        code, size = _TWO.unpack_from(options, at)
        yield code, options[at + 4 : at + 4 + size]
        at += 4 + size
