"""What a DNS worker tells monitoring, and how it counts.

Both paths count in one row of numbers (`WIDTH` for UDP, then as many for TCP), which `_core` lays out
the same way, so that what is told does not depend on who answered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from isthmus.dns import forward, wire
from isthmus.dns.question import name_end
from isthmus.flow.stats import Metric, Sample

Transport = Literal["udp", "tcp"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("udp", "tcp")

TYPES: Final = {
    1: "A",
    28: "AAAA",
    33: "SRV",
    16: "TXT",
    6: "SOA",
    2: "NS",
    12: "PTR",
    65: "HTTPS",
    255: "ANY",
}
OTHER: Final = "other"
TYPE_NAMES: Final = (*TYPES.values(), OTHER)
OUTCOMES: Final = (
    "NOERROR",
    "NODATA",
    "NXDOMAIN",
    "FORMERR",
    "SERVFAIL",
    "NOTIMP",
    "REFUSED",
    "BADVERS",
    OTHER,
)
BOUNDS: Final = (0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.1)

_PLACE_OF_TYPE: Final = {rtype: place for place, rtype in enumerate(TYPES)}
_PLACE_OF_RCODE: Final = {0: 0, 1: 3, 2: 4, 3: 2, 4: 5, 5: 6}
_OUTCOME_AT: Final = len(TYPE_NAMES)
_TRUNCATED, _FAST, _PYTHON, _NOT_QUERIES, _ASIDE_FULL, _UNSENT = range(
    _OUTCOME_AT + len(OUTCOMES), _OUTCOME_AT + len(OUTCOMES) + 6
)
_BUCKETS_AT: Final = _UNSENT + 1
_NANOSECONDS: Final = _BUCKETS_AT + len(BOUNDS) + 1
WIDTH: Final = _NANOSECONDS + 1

QUERIES: Final = Metric(
    name="isthmus_dns_queries",
    help="Queries that were answered, by type and transport.",
    labels=("type", "transport"),
)
REPLIES: Final = Metric(
    name="isthmus_dns_replies",
    help="Replies by outcome and transport; NODATA is NOERROR without a record of the type.",
    labels=("outcome", "transport"),
)
PATHS: Final = Metric(
    name="isthmus_dns_answers",
    help="Replies by who gave them: the fast path, or Python.",
    labels=("path", "transport"),
)
TRUNCATED: Final = Metric(
    name="isthmus_dns_truncated_replies", help="Replies over UDP that tell the caller to ask again over TCP."
)
DROPPED: Final = Metric(
    name="isthmus_dns_dropped",
    help="Messages without a reply: no query at all, no room in the queue for Python or in the socket's "
    "buffer, or not to be sent.",
    labels=("reason",),
)
SECONDS: Final = Metric(
    name="isthmus_dns_reply_seconds",
    help="From the receipt of a batch of UDP queries to their replies, each reply counted.",
    kind="histogram",
    bounds=BOUNDS,
)
CONNECTIONS: Final = Metric(
    name="isthmus_dns_tcp_connections", help="TCP connections that are open.", kind="gauge"
)
REFUSED: Final = Metric(name="isthmus_dns_tcp_refused", help="TCP connections that were one too many.")
NAMES: Final = Metric(name="isthmus_dns_names", help="Names in the zone.", kind="gauge")
SERVICES: Final = Metric(name="isthmus_dns_services", help="Services in the zone.", kind="gauge")
FAST: Final = Metric(name="isthmus_dns_fast_path", help="1 where the fast path answers.", kind="gauge")
FORWARDED: Final = Metric(
    name="isthmus_dns_forwarded",
    help="Queries about other zones (not among the queries above), by what came of them.",
    labels=("outcome",),
)
FORWARD_WAITING: Final = Metric(
    name="isthmus_dns_forward_waiting", help="Queries about other zones that wait for a reply.", kind="gauge"
)
FORWARD_DEAD: Final = Metric(
    name="isthmus_dns_forward_dead_servers",
    help="Servers of --dns-forward that do not reply.",
    kind="gauge",
)
FORWARD_SECONDS: Final = Metric(
    name="isthmus_dns_forward_seconds",
    help="From a question about another zone to its reply, or to giving up.",
    kind="histogram",
    bounds=forward.SECONDS,
)
METRICS: Final = (
    QUERIES,
    REPLIES,
    PATHS,
    TRUNCATED,
    DROPPED,
    SECONDS,
    CONNECTIONS,
    REFUSED,
    NAMES,
    SERVICES,
    FAST,
    FORWARDED,
    FORWARD_WAITING,
    FORWARD_DEAD,
    FORWARD_SECONDS,
)


class Tally:
    """The numbers of a worker without a fast path."""

    def __init__(self) -> None:
        self.numbers = [0] * (2 * WIDTH)

    def count(self, reply: bytes | None, transport: Transport) -> None:
        """Count a reply, None being what was no query."""
        numbers = self.numbers
        base = WIDTH if transport == "tcp" else 0
        if reply is None:
            numbers[base + _NOT_QUERIES] += 1
            return
        numbers[base + _PYTHON] += 1
        numbers[base + _PLACE_OF_TYPE.get(_type(reply), len(TYPES))] += 1
        numbers[base + _OUTCOME_AT + outcome(reply)] += 1
        if reply[2] & 2:
            numbers[base + _TRUNCATED] += 1

    def unsent(self) -> None:
        """Count a reply that could not be sent."""
        self.numbers[_UNSENT] += 1

    def took(self, nanoseconds: int, replies: int) -> None:
        """Count how long a batch of replies over UDP took."""
        self.numbers[_BUCKETS_AT + bisect_left(BOUNDS, nanoseconds / 1e9)] += replies
        self.numbers[_NANOSECONDS] += nanoseconds * replies


def outcome(reply: bytes) -> int:
    """The place among OUTCOMES of a reply of ours."""
    rcode = reply[3] & 0xF
    if rcode or reply[6] or reply[7] or reply[2] & 2:
        return _PLACE_OF_RCODE.get(rcode, len(OUTCOMES) - 1)
    return 1 if reply[9] else 7


def _type(reply: bytes) -> int:
    end = name_end(reply, wire.HEADER_SIZE) if reply[5] == 1 else None
    return 0 if end is None else int.from_bytes(reply[end : end + 2], "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All numbers of a worker at one moment.

    `numbers` are `2 * WIDTH` as counted; `overflowed` is what the kernel dropped; `forwarder` is there where
    other zones are forwarded.
    """

    numbers: Sequence[int]
    overflowed: int
    connections: int
    refused: int
    names: int
    services: int
    fast: bool
    forwarder: forward.Forwarder | None

    def samples(self) -> Iterator[Sample]:
        """For `flow.stats`; every series is there from the start."""
        for transport, base in zip(TRANSPORTS, (0, WIDTH), strict=True):
            held = self.numbers[base : base + WIDTH]
            for place, name in enumerate(TYPE_NAMES):
                yield Sample(QUERIES, (name, transport), (float(held[place]),))
            for place, name in enumerate(OUTCOMES):
                yield Sample(REPLIES, (name, transport), (float(held[_OUTCOME_AT + place]),))
            for path, place in (("fast", _FAST), ("python", _PYTHON)):
                yield Sample(PATHS, (path, transport), (float(held[place]),))
        udp, tcp = self.numbers[:WIDTH], self.numbers[WIDTH:]
        yield Sample(TRUNCATED, (), (float(udp[_TRUNCATED]),))
        for reason, number in (
            ("not_a_query", udp[_NOT_QUERIES] + tcp[_NOT_QUERIES]),
            ("python_queue_full", udp[_ASIDE_FULL]),
            ("receive_buffer_full", self.overflowed),
            ("send_failed", udp[_UNSENT]),
        ):
            yield Sample(DROPPED, (reason,), (float(number),))
        buckets = udp[_BUCKETS_AT:_NANOSECONDS]
        yield Sample(SECONDS, (), (*map(float, buckets), udp[_NANOSECONDS] / 1e9))
        yield Sample(CONNECTIONS, (), (float(self.connections),))
        yield Sample(REFUSED, (), (float(self.refused),))
        yield Sample(NAMES, (), (float(self.names),))
        yield Sample(SERVICES, (), (float(self.services),))
        yield Sample(FAST, (), (float(self.fast),))
        yield from self._forwarded()

    def _forwarded(self) -> Iterator[Sample]:
        held = self.forwarder
        for outcome in forward.OUTCOMES:
            yield Sample(FORWARDED, (outcome,), (float(held.outcomes[outcome]) if held else 0.0,))
        yield Sample(FORWARD_WAITING, (), (float(held.waiting) if held else 0.0,))
        yield Sample(FORWARD_DEAD, (), (float(held.dead) if held else 0.0,))
        buckets = held.buckets if held else [0] * (len(forward.SECONDS) + 1)
        yield Sample(FORWARD_SECONDS, (), (*map(float, buckets), held.seconds if held else 0.0))
