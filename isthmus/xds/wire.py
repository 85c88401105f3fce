"""Protobuf fields put together by hand, so that resources are serialised once and only joined afterwards.

Concatenating serialised fields is legal protobuf (encoding guide, "last one wins" and repeated fields): a
response is its header, the fields of its resources, and its nonce.
"""

from __future__ import annotations


def varint(number: int) -> bytes:
    """A non-negative integer as a base-128 varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: bytes | str) -> bytes:
    """A length-delimited field: a string, bytes or an embedded message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data
