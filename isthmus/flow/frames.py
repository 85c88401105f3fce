"""Frames of the link that replicates tables between processes (see `flow.replica`).

A frame is a four-byte big-endian length and a msgpack array whose first element names its type. Invariants:
bytes that are no frame raise WireError and nothing else; no frame is longer than MAX_FRAME; rows are batched
to about BATCH_BYTES so that a reader is never busy for long with one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from isthmus.errors import WireError

PROTOCOL = 1
HEADER_BYTES = 4
BATCH_BYTES = 64 * 1024
MAX_ROW = 16 * 1024 * 1024
"""Longest value of one row, in bytes."""
MAX_KEY = 1024
"""Longest key, in characters."""
MAX_FRAME = MAX_ROW + 8 * BATCH_BYTES


class Hello(msgspec.Struct, tag="hello", array_like=True, frozen=True, gc=False):
    """First frame of either side: who speaks, and which tables it takes."""

    protocol: int
    name: str
    takes: tuple[str, ...]


class Begin(msgspec.Struct, tag="begin", array_like=True, frozen=True, gc=False):
    """What follows up to End is all that the table holds."""

    table: str


class Rows(msgspec.Struct, tag="rows", array_like=True, frozen=True, gc=False):
    """Rows as (key, version, value); the version is `version_of(value)`."""

    table: str
    rows: list[tuple[str, bytes, bytes]]


class Drops(msgspec.Struct, tag="drops", array_like=True, frozen=True, gc=False):
    """Keys that have no row any more."""

    table: str
    keys: list[str]


class End(msgspec.Struct, tag="end", array_like=True, frozen=True, gc=False):
    """The table is complete; what follows are changes."""

    table: str


Frame: TypeAlias = Hello | Begin | Rows | Drops | End

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def version_of(value: bytes) -> bytes:
    """The version of a row: eight bytes of BLAKE2b over its value."""
    return hashlib.blake2b(value, digest_size=8).digest()


def encode(frame: Frame) -> bytes:
    """The frame with its length in front."""
    payload = _encode(frame)
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def length(header: bytes) -> int:
    """Payload bytes that follow this header. Raises WireError when that is none or above MAX_FRAME."""
    size = int.from_bytes(header, "big")
    if not 0 < size <= MAX_FRAME:
        raise WireError(f"replica link: a frame of {size} bytes is not between 1 and {MAX_FRAME}")
    return size


def decode(payload: bytes) -> Frame:
    """The frame in a payload. Raises WireError when it is not one, or a row is not what its version says."""
    try:
        frame: Frame = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"replica link: not a frame: {error}") from error
    if isinstance(frame, Rows):
        for key, version, value in frame.rows:
            if version != version_of(value):
                raise WireError(f"replica link: row {key!r} of {frame.table} differs from its version")
    return frame


def fits(key: str, value: bytes) -> bool:
    """Whether a row may travel; one that is too large stays at home and harms no other."""
    return len(value) <= MAX_ROW and len(key) <= MAX_KEY


def batches(table: str, rows: Iterable[tuple[str, bytes | None]]) -> Iterator[bytes]:
    """Encoded Rows and Drops of about BATCH_BYTES each; a value of None is a dropped key.

    `rows` is consumed as the frames are taken, so a consumer that waits between frames sends newest values.
    """
    held: list[tuple[str, bytes, bytes]] = []
    gone: list[str] = []
    size = 0
    for key, value in rows:
        if value is None:
            gone.append(key)
            size += len(key) + 8
        else:
            held.append((key, version_of(value), value))
            size += len(key) + len(value) + 24
        if size >= BATCH_BYTES:
            yield _pack(table, held, gone)
            held, gone, size = [], [], 0
    if size:
        yield _pack(table, held, gone)


def _pack(table: str, held: list[tuple[str, bytes, bytes]], gone: list[str]) -> bytes:
    return (encode(Rows(table, held)) if held else b"") + (encode(Drops(table, gone)) if gone else b"")
