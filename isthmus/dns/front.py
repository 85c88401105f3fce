"""What stands between sockets and answers: the fast path, or Python; counting; the query log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Literal

import structlog

from isthmus.dns import wire
from isthmus.dns.answer import FORWARD, Reply, Responder
from isthmus.dns.fastpath import ASK_PYTHON, FORWARDED, FastPath
from isthmus.dns.forward import Forwarder
from isthmus.dns.metrics import Tally, Transport, outcome
from isthmus.dns.querylog import Path, QueryLog
from isthmus.dns.question import name_end

log = structlog.get_logger()

LATER: Final = "later"


class Front:
    """One worker's answers, whichever transport asks. `fast` answers what it can, if it is there.

    A query that raises here gets SERVFAIL, and costs no other its answer. `forwarder` answers what the
    responder says is to be forwarded; it is there if that says so.
    """

    def __init__(
        self,
        responder: Responder,
        fast: FastPath | None,
        querylog: QueryLog,
        forwarder: Forwarder | None = None,
    ) -> None:
        self.fast = fast
        self.forwarder = forwarder
        self.tally = Tally()
        self._responder = responder
        self.querylog = querylog
        self._known: set[str] = set()
        """The kinds of failure that the log has heard of."""

    def answer(
        self, query: bytes, client: str, now: float, transport: Transport, later: Callable[[bytes], None]
    ) -> bytes | Literal["later"] | None:
        """The reply to one message, None where there is none; arguments as for `Responder.answer`.

        "later": others are asked, and `later` gets the reply.
        """
        fast = self.fast
        reply: Reply
        if fast is not None and transport == "tcp":
            found = fast.answer(query, client, now, transport)
            by_python = found == ASK_PYTHON
            reply = self._python(query, client, now, transport) if found == ASK_PYTHON else found
            if reply == FORWARD:
                return self._forward(query, client, transport, later)
            fast.count_tcp(reply, by_python=by_python)
        else:  # over UDP the fast path has its own sockets, and here is what it is not for
            by_python = True
            reply = self._python(query, client, now, transport)
            if reply == FORWARD:
                return self._forward(query, client, transport, later)
            self.tally.count(reply, transport)
        if reply is not None and self.querylog.due(now):
            path: Path = "python" if by_python else "fast"
            self._note(query, client, transport, outcome(reply), path)
        return reply

    def asides(self, now: float, most: int) -> int:
        """Answer queries over UDP that the fast path has laid aside, at most so many; returns how many."""
        fast = self.fast
        assert fast is not None
        number = 0
        for query, client, shown, sender in fast.asides(most):
            number += 1
            reply: Reply = None
            try:
                if shown is not None:
                    self._note(query, client, "udp", shown, "fast")
                else:
                    reply = self._python(query, client, now, "udp")
                    if reply == FORWARD:
                        self._forward(query, client, "udp", partial(fast.send, sender))
                    elif reply is not None and self.querylog.due(now):
                        self._note(query, client, "udp", outcome(reply), "python")
            finally:  # a query that is not let go of stands before all others for ever
                fast.done(None if reply == FORWARD else reply)
        if self.forwarder is not None:
            for query, client, _, sender in fast.asides(most - number, FORWARDED):
                number += 1
                try:
                    self._forward(query, client, "udp", partial(fast.send, sender))
                finally:
                    fast.done(None, FORWARDED)
        return number

    def _forward(
        self, query: bytes, client: str, transport: Transport, later: Callable[[bytes], None]
    ) -> Literal["later"]:
        assert self.forwarder is not None
        self.forwarder.take(query, client, transport, later)
        return LATER

    def counts(self) -> Sequence[int]:
        """All numbers, as `metrics` lays them out."""
        if self.fast is None:
            return self.tally.numbers
        return [a + b for a, b in zip(self.tally.numbers, self.fast.counts(), strict=True)]

    def _python(self, query: bytes, client: str, now: float, transport: Transport) -> Reply:
        try:
            return self._responder.answer(query, client, now, transport)
        except Exception as error:  # noqa: BLE001 - told by _failed, once for each kind
            self._failed("dns query not answered", error)
            return _servfail(query)

    def _note(self, query: bytes, client: str, transport: Transport, shown: int, path: Path) -> None:
        try:
            self.querylog.write(query, client, transport, shown, path)
        except Exception as error:  # noqa: BLE001 - told by _failed, once for each kind
            self._failed("dns query not logged", error)

    def _failed(self, event: str, error: Exception) -> None:
        kind = f"{event}: {type(error).__name__}"
        if kind not in self._known:
            self._known.add(kind)
            with suppress(Exception):  # a log that cannot be written to is one of the kinds
                log.error(event, reason=str(error), exc_info=error)


def _servfail(query: bytes) -> bytes | None:
    """SERVFAIL for a message that may be anything, None for what is no query."""
    if len(query) < wire.HEADER_SIZE:
        return None
    ident, flags, questions, *_ = wire.HEADER.unpack_from(query)
    if flags & wire.QR:
        return None
    end = name_end(query, wire.HEADER_SIZE) if questions == 1 else None
    asked = b"" if end is None or len(query) < end + 4 else query[wire.HEADER_SIZE : end + 4]
    flags = wire.QR | flags & (wire.OPCODE_MASK | wire.RD | wire.CD) | wire.SERVFAIL
    return wire.message(ident, flags, asked, (), b"", (), b"", wire.MAX_MESSAGE)
