"""What stands at a name: for a record type and a caller, the records.

Invariant: records that answer begin with a pointer to the question's name. A and AAAA of one caller in one
window of time speak of the same members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from isthmus.dns import draw, wire
from isthmus.dns.row import DrawRow, Member

_WAVERING_TTL: Final = 1
"""Seconds, while one more probe result can change who is drawn."""


class Records(NamedTuple):
    answers: Sequence[bytes]
    additional: Sequence[wire.Courtesy] = ()


NOTHING: Final = Records(())

SRV_TARGET: Final = wire.RR_HEAD + 6
"""Where the target stands in an SRV record whose owner is a pointer."""


class Node(Protocol):
    """A name that exists; a type without records is NODATA."""

    def records(self, qtype: int, client: str, now: float) -> Records:
        """The records of that type for a caller; `now` is wall-clock time in seconds."""
        ...


class Fixed:
    """The same records for everybody."""

    __slots__ = ("_records",)

    def __init__(self, records: dict[int, Records]) -> None:
        self._records = records

    def types(self) -> Iterable[tuple[int, Records]]:
        """All record types that there are, with their records."""
        return ((rtype, records) for rtype, records in self._records.items() if records.answers)

    def records(self, qtype: int, client: str, now: float) -> Records:
        return self._records.get(qtype, NOTHING)


EMPTY: Final = Fixed({})
"""A name without records of its own that has names below it (RFC 8020)."""


class Pod:
    """The addresses of one member, for everybody; made when asked for, because pods may be very many."""

    __slots__ = ("_member", "_ttl")

    def __init__(self, member: Member, ttl: int) -> None:
        self._member = member
        self._ttl = ttl

    def types(self) -> Iterable[tuple[int, Records]]:
        """All record types that there are, with their records."""
        both = ((rtype, self.records(rtype, "", 0)) for rtype in (wire.A, wire.AAAA))
        return ((rtype, records) for rtype, records in both if records.answers)

    def records(self, qtype: int, client: str, now: float) -> Records:
        if qtype not in (wire.A, wire.AAAA):
            return NOTHING
        addresses = self._member.v4 if qtype == wire.A else self._member.v6
        return Records(tuple(wire.rr(qtype, self._ttl, address) for address in dict.fromkeys(addresses)))


class Placed:
    """A name that is another one for callers in some places: by place, None where it does not exist.

    `default` is what stands there for all others (`isthmus/dns/places.py`).
    """

    __slots__ = ("by_place", "default")

    def __init__(self, default: Node | None, by_place: Mapping[int, Node | None]) -> None:
        self.default = default
        self.by_place = by_place

    def at(self, place: int) -> Node | None:
        """What stands there for callers in that place."""
        return self.by_place.get(place, self.default)


class Pool:
    """The members of one plan, to be drawn from."""

    __slots__ = ("members", "ports", "shares", "ttl", "version", "window")

    def __init__(self, row: DrawRow, ttl: int) -> None:
        self.shares = draw.shares(row.groups)
        self.version = row.version
        self.window = max(1, ttl)
        self.ttl = min(ttl, _WAVERING_TTL) if row.wavering else ttl
        self.members = row.members
        self.ports = row.ports

    def pick(self, client: str, now: float) -> list[int]:
        """Positions in `members` of this caller's draw; a draw holds for one TTL."""
        return draw.pick(self.shares, draw.seed(self.version, client, int(now // self.window)))


class Drawn:
    """The name of a service whose addresses are those of endpoints."""

    __slots__ = ("_members", "pool", "srv")

    def __init__(self, pool: Pool, members: Sequence[Member]) -> None:
        self.pool = pool
        self.srv: Node = EMPTY
        self._members = members

    def with_srv(self, node: Node) -> Drawn:
        """Lets `node` answer SRV at this name."""
        self.srv = node
        return self

    def records(self, qtype: int, client: str, now: float) -> Records:
        if qtype == wire.SRV:
            return self.srv.records(qtype, client, now)
        return Records(self.addresses(qtype, client, now))

    def addresses(self, qtype: int, client: str, now: float, owner: bytes = wire.QNAME) -> Sequence[bytes]:
        """A or AAAA records of the drawn members, an address that two members share only once.

        Where no drawn member has an address of that family, the next member that has one stands in: a service
        whose clusters differ in families must not look empty to a caller who knows only one of them.
        """
        if qtype not in (wire.A, wire.AAAA):
            return ()
        members = self.pool.members
        picked = self.pool.pick(client, now)
        if not picked:
            return ()
        found = [record for at in picked for record in self.of_member(qtype, members[at], owner)]
        if not found:
            turn = picked[0]
            for at in (*members[turn:], *members[:turn]):
                if found := self.of_member(qtype, at, owner):
                    break
        return found if len(found) < 2 else tuple(dict.fromkeys(found))

    def of_member(self, qtype: int, at: int, owner: bytes = wire.QNAME) -> list[bytes]:
        """The A or AAAA records of one member, drawn or not."""
        member = self._members[at]
        addresses = member.v4 if qtype == wire.A else member.v6
        return [wire.rr(qtype, self.pool.ttl, address, owner) for address in addresses]


class NamedTargets:
    """SRV records that lead to the service's own name, whose addresses are drawn."""

    __slots__ = ("_records", "_service")

    def __init__(self, records: Sequence[bytes], service: Drawn) -> None:
        self._records = records
        self._service = service

    def records(self, qtype: int, client: str, now: float) -> Records:
        if qtype != wire.SRV or not self._records:
            return NOTHING
        extra = [
            wire.Courtesy(0, SRV_TARGET, record)
            for family in (wire.A, wire.AAAA)
            for record in self._service.addresses(family, client, now, owner=b"")
        ]
        return Records(self._records, extra)


class DrawnTargets:
    """SRV records that lead to the names of drawn pods, for one port or for several."""

    __slots__ = ("_members", "_names", "_ttl", "pools")

    def __init__(self, pools: Sequence[Pool], members: Sequence[Member], names: Sequence[bytes]) -> None:
        self.pools = pools
        self._members = members
        self._names = names
        self._ttl = min((pool.ttl for pool in pools), default=0)

    def records(self, qtype: int, client: str, now: float) -> Records:
        """One record per drawn pod and port number; the weights are equal, for the draw holds the shares."""
        if qtype != wire.SRV:
            return NOTHING
        found: dict[tuple[bytes, int], bytes] = {}
        extra: list[wire.Courtesy] = []
        named: set[bytes] = set()
        for pool in self.pools:
            picked = pool.pick(client, now) if pool.ports else ()
            for at in picked:
                target, port = self._names[pool.members[at]], pool.ports[at]
                if not target or (target, port) in found:
                    continue
                weight = max(1, 100 // len(picked))
                found[target, port] = wire.rr(wire.SRV, self._ttl, wire.srv_data(weight, port, target))
                if target not in named:
                    named.add(target)
                    number = len(found) - 1
                    extra += courtesies(self._members[pool.members[at]], self._ttl, number, SRV_TARGET)
        return Records(tuple(found.values()), extra)


def courtesies(member: Member, ttl: int, answer: int, at: int) -> list[wire.Courtesy]:
    """All A, then all AAAA records of a member whose name stands `at` bytes into that answer."""
    return [
        wire.Courtesy(answer, at, wire.rr(rtype, ttl, address, b""))
        for rtype, addresses in ((wire.A, member.v4), (wire.AAAA, member.v6))
        for address in addresses
    ]
