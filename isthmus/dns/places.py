"""Which zone a caller stands in, by its address (architecture, "vantage").

A row of the table `dns` says which addresses of this cluster's Nodes and pods lie in which zone. Whoever has
none of these stands nowhere but in the cluster. Invariant: a place can only be one of this cluster, so what a
caller says of itself (EDNS Client Subnet) chooses between answers that this cluster's callers get anyway.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from isthmus.dns.draw import client_words
from isthmus.errors import WireError

ZONES_KEY: Final = "zones"
"""The key of the row that says where callers stand."""

ANYWHERE: Final = 0
"""The place of callers of whom only the cluster is known."""

_V4_SPACE: Final = 1 << 32


class Prefix(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Addresses in one zone: those of a Node, or (`pods`) those that a Node gives to its pods.

    `address` is packed, `vantage` an index into `Zones.vantages`.
    """

    address: Annotated[bytes, Meta(min_length=4, max_length=16)]
    length: Annotated[int, Meta(ge=0, le=128)]
    vantage: Annotated[int, Meta(ge=0)]
    pods: bool = False


class Zones(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The row: vantages as rows of services name them, and the addresses of each."""

    vantages: tuple[str, ...] = ()
    prefixes: tuple[Prefix, ...] = ()


class Range(NamedTuple):
    """Addresses as numbers, both ends included; those of IPv4 are the lowest."""

    first: int
    last: int
    place: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Zones).decode


def encode(zones: Zones) -> bytes:
    """The row as bytes; equal rows are equal bytes."""
    return _encode(zones)


def decode(raw: bytes) -> Zones:
    """The row in `raw`. Raises WireError when it is not one."""
    try:
        zones = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"not a row of zones: {error}") from error
    for prefix in zones.prefixes:
        size = len(prefix.address)
        if size not in (4, 16) or prefix.length > 8 * size or prefix.vantage >= len(zones.vantages):
            raise WireError("not a row of zones: a prefix is none, or of no zone")
    return zones


def ranges(prefixes: Iterable[tuple[bytes, int, int]]) -> tuple[Range, ...]:
    """Disjoint ranges in order, of (packed address, length, place): the longer prefix holds.

    A prefix of two places is of none. IPv6 prefixes that begin at zero are left out: IPv4 is counted there.
    """
    claimed: dict[tuple[int, int], int] = {}
    for address, length, place in prefixes:
        bits = 8 * len(address)
        host = (1 << (bits - length)) - 1
        first = int.from_bytes(address, "big") & ~host
        if bits == 128 and first < _V4_SPACE:
            continue
        last = first | host
        claimed[first, last] = place if claimed.get((first, last), place) == place else ANYWHERE
    found: list[Range] = []
    open_: list[Range] = []

    def write(until: int) -> None:
        """What is open holds up to `until`, as far as nothing is written there yet."""
        inner = open_[-1]
        first = max(inner.first, found[-1].last + 1) if found else inner.first
        if first <= until:
            found.append(Range(first, until, inner.place))

    def close(before: int | None) -> None:
        while open_ and (before is None or open_[-1].last < before):
            write(open_[-1].last)
            open_.pop()

    for (first, last), place in sorted(claimed.items(), key=lambda one: (one[0][0], -one[0][1])):
        close(first)
        if open_:
            write(first - 1)
        open_.append(Range(first, last, place))
    close(None)
    return tuple(one for one in _joined(found) if one.place != ANYWHERE)


def _joined(found: Sequence[Range]) -> list[Range]:
    """Neighbours of one place as one."""
    joined: list[Range] = []
    for one in found:
        if joined and joined[-1].last + 1 == one.first and joined[-1].place == one.place:
            joined[-1] = joined[-1]._replace(last=one.last)
        else:
            joined.append(one)
    return joined


class Places:
    """Where callers stand, by number: 1 and following are zones, as they were first heard of.

    With `direct` pods ask by themselves, and the address of a pod is a caller's. Without it, it is that of a
    resolver for pods of all zones (CoreDNS is a pod), and says nothing; the address of a Node is that of the
    cache on it.
    """

    def __init__(self, *, direct: bool = False) -> None:
        self._askers = Lookup(())
        self._subnets = Lookup(())
        self._direct = direct
        self._numbers: dict[str, int] = {}

    @property
    def askers(self) -> tuple[Range, ...]:
        """Where queries come from."""
        return self._askers.ranges

    def number(self, vantage: str) -> int:
        """The number of a vantage with a zone; it stays."""
        return self._numbers.setdefault(vantage, len(self._numbers) + 1)

    def set(self, zones: Zones) -> None:
        """Replaces all that is known of addresses."""
        numbers = [self.number(vantage) for vantage in zones.vantages]
        every = [(one.address, one.length, numbers[one.vantage], one.pods) for one in zones.prefixes]
        self._askers = Lookup(ranges(one[:3] for one in every if self._direct or not one[3]))
        self._subnets = Lookup(ranges(one[:3] for one in every))

    def of_asker(self, client: str) -> int:
        """The place of an address from which was asked."""
        if not self.askers:
            return ANYWHERE
        high, low = client_words(client)
        return self._askers.of(high << 64 | low, high << 64 | low)

    def of_subnet(self, client: str, length: int) -> int:
        """The place of a subnet (first address, bits), if all that is known of it lies in one zone."""
        if not self._subnets.ranges:
            return ANYWHERE
        high, low = client_words(client)
        first = high << 64 | low
        if ":" in client and first < _V4_SPACE:
            return ANYWHERE
        return self._subnets.of(first, first | (1 << ((128 if ":" in client else 32) - length)) - 1)


class Lookup:
    """Disjoint ranges, to be looked up in."""

    def __init__(self, held: tuple[Range, ...]) -> None:
        self.ranges = held
        self._firsts = [one.first for one in held]
        self._lasts = [one.last for one in held]
        self._alike = list(range(1, len(held) + 1))
        """For each range the end of the row of ranges that begins with it and has one place."""
        for at in range(len(held) - 2, -1, -1):
            if held[at].place == held[at + 1].place:
                self._alike[at] = self._alike[at + 1]

    def of(self, first: int, last: int) -> int:
        """The place of numbers from `first` to `last`, if what is known of them is one."""
        begin, end = bisect_left(self._lasts, first), bisect_right(self._firsts, last)
        return self.ranges[begin].place if begin < end <= self._alike[begin] else ANYWHERE
