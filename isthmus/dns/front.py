"""What stands between sockets and answers: the fast path, or Python; counting; the query log."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.dns.answer import Responder
from isthmus.dns.fastpath import ASK_PYTHON, FastPath
from isthmus.dns.metrics import Tally, Transport, outcome
from isthmus.dns.querylog import Path, QueryLog


class Front:
    """One worker's answers, whichever transport asks. `fast` answers what it can, if it is there."""

    def __init__(self, responder: Responder, fast: FastPath | None, querylog: QueryLog) -> None:
        self.fast = fast
        self.tally = Tally()
        self._python = responder.answer
        self.querylog = querylog

    def answer(self, query: bytes, client: str, now: float, transport: Transport) -> bytes | None:
        """The reply to one message, None where there is none; arguments as for `Responder.answer`."""
        fast = self.fast
        if fast is not None and transport == "tcp":
            found = fast.answer(query, client, now, transport)
            by_python = found == ASK_PYTHON
            reply = self._python(query, client, now, transport) if found == ASK_PYTHON else found
            fast.count_tcp(reply, by_python=by_python)
        else:  # over UDP the fast path has its own sockets, and here is what it is not for
            by_python = True
            reply = self._python(query, client, now, transport)
            self.tally.count(reply, transport)
        if reply is not None and self.querylog.due(now):
            path: Path = "python" if by_python else "fast"
            self.querylog.write(query, client, transport, outcome(reply), path)
        return reply

    def asides(self, now: float, most: int) -> int:
        """Answer queries over UDP that the fast path has laid aside, at most so many; returns how many."""
        fast = self.fast
        assert fast is not None
        number = 0
        for query, client, shown in fast.asides(most):
            number += 1
            reply = None
            if shown is not None:
                self.querylog.write(query, client, "udp", shown, "fast")
            else:
                reply = self._python(query, client, now, "udp")
                if reply is not None and self.querylog.due(now):
                    self.querylog.write(query, client, "udp", outcome(reply), "python")
            fast.done(reply)
        return number

    def counts(self) -> Sequence[int]:
        """All numbers, as `metrics` lays them out."""
        if self.fast is None:
            return self.tally.numbers
        return [a + b for a, b in zip(self.tally.numbers, self.fast.counts(), strict=True)]
