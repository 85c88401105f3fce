"""Rows: all that a worker needs to answer for one service at one vantage, as control sends it (msgpack).

Invariant: a row holds nothing that its answers do not depend on, so an unchanged answer is an unchanged row
and travels nowhere. Positional encoding: both ends are of one release, and a worker restarts with control.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from isthmus.errors import WireError
from isthmus.model.names import ServiceKey, Vantage
from isthmus.model.plan import TOTAL_BASIS_POINTS

LONGEST_TTL: Final = (1 << 31) - 1
"""Seconds (RFC 2181, section 8)."""

STALE_KEY: Final = "stale"
"""The key of the row, of whatever value, that is there while control answers from what it heard long ago."""

V4 = Annotated[bytes, Meta(min_length=4, max_length=4)]
V6 = Annotated[bytes, Meta(min_length=16, max_length=16)]
Word = Annotated[int, Meta(ge=0, le=0xFFFF)]
"""A number as SRV records hold it: a port or a weight (RFC 2782)."""
Count = Annotated[int, Meta(ge=0)]
BasisPoints = Annotated[int, Meta(ge=0, le=TOTAL_BASIS_POINTS)]


class Member(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An endpoint that answers may name: its host label, its cluster id, its packed addresses."""

    host: str
    cluster: str
    v4: tuple[V4, ...]
    v6: tuple[V6, ...]


class DrawRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The shares of one plan. `members` index `Row.members`, group after group.

    `groups` are (basis points, number of members); `ports` stands beside `members` and is empty in the plan
    of the service as a whole; `version` changes when, and only when, who is drawn with which share changes.
    """

    groups: tuple[tuple[BasisPoints, Count], ...]
    members: tuple[Count, ...]
    ports: tuple[Word, ...]
    version: bytes
    wavering: bool


class PortRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A service port: drawn where the service is headless, else `targets` as (port, weight) at its name."""

    name: str
    protocol: str
    targets: tuple[tuple[Word, Word], ...] = ()
    draw: DrawRow | None = None


class Row(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One service. With `draw` its addresses are drawn from the members, else they are `v4` and `v6`.

    `exists` False: the name and all below it are NXDOMAIN (Kubernetes has no ready endpoint anywhere).
    `ports` has only those that exist in the same sense. `ttl` is in seconds.
    """

    namespace: str
    name: str
    ttl: Annotated[int, Meta(ge=0, le=LONGEST_TTL)]
    exists: bool = True
    headless: bool = False
    v4: tuple[V4, ...] = ()
    v6: tuple[V6, ...] = ()
    members: tuple[Member, ...] = ()
    draw: DrawRow | None = None
    ports: tuple[PortRow, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Row).decode


def encode(row: Row) -> bytes:
    """The row as bytes; equal rows are equal bytes."""
    return _encode(row)


def decode(raw: bytes) -> Row:
    """The row in `raw`. Raises WireError when it is not one."""
    try:
        row = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"not a DNS row: {error}") from error
    draws = (row.draw, *(port.draw for port in row.ports))
    if not all(_is_sound(draw, len(row.members)) for draw in draws if draw is not None):
        raise WireError("not a DNS row: it draws from members that it has not")
    return row


def _is_sound(draw: DrawRow, members: int) -> bool:
    """Whether a draw's numbers fit each other and the members of its row."""
    return (
        all(at < members for at in draw.members)
        and sum(points for points, _ in draw.groups) <= TOTAL_BASIS_POINTS
        and sum(count for _, count in draw.groups) == len(draw.members)
        and len(draw.ports) in (0, len(draw.members))
    )


def row_key(vantage: Vantage, service: ServiceKey) -> str:
    """The key of a row in the table `dns`: `vantage|namespace/name`."""
    return f"{vantage}|{service}"
