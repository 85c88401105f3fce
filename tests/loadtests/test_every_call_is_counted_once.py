"""Callers never repeat a call, and each one that is due is told of exactly once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from calling import called, calling, place, told

from isthmus.demo.processes import Processes
from loadtests.load import crowd
from loadtests.load.errand import Errand
from loadtests.load.samples import Sample

RATE = 50.0
ANSWER = b"HTTP/1.1 200 OK\r\nx-cluster: us-1\r\ncontent-length: 2\r\n\r\nok"
CUT = ANSWER.replace(b"length: 2", b"length: 9")


class Resetting:
    """Answers so many requests of each connection, and resets it when it has read one more."""

    def __init__(self, answers: int, last: bytes = b"", hold: float = 0.0) -> None:
        self.answered = 0
        self.reset = 0
        self._answers = answers
        self._last = last
        self._hold = hold

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for left in range(self._answers, -1, -1):
                await _request(reader)
                await asyncio.sleep(self._hold)
                if left:
                    self.answered += 1
                    writer.write(ANSWER)
                    continue
                self.reset += 1
                if self._last:
                    writer.write(self._last)
                else:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except asyncio.IncompleteReadError:
            pass  # the caller has gone
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"POST"):
        await reader.readuntil(b"order\n")


@asynccontextmanager
async def listening(server: Resetting) -> AsyncIterator[int]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


async def http(folder: Path, door: str, server: Resetting, due: int = 40) -> list[Sample]:
    async with listening(server) as port:
        errand = Errand(program="http", places=(place(envoy=("127.0.0.1", port)),), rates={door: RATE})
        return await called(folder, errand, due)


def whole(rows: Sequence[Sample], rate: float = RATE) -> bool:
    """No call is missing among those that were due, and none is told of twice."""
    due = sorted(row.at for row in rows)
    return all(abs(later - earlier - 1 / rate) < 0.0002 for earlier, later in pairwise(due))


@pytest.mark.parametrize("door", ["envoy-get", "envoy-post"])
@pytest.mark.parametrize("answers", [0, 1, 3])
async def test_a_call_whose_connection_breaks_fails_and_is_not_sent_again(
    tmp_path: Path, door: str, answers: int
) -> None:
    server = Resetting(answers)
    rows = await http(tmp_path, door, server, due=100)
    assert server.reset >= 5
    assert Counter(bool(row.why) for row in rows) == +Counter({True: server.reset, False: server.answered})
    assert whole(rows)


async def test_an_answer_that_is_cut_is_a_failure_of_the_cluster_it_came_from(tmp_path: Path) -> None:
    server = Resetting(1, CUT)
    rows = await http(tmp_path, "envoy-get", server)
    assert {(row.cluster, row.why) for row in rows} == {("us-1", ""), ("us-1", "the answer was cut")}
    assert sum(bool(row.why) for row in rows) == server.reset
    assert whole(rows)


async def test_calls_under_way_at_the_end_are_waited_for(tmp_path: Path) -> None:
    server = Resetting(1000, hold=0.5)
    rows = await http(tmp_path, "envoy-get", server)
    assert not any(row.why for row in rows)
    assert len(rows) == server.answered >= 40 + 0.4 * RATE
    assert whole(rows)


STUBBORN = """
import time
from gevent.monkey import get_original
import gevent
from loadtests.load.callers import openloop

openloop.MAX_IN_FLIGHT, openloop.MAX_LAG, openloop.LAST_SECONDS = 8, 0.1, 0.5

class Stubborn(openloop.OpenLoop):
    abstract = True
    calls = 0

    def call(self):
        Stubborn.calls += 1
        if Stubborn.calls == 10:
            get_original("time", "sleep")(0.5)  # nothing of the process goes on
        if Stubborn.calls % 3:
            return "us-1"
        while True:  # no deadline ends it
            try:
                gevent.sleep(600)
            except TimeoutError:
                pass

openloop.run({"envoy-get": Stubborn})
"""


HELD_UP = """
import sys, pathlib
from gevent.monkey import get_original
from loadtests.load.callers import openloop

class HeldUp(openloop.OpenLoop):
    abstract = True
    calls = 0

    def call(self):
        HeldUp.calls += 1
        if HeldUp.calls == 20:  # nothing of the process goes on, until long after it was told to stop
            folder = pathlib.Path(sys.argv[1]).parent
            (folder / "held-up").touch()
            while not (folder / "stopped").exists():
                get_original("time", "sleep")(0.01)
            get_original("time", "sleep")(0.5)
        return "us-1"

openloop.run({"envoy-get": HeldUp})
"""


def written(folder: Path, program: str) -> tuple[str, ...]:
    """How to start it."""
    file = folder / "program.py"
    file.write_text("import locust\n" + program)
    return "-c", "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0])", str(file)


async def test_what_was_due_before_the_end_is_sent_though_it_is_late(tmp_path: Path) -> None:
    errand = Errand(program="http", places=(place(),), rates={"envoy-get": RATE})
    async with calling(tmp_path, errand, written(tmp_path, HELD_UP)) as process:
        while not (tmp_path / "held-up").exists():
            await asyncio.sleep(0.01)
        assert process.stdin is not None
        process.stdin.close()
        (tmp_path / "stopped").touch()
        rows = await told(process)
    assert {row.why for row in rows} == {""}
    assert len(rows) >= 19 + 0.5 * RATE
    assert whole(rows)


async def test_what_is_not_sent_and_what_never_ends_are_failures(tmp_path: Path) -> None:
    errand = Errand(program="http", places=(place(),), rates={"envoy-get": RATE})
    rows = await called(tmp_path, errand, 90, written(tmp_path, STUBBORN))
    causes = Counter(row.why for row in rows)
    assert set(causes) == {
        "",
        "not sent: the callers were held up",
        "not sent: too many calls in flight",
        "unfinished",
    }
    assert causes["unfinished"] == 8
    assert causes["not sent: the callers were held up"] >= 0.3 * RATE
    assert whole(rows)


@pytest.mark.parametrize(
    ("program", "limit", "said"),
    [
        ("", "READY_SECONDS", "could not begin to call within"),
        ("print('ready', flush=True);", "END_SECONDS", "did not end within"),
    ],
)
async def test_callers_that_are_stuck_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, limit: str, said: str
) -> None:
    monkeypatch.setattr(crowd, limit, 0.5)
    async with Processes(tmp_path, os.environ) as processes:
        deaf = f"import time; {program} time.sleep(600)"
        processes.wrap("callers-http-0", sys.executable, "-c", deaf)
        callers = crowd.Crowd(processes, tmp_path, [place()], "shop")
        await callers.gather({"envoy-get": RATE})

        async def play() -> None:
            await callers.go()
            await callers.stop()

        with pytest.raises(crowd.CallersStuck, match=rf"^callers-http-0 {said} 0\.5 s"):
            await play()
        await callers.close()
