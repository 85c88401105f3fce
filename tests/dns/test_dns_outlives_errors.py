"""A query that raises costs no other its answer, and what is closed stays quiet."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import dns.rcode
import pytest
import structlog
from dnslive import SVC, worker

from isthmus.dns.answer import Responder
from isthmus.dns.fastpath import ASK_PYTHON, FastPath
from isthmus.dns.querylog import QueryLog

RARE = "clusterset.local", "SOA"
"""What the fast path leaves to Python."""
BAD = "bad.clusterset.local", "ANY"
QUERY = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x01a\x01z\x00" + struct.pack("!HH", 1, 1)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_query_that_raises_gets_servfail_and_the_next_ones_are_answered(
    make: Any, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    answer = Responder.answer

    def raising(self: Responder, query: bytes, *more: Any) -> bytes | None:
        if b"\x03bad" in query:
            raise ZeroDivisionError("this query")
        return answer(self, query, *more)

    monkeypatch.setattr(Responder, "answer", raising)
    with structlog.testing.capture_logs() as lines:
        async with worker(make) as live:
            ask = live.udp if transport == "udp" else live.tcp
            for _ in range(3):
                assert (await ask(*BAD)).rcode() == dns.rcode.SERVFAIL
                assert (await ask(*RARE)).answer
    told = [line for line in lines if line["event"] == "dns query not answered"]
    assert [line["reason"] for line in told] == ["this query"]


@pytest.mark.usefixtures("path")
async def test_a_query_log_that_raises_costs_no_answer(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(QueryLog, "write", raising)
    with structlog.testing.capture_logs() as lines:
        async with worker(make, query_log=1e9) as live:
            for _ in range(3):
                assert (await live.udp(SVC)).answer
                assert (await live.udp(*RARE)).answer
                assert (await live.tcp(*RARE)).answer
    assert [line["event"] for line in lines].count("dns query not logged") == 1


@pytest.mark.usefixtures("path")
async def test_what_raises_and_is_no_query_gets_no_reply(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker(make) as live:
        assert live.standing is not None
        front = live.standing.front
        later: list[bytes] = []
        monkeypatch.setattr(Responder, "answer", lambda *_: 1 / 0)
        assert front.answer(b"no query", "::1", 0.0, "udp", later.append) is None
        assert (
            front.answer(struct.pack("!6H", 7, 0x8000, 0, 0, 0, 0), "::1", 0.0, "udp", later.append) is None
        )
        reply = front.answer(
            struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\x09cut", "::1", 0.0, "udp", later.append
        )
        assert reply == struct.pack("!6H", 7, 0x8102, 0, 0, 0, 0)


def test_a_fast_path_that_was_closed_takes_nothing_more_and_keeps_its_counts(
    library: ctypes.CDLL | None,
) -> None:
    if library is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    fast = FastPath(library, 1232)
    fast.zone(b"\x01z\x00", 1, 5, ready=True)
    reply = fast.answer(QUERY, "::1", 0.0, "tcp")
    assert isinstance(reply, bytes)
    assert reply != ASK_PYTHON
    fast.count_tcp(reply, by_python=False)
    fast.close()
    counted = fast.counts()
    assert any(counted)
    fast.zone(b"\x01z\x00", 1, 5, ready=True)
    fast.put(b"\x01a\x01z\x00", b"")
    fast.drop(b"\x01a\x01z\x00")
    fast.show()
    fast.done(reply)
    fast.count_tcp(reply, by_python=False)
    assert fast.answer(QUERY, "::1", 0.0, "tcp") == ASK_PYTHON
    assert (len(fast), fast.wake_fd, list(fast.asides(8))) == (0, -1, [])
    assert fast.counts() == counted
    fast.close()
