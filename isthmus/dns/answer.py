"""From a query to its reply: bytes in, bytes out (RFC 1034 section 4.3.2 for a zone that we alone serve).

Invariant: `answer` is pure but for the zone it reads; it raises for no input, and everything that is not a
query gets None. A reply carries OPT when, and only when, the query did.
"""

from __future__ import annotations

from typing import Final, Literal

from isthmus.dns import subnet, wire
from isthmus.dns.node import EMPTY, NOTHING, Drawn, DrawnTargets, NamedTargets, Node, Placed, Records
from isthmus.dns.question import Malformed, Question, parse
from isthmus.dns.zone import NEGATIVE_TTL, Zone

Transport = Literal["udp", "tcp"]
FORWARD: Final = "forward"
Reply = bytes | Literal["forward"] | None
"""None where there is none; "forward" where others are to be asked."""

_ANY = Records((wire.rr(wire.HINFO, NEGATIVE_TTL, wire.text_data("RFC8482") + wire.text_data("")),))


class Responder:
    """Answers from one zone. `udp_size` is the largest UDP payload we send and say we take (RFC 9715).

    With `forwards` recursion is offered: who desires it is not refused other zones.
    """

    def __init__(self, zone: Zone, *, udp_size: int = 1232, forwards: bool = False) -> None:
        self._zone = zone
        self._udp_size = max(udp_size, wire.MIN_UDP_SIZE)
        self._plain_opt = wire.opt(self._udp_size)
        self._forwards = forwards
        self._bits = wire.QR | (wire.RA if forwards else 0)

    def answer(self, query: bytes, client: str, now: float, transport: Transport) -> Reply:
        """The reply to one message.

        `client` is the caller's address as text and `now` wall-clock time in seconds: together they choose
        the draw. A resolver that says for which subnet it asks gets that subnet's draw (RFC 7871).
        """
        asked = parse(query)
        if asked is None:
            return None
        if isinstance(asked, Malformed):
            flags = self._bits | asked.flags | asked.rcode
            return wire.message(asked.ident, flags, asked.question, (), b"", (), b"", wire.MAX_MESSAGE)
        edns = asked.edns
        if edns is not None and edns.version > 0:
            return self._error(asked, transport, wire.NOERROR, extended=wire.BADVERS >> 4)
        asker = subnet.find(edns.options) if edns is not None and edns.options else None
        if isinstance(asker, subnet.NotASubnet):
            return self._error(asked, transport, wire.FORMERR)
        if asked.qclass != wire.IN:
            return self._error(asked, transport, wire.REFUSED)
        if asked.qtype in (wire.AXFR, wire.IXFR):
            return self._error(asked, transport, wire.REFUSED, wire.ede(wire.EDE_PROHIBITED))
        zone = self._zone
        node = zone.find(asked.folded)
        if node is None and not zone.encloses(asked.folded):
            if self._forwards and asked.flags & wire.RD:
                return FORWARD
            return self._error(asked, transport, wire.REFUSED, wire.ede(wire.EDE_NOT_AUTHORITATIVE))
        if not zone.synced:
            return self._error(asked, transport, wire.SERVFAIL, wire.ede(wire.EDE_NOT_READY, "not synced"))
        placed = isinstance(node, Placed)
        if isinstance(node, Placed):
            node = node.at(self._place(client, asker))
        if node is None:
            return self._negative(asked, transport, wire.NXDOMAIN, asker, tailored=placed)
        return self._positive(asked, node, client, now, transport, asker, placed=placed)

    def _place(self, client: str, asker: subnet.Subnet | None) -> int:
        """Where the caller stands: a subnet that it asks for goes before its own address."""
        places = self._zone.places
        if asker is None or asker.client is None:
            return places.of_asker(client)
        return places.of_subnet(asker.client, asker.source)

    def _positive(
        self,
        asked: Question,
        node: Node,
        client: str,
        now: float,
        transport: Transport,
        asker: subnet.Subnet | None,
        *,
        placed: bool,
    ) -> bytes:
        if asked.qtype == wire.ANY:
            records = NOTHING if node is EMPTY else _ANY
        else:
            records = node.records(asked.qtype, (asker and asker.client) or client, now)
        if not records.answers:
            return self._negative(asked, transport, wire.NOERROR, asker, tailored=placed)
        drawn = isinstance(node, Drawn | DrawnTargets | NamedTargets) and asked.qtype != wire.ANY
        options = asker.reply(tailored=drawn or placed) if asker is not None else b""
        if self._zone.stale:
            options += wire.ede(wire.EDE_STALE_ANSWER)
        return wire.message(
            asked.ident,
            self._bits | wire.AA | asked.flags,
            asked.question,
            records.answers,
            b"",
            records.additional,
            self._opt(asked, options),
            self._limit(asked, transport),
            cut=transport == "tcp",
        )

    def _negative(
        self,
        asked: Question,
        transport: Transport,
        rcode: int,
        asker: subnet.Subnet | None,
        *,
        tailored: bool,
    ) -> bytes:
        """NXDOMAIN or NODATA, with the SOA record that lets them be cached (RFC 2308)."""
        zone = self._zone
        options = b"" if asker is None else asker.reply(tailored=tailored)
        if zone.stale:
            stale = wire.EDE_STALE_NXDOMAIN if rcode == wire.NXDOMAIN else wire.EDE_STALE_ANSWER
            options += wire.ede(stale)
        owner = wire.pointer(wire.HEADER_SIZE + len(asked.folded) - len(zone.wire))
        return wire.message(
            asked.ident,
            self._bits | wire.AA | asked.flags | rcode,
            asked.question,
            (),
            wire.soa(owner, zone.serial, NEGATIVE_TTL, NEGATIVE_TTL),
            (),
            self._opt(asked, options),
            self._limit(asked, transport),
        )

    def _error(
        self, asked: Question, transport: Transport, rcode: int, options: bytes = b"", *, extended: int = 0
    ) -> bytes:
        opt = self._opt(asked, options, extended)
        flags = self._bits | asked.flags | rcode
        return wire.message(
            asked.ident, flags, asked.question, (), b"", (), opt, self._limit(asked, transport)
        )

    def _opt(self, asked: Question, options: bytes = b"", extended: int = 0) -> bytes:
        edns = asked.edns
        if edns is None:
            return b""
        if not (edns.do or options or extended):
            return self._plain_opt
        return wire.opt(self._udp_size, extended=extended, do=edns.do, options=options)

    def _limit(self, asked: Question, transport: Transport) -> int:
        if transport == "tcp":
            return wire.MAX_MESSAGE
        if asked.edns is None:
            return wire.MIN_UDP_SIZE
        return min(max(asked.edns.size, wire.MIN_UDP_SIZE), self._udp_size)
