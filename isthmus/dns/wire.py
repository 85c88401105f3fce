"""DNS messages as bytes: numbers, names, records, OPT, the assembly of a reply (RFC 1035, 6891, 8914).

Invariant: a record whose owner is the question's name starts with a pointer to offset 12, so that the reply
repeats the case of the question byte for byte; a reply never exceeds the limit it was given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

HEADER_SIZE: Final = 12
MAX_LABEL: Final = 63
MAX_NAME: Final = 255
MAX_MESSAGE: Final = 65_535
MIN_UDP_SIZE: Final = 512
MAX_UDP_SIZE: Final = 4096

IN: Final = 1

A: Final = 1
NS: Final = 2
SOA: Final = 6
HINFO: Final = 13
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
TKEY: Final = 249
TSIG: Final = 250
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16

QR: Final = 0x8000
OPCODE_MASK: Final = 0x7800
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010
DO: Final = 0x8000

EDE_STALE_ANSWER: Final = 3
EDE_NOT_READY: Final = 14
EDE_PROHIBITED: Final = 18
EDE_STALE_NXDOMAIN: Final = 19
EDE_NOT_AUTHORITATIVE: Final = 20
EDE_NETWORK_ERROR: Final = 23
_EDE_OPTION: Final = 15

QNAME: Final = b"\xc0\x0c"
"""Compression pointer to the name of the question."""

HEADER: Final = Struct("!HHHHHH")
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_RR: Final = Struct("!HHIH")
_OPT: Final = Struct("!xHHBBHH")
_SRV: Final = Struct("!HHH")
_SOA_TIMERS: Final = Struct("!IIIII")
_U16: Final = Struct("!H")
_OPTION: Final = Struct("!HHH")


_LAST_POINTER: Final = 0x3FFF
RR_HEAD: Final = 12
"""Length of what stands before a record's data when its owner is a pointer."""


class Courtesy(NamedTuple):
    """An additional record about a name that an answer mentions.

    The owner is the name that stands `at` bytes into the answer number `answer`; `tail` is all that follows.
    """

    answer: int
    at: int
    tail: bytes


def pointer(offset: int) -> bytes:
    """A compression pointer to that offset of the message (RFC 1035, 4.1.4)."""
    return _U16.pack(0xC000 | offset)


def label(text: str) -> bytes | None:
    """One label as folded wire bytes, None unless it is 1 to 63 letters, digits, dashes or underscores."""
    if not _LABEL.fullmatch(text):
        return None
    return bytes((len(text),)) + text.lower().encode("ascii")


def name(text: str) -> bytes | None:
    """A dotted name as folded wire bytes with the root label, None where it is not a legal name."""
    wire = b""
    for part in text.rstrip(".").split("."):
        one = label(part)
        if one is None:
            return None
        wire += one
    return wire + b"\x00" if len(wire) < MAX_NAME else None


def rr_head(rtype: int, ttl: int, size: int, owner: bytes = QNAME) -> bytes:
    """Everything of a record before its data: owner, type, class IN, TTL in seconds, length of the data."""
    return owner + _RR.pack(rtype, IN, ttl, size)


def rr(rtype: int, ttl: int, data: bytes, owner: bytes = QNAME) -> bytes:
    """A whole record of class IN; `owner` is a wire name or a pointer."""
    return owner + _RR.pack(rtype, IN, ttl, len(data)) + data


def srv_data(weight: int, port: int, target: bytes) -> bytes:
    """The data of an SRV record with priority 0; the target is never compressed (RFC 2782)."""
    return _SRV.pack(0, weight, port) + target


def text_data(text: str) -> bytes:
    """One character-string of at most 255 bytes."""
    raw = text.encode("ascii")
    return bytes((len(raw),)) + raw


def soa(owner: bytes, serial: int, ttl: int, negative_ttl: int) -> bytes:
    """The zone's SOA record; `owner` is the zone's wire name or a pointer to it, used in the data as well."""
    data = b"\x02ns\x03dns" + owner + b"\x0ahostmaster" + owner
    return rr(SOA, ttl, data + _SOA_TIMERS.pack(serial & 0xFFFFFFFF, 7200, 1800, 86_400, negative_ttl), owner)


def ede(code: int, text: str = "") -> bytes:
    """An Extended DNS Error option (RFC 8914); it goes into the data of OPT."""
    raw = text.encode("ascii")
    return _OPTION.pack(_EDE_OPTION, 2 + len(raw), code) + raw


def opt(size: int, *, extended: int = 0, do: bool = False, options: bytes = b"") -> bytes:
    """The OPT record of a reply, version 0; `extended` are the upper bits of the response code (RFC 6891)."""
    return _OPT.pack(OPT, size, extended, 0, DO if do else 0, len(options)) + options


def message(
    ident: int,
    flags: int,
    question: bytes,
    answers: Sequence[bytes],
    authority: bytes,
    additional: Sequence[Courtesy],
    opt_record: bytes,
    limit: int,
    *,
    cut: bool = False,
) -> bytes:
    """A reply of at most `limit` bytes.

    What does not fit goes in this order: the additional records (they are only a courtesy), then all records,
    with TC set, so that the caller asks again over TCP. With `cut` (TCP itself) the last answers are left out
    instead. `flags` holds the response code; `authority` is one record or nothing; `opt_record` may be empty.
    """
    fixed = HEADER_SIZE + len(question) + len(authority) + len(opt_record)
    body = b"".join(answers)
    if fixed + len(body) > limit:
        additional = ()
        answers = _fitting(answers, limit - fixed) if cut else ()
        body = b"".join(answers)
        if not cut:
            flags |= TC
            authority = b""
    extra = courtesies(answers, additional, HEADER_SIZE + len(question)) if additional else []
    tail = b"".join(extra)
    if tail and fixed + len(body) + len(tail) > limit:
        extra, tail = [], b""
    counts = len(extra) + (1 if opt_record else 0)
    header = HEADER.pack(ident, flags, 1 if question else 0, len(answers), 1 if authority else 0, counts)
    return header + question + body + authority + tail + opt_record


def _fitting(records: Sequence[bytes], room: int) -> Sequence[bytes]:
    for count, record in enumerate(records):
        room -= len(record)
        if room < 0:
            return records[:count]
    return records


def courtesies(answers: Sequence[bytes], additional: Sequence[Courtesy], start: int) -> list[bytes]:
    """The additional records, with pointers as owners; one that no pointer can reach is left out."""
    starts = [start]
    for answer in answers:
        starts.append(starts[-1] + len(answer))
    return [
        pointer(starts[number] + at) + tail
        for number, at, tail in additional
        if starts[number] + at <= _LAST_POINTER
    ]
