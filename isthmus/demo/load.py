"""The callers: `python -m isthmus.demo.load FILE`, a process of its own so that nothing delays its clock.

An open loop: requests start when they are due, whatever became of those before; latency counts from
when a request was due. Callers go through the Envoy of their own cluster and ask its DNS.
Samples are written to stdout as JSON lines; a line on stdin names the clusters whose callers are dead now.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from isthmus.demo.dnscall import DnsCaller, dns_caller
from isthmus.demo.httpcall import Broken, Connection, connect

REQUEST_TIMEOUT = 5.0
QUERY_TIMEOUT = 2.0
MAX_IN_FLIGHT = 512
"""Per caller and kind; what is due beyond is a failure of its own, never a queue."""
MOST_WHY = 200
"""Bytes of a failed answer that are kept to tell why."""
MAX_LAG = 0.5
"""Seconds that a stalled process may make up for; what is older is not sent at all."""


class Caller(msgspec.Struct, frozen=True):
    """The callers of one cluster; addresses as (address, port)."""

    cluster: str
    envoy: tuple[str, int]
    dns: tuple[str, int]


class LoadConfig(msgspec.Struct, frozen=True):
    """`authorities` are asked for over HTTP in turn, `names` over DNS; rates per second over all callers."""

    callers: list[Caller]
    authorities: list[str]
    names: list[str]
    rate: float
    dns_rate: float


class Request(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """A GET as its caller saw it. `at`: monotonic seconds when due. `status` 0: no answer, `why` says how."""

    at: float
    ms: float
    caller: str
    authority: str
    status: int
    cluster: str
    why: str = ""


class Query(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """A DNS query as its caller saw it. `code` -1: no answer."""

    at: float
    ms: float
    caller: str
    name: str
    code: int
    addresses: tuple[str, ...]


Sample = Request | Query


class Mute(msgspec.Struct, frozen=True):
    """All clusters whose callers are dead from now on; the others live."""

    dead: list[str]


class HttpCaller:
    """Requests of one cluster's callers, over as many connections as are in use at once."""

    def __init__(self, caller: Caller, tell: Callable[[Sample], None]) -> None:
        self._caller = caller
        self._tell = tell
        self._idle: deque[Connection] = deque()
        self.in_flight = 0

    async def send(self, due: float, authority: str) -> None:
        """One request, told as a sample whatever becomes of it."""
        status, cluster, why = 0, "", ""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                connection = self._take() or await connect(*self._caller.envoy)
                answer = await connection.get(authority, "/")
            status = answer.status
            cluster = answer.headers.get(b"x-cluster", b"").decode()
            why = "" if status == 200 else answer.body[:MOST_WHY].decode(errors="replace")
        except TimeoutError:
            why = "timeout"
        except Broken as error:
            why = str(error)
        except OSError as error:
            why = error.strerror or type(error).__name__
        finally:
            if connection is not None:
                if connection.idle:
                    self._idle.append(connection)
                else:
                    connection.close()
        took = (time.monotonic() - due) * 1000
        self._tell(Request(due, round(took, 2), self._caller.cluster, authority, status, cluster, why))

    def overflow(self, due: float, authority: str) -> None:
        self._tell(Request(due, 0.0, self._caller.cluster, authority, 0, "", "too many requests in flight"))

    def forget(self) -> None:
        """Close what is idle: callers that died do not come back with their old connections."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                return connection
        return None


class NameCaller:
    """Queries of one cluster's callers."""

    def __init__(self, caller: Caller, dns: DnsCaller, tell: Callable[[Sample], None]) -> None:
        self._caller = caller
        self._dns = dns
        self._tell = tell
        self.in_flight = 0

    async def send(self, due: float, name: str) -> None:
        """One query, told as a sample whatever becomes of it."""
        code = -1
        addresses: tuple[str, ...] = ()
        try:
            code, addresses = await self._dns.ask(name, QUERY_TIMEOUT)
        except (TimeoutError, OSError):
            code = -1
        took = (time.monotonic() - due) * 1000
        self._tell(Query(due, round(took, 2), self._caller.cluster, name, code, addresses))

    def overflow(self, due: float, name: str) -> None:
        self._tell(Query(due, 0.0, self._caller.cluster, name, -1, ()))


class Sender(Protocol):
    """What the pace-maker needs of the callers of one cluster."""

    in_flight: int

    async def send(self, due: float, subject: str, /) -> None: ...

    def overflow(self, due: float, subject: str, /) -> None: ...


class Load:
    """Keeps time: who sends what next."""

    def __init__(self, config: LoadConfig, tell: Callable[[Sample], None]) -> None:
        self._config = config
        self._tell = tell
        self._dead: frozenset[str] = frozenset()
        self._http: dict[str, HttpCaller] = {c.cluster: HttpCaller(c, tell) for c in config.callers}

    def mute(self, dead: frozenset[str]) -> None:
        self._dead = dead
        for cluster in dead & self._http.keys():
            self._http[cluster].forget()

    async def run(self) -> None:
        """Send until cancelled."""
        config = self._config
        resolvers = {c.cluster: await dns_caller(*c.dns) for c in config.callers}
        names = {c.cluster: NameCaller(c, resolvers[c.cluster], self._tell) for c in config.callers}
        try:
            async with asyncio.TaskGroup() as group:
                requests = self._pace(group, config.rate, self._http, config.authorities)
                group.create_task(requests, name="requests")
                if config.names and config.dns_rate > 0:
                    queries = self._pace(group, config.dns_rate, names, config.names)
                    group.create_task(queries, name="queries")
        finally:
            for http in self._http.values():
                http.forget()
            for resolver in resolvers.values():
                await resolver.close()

    async def _pace(
        self, group: asyncio.TaskGroup, rate: float, callers: Mapping[str, Sender], subjects: list[str]
    ) -> None:
        due = time.monotonic()
        turn = 0
        while True:
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            elif now - due > MAX_LAG:
                due = now
            living = [c for name, c in callers.items() if name not in self._dead]
            if living:
                # Every caller gets to every subject: the subject moves on once per round of callers.
                caller = living[turn % len(living)]
                subject = subjects[turn // len(living) % len(subjects)]
                if caller.in_flight < MAX_IN_FLIGHT:
                    caller.in_flight += 1
                    group.create_task(_tracked(caller, due, subject), name="call")
                else:
                    caller.overflow(due, subject)
            turn += 1
            due += 1 / rate


async def _tracked(caller: Sender, due: float, subject: str) -> None:
    try:
        await caller.send(due, subject)
    finally:
        caller.in_flight -= 1


async def _obey(load: Load, reader: asyncio.StreamReader) -> None:
    """Follow the lines on stdin; returns at its end, when whoever started us is gone."""
    while line := await reader.readline():
        load.mute(frozenset(msgspec.json.decode(line, type=Mute).dead))


async def _run(config: LoadConfig) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    encoder = msgspec.json.Encoder()

    def tell(sample: Sample) -> None:
        pipe.write(encoder.encode(sample) + b"\n")

    load = Load(config, tell)
    work = asyncio.create_task(load.run(), name="load")
    orders = asyncio.create_task(_obey(load, reader), name="orders")
    loop.add_signal_handler(signal.SIGTERM, orders.cancel)
    done, _ = await asyncio.wait({work, orders}, return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    for task in done - {orders}:
        task.result()


def main() -> None:
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=LoadConfig)
    asyncio.run(_run(config))


if __name__ == "__main__":
    main()
