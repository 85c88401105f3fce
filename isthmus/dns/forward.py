"""Other zones, asked of others: what lets a worker be a pod's resolver (RFC 5625). It keeps no answers.

Invariants: no query waits longer than `patience` times two; what is in flight is bounded, in all and per
caller; callers that ask the same at once share one question (RFC 5452, section 5), so that a resolver which
sends it back here waits for itself and gives up. Where no server answers, callers are told at once, but for
a few whose questions look for a sign of life.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import structlog

from isthmus.dns import wire
from isthmus.dns.question import Question, parse
from isthmus.dns.upstream import (
    Place,
    UnfitReplyError,
    answered,
    asked_anew,
    over_tcp,
    over_udp,
)

log = structlog.get_logger()

Transport = Literal["udp", "tcp"]
Later = Callable[[bytes], None]
"""Takes the reply to one query, once."""

DEAD_AFTER: Final = 3
"""Failures in a row after which a server counts as dead; while it replies to others, silence is none."""
SIGNS_OF_LIFE: Final = 16
"""Questions that go to a dead server at once; who comes then has no reply."""
SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 3.0)
"""Upper ends of the buckets in which the time of questions is counted."""
Outcome = Literal["answered", "no_answer", "too_many"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("answered", "no_answer", "too_many")
_UNKIND: Final = (wire.SERVFAIL, wire.NOTIMP, wire.REFUSED)
"""With one of these codes another server is asked, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardLimits:
    """Seconds that a server has for its reply; questions in flight in all, and callers' that wait each."""

    patience: float = 1.5
    questions: int = 256
    waiting: int = 1024
    per_client: int = 256


class _Waiting(NamedTuple):
    """A caller whose query is in flight."""

    query: bytes
    asked: Question
    client: str
    transport: Transport
    later: Later


@dataclass(slots=True, eq=False)
class _Server:
    """A server and how it did lately."""

    place: Place
    failures: int = 0
    asked: int = 0
    """Questions that it has before it."""
    heard: float = 0.0
    """When it last replied to anything."""

    @property
    def dead(self) -> bool:
        return self.failures >= DEAD_AFTER


@dataclass(slots=True)
class _Flight:
    """One question that is in flight, and for whom."""

    waiting: list[_Waiting] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Forwarder:
    """Asks `places`, the first that lives first. `udp_size` bounds what callers get over UDP."""

    def __init__(
        self, places: Sequence[Place], *, udp_size: int, limits: ForwardLimits | None = None
    ) -> None:
        self._servers = [_Server(place) for place in places]
        self._udp_size = udp_size
        self._limits = limits or ForwardLimits()
        self._flights: dict[bytes, _Flight] = {}
        self._clients: Counter[str] = Counter()
        self.outcomes: Counter[Outcome] = Counter()
        self.buckets = [0] * (len(SECONDS) + 1)
        """Questions by how long they took, each bucket's own count."""
        self.seconds = 0.0

    @property
    def waiting(self) -> int:
        """Callers whose query is in flight."""
        return self._clients.total()

    @property
    def dead(self) -> int:
        """Servers that have failed lately."""
        return sum(server.dead for server in self._servers)

    def take(self, query: bytes, client: str, transport: Transport, later: Later) -> None:
        """Have a well-formed query answered: `later` gets its reply, once, unless this is closed before."""
        asked = parse(query)
        if not isinstance(asked, Question):
            return
        one = _Waiting(query, asked, client, transport, later)
        key = b"%b%d%b%b" % (query[2:4], transport == "tcp", asked.folded, query[_end(asked) :])
        flight = self._flights.get(key)
        full = flight is None and len(self._flights) >= self._limits.questions
        full |= self.waiting >= self._limits.waiting or self._clients[client] >= self._limits.per_client
        if full:
            asyncio.get_running_loop().call_soon(self._reply, one, None, "too_many")
            return
        self._clients[client] += 1
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._fly(key, one), name="dns-forward")
        flight.waiting.append(one)

    async def close(self) -> None:
        """Give up what is in flight; nobody is told."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(self, key: bytes, first: _Waiting) -> None:
        began = time.monotonic()
        reply = None
        try:
            reply = await self._asked(first.query, first.asked, first.transport)
        finally:
            flight = self._flights.pop(key)
            taken = time.monotonic() - began
            self.buckets[bisect_left(SECONDS, taken)] += 1
            self.seconds += taken
            for one in flight.waiting:
                self._clients[one.client] -= 1
                if not self._clients[one.client]:
                    del self._clients[one.client]
        for one in flight.waiting:
            self._reply(one, reply, "no_answer" if reply is None else "answered")

    async def _asked(self, query: bytes, asked: Question, transport: Transport) -> bytes | None:
        """The first kind reply, else the last unkind one, None where there is none."""
        unkind = None
        end = time.monotonic() + 2 * self._limits.patience
        # One server alone is asked twice: a datagram may be lost.
        for server in sorted(self._servers, key=lambda one: one.dead) * (1 + (len(self._servers) == 1)):
            left = min(self._limits.patience, end - time.monotonic())
            if left <= 0 or (server.dead and server.asked >= SIGNS_OF_LIFE):
                continue
            reply = await self._tried(server, query, asked, transport, left)
            if reply is not None and reply[3] & 0xF not in _UNKIND:
                return reply
            unkind = reply or unkind
        return unkind

    async def _tried(
        self, server: _Server, query: bytes, asked: Question, transport: Transport, patience: float
    ) -> bytes | None:
        began = time.monotonic()
        server.asked += 1
        try:
            async with asyncio.timeout(patience):
                reply = await _exchanged(server.place, query, asked, transport)
        except OSError as error:  # a time-out is one
            if server.heard >= began:
                return None  # it lives, and has no reply to this one
            server.failures += 1
            if server.failures == DEAD_AFTER:
                log.warning("dns upstream dead", server=str(server.place), reason=str(error) or "no reply")
            return None
        finally:
            server.asked -= 1
        server.heard = time.monotonic()
        if server.dead:
            log.info("dns upstream answers again", server=str(server.place))
        server.failures = 0
        return reply

    def _reply(self, one: _Waiting, reply: bytes | None, outcome: Outcome) -> None:
        self.outcomes[outcome] += 1
        if reply is None:
            text = "too many queries at once" if outcome == "too_many" else "no upstream answers"
            one.later(self._own(one.asked, wire.SERVFAIL, wire.ede(wire.EDE_NETWORK_ERROR, text)))
            return
        told = bytearray(answered(reply, one.query, _end(one.asked)))
        told[3] |= wire.RA
        if one.transport == "udp" and len(told) > self._most(one.asked):
            one.later(self._own(one.asked, wire.TC | told[3] & 0xF))
        else:
            one.later(bytes(told))

    def _own(self, asked: Question, bits: int, options: bytes = b"") -> bytes:
        """A reply without records."""
        edns = asked.edns
        opt = b"" if edns is None else wire.opt(self._udp_size, do=edns.do, options=options)
        flags = wire.QR | wire.RA | asked.flags | bits
        return wire.message(asked.ident, flags, asked.question, (), b"", (), opt, wire.MAX_MESSAGE)

    def _most(self, asked: Question) -> int:
        size = wire.MIN_UDP_SIZE if asked.edns is None else asked.edns.size
        return min(max(size, wire.MIN_UDP_SIZE), self._udp_size)


def _end(asked: Question) -> int:
    """Where the name of a query's question ends."""
    return wire.HEADER_SIZE + len(asked.folded)


async def _exchanged(place: Place, query: bytes, asked: Question, transport: Transport) -> bytes:
    """A reply of one server, over TCP where UDP does not do."""
    end = _end(asked)
    made = asked_anew(query, end)
    try:
        reply = await over_udp(place, made, end)
    except UnfitReplyError:
        return await over_tcp(place, made, end)
    if reply[2] & wire.TC >> 8 and transport == "tcp":
        return await over_tcp(place, made, end)
    return reply
