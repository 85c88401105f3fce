"""Tables replicated between the control process and its door workers over a Unix socket.

Control runs a `Publisher`, each worker a `Replica`; what either side publishes the other takes: everything
first, then coalesced changes. Invariants: a replica keeps its rows when the other side dies, and a complete
table after a reconnect is applied at once and only where it differs; a table is sent only when it is synced,
so a control process that has just started never empties its workers; a slow reader holds up nobody and is
owed at most the set of keys (the newest value wins); bytes that are no frame end that connection and nothing
else.

What a worker publishes becomes a partition named after the worker, with keys `worker/key`; it is retired when
the worker stays away for `grace` seconds.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import assert_never, cast

import structlog

from isthmus.errors import ConfigError, WireError
from isthmus.flow import frames
from isthmus.flow.frames import Begin, Drops, End, Hello, Rows
from isthmus.flow.table import Table, Writer

log = structlog.get_logger()

HELLO_SECONDS = 5.0
GRACE_SECONDS = 5.0
BACK_OFF_FIRST, BACK_OFF_LAST = 0.05, 1.0
ACCEPT_AGAIN_SECONDS = 1.0
MAX_WORKERS = 64
MAX_SOCKET_PATH = 107
_LIMIT = 4 * frames.BATCH_BYTES
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ENDS = (WireError, OSError, EOFError)
"""What ends one connection, and only that."""

Tables = Mapping[str, Table[str, bytes]]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Publisher:
    """The control side: sends `tables` to every worker that takes them, and takes `receive` from the workers.

    Each table of `receive` gets an empty partition of its own, so that it is synced without any worker.
    """

    def __init__(
        self,
        path: Path,
        tables: Tables,
        receive: Tables,
        *,
        clock: Callable[[], float] = time.time,
        grace: float = GRACE_SECONDS,
    ) -> None:
        if len(os.fsencode(path)) > MAX_SOCKET_PATH - len(".new"):
            raise ConfigError(f"{path} is too long for a Unix socket: choose a shorter directory")
        self._path = path
        self._tables = tables
        self._receive = receive
        self._clock = clock
        self._grace = grace
        self._workers: dict[str, _Worker] = {}
        for table in receive.values():
            table.partition("publisher").replace({})

    @property
    def workers(self) -> frozenset[str]:
        """Names of the workers that are connected now."""
        return frozenset(name for name, worker in self._workers.items() if worker.connected)

    async def run(self) -> None:
        """Listens and serves until cancelled. Raises OSError when the socket cannot be made."""
        connections: set[asyncio.Task[None]] = set()
        try:
            with _listener(self._path) as listener:
                async with asyncio.TaskGroup() as group:
                    while True:
                        connection = await _accept(listener)
                        if len(connections) >= MAX_WORKERS:
                            log.warning("replica refused", reason="too many workers", limit=MAX_WORKERS)
                            connection.close()
                            continue
                        task = group.create_task(self._serve(connection), name="replica-worker")
                        connections.add(task)
                        task.add_done_callback(connections.discard)
                        task.add_done_callback(partial(_hang_up, connection))
        finally:
            for worker in self._workers.values():
                worker.keep()

    async def _serve(self, connection: socket.socket) -> None:
        stream: Stream | None = None
        worker: _Worker | None = None
        try:
            stream = await asyncio.open_unix_connection(sock=connection, limit=_LIMIT)
            hello = await _greet(stream, Hello(frames.PROTOCOL, "control", tuple(self._receive)))
            if unknown := sorted(set(hello.takes) - set(self._tables)):
                raise WireError(f"replica link: {hello.name} asks for unknown tables {', '.join(unknown)}")
            worker = self._welcome(hello.name)
            log.info("replica connected", worker=hello.name)
            await _exchange(stream, {name: self._tables[name] for name in hello.takes}, worker.sinks)
        except _ENDS as error:
            log.info("replica lost", worker=worker.name if worker else "", reason=_reason(error))
        finally:
            if stream is not None:
                stream[1].transport.abort()
            if worker is not None:
                worker.lost(self._clock(), self._grace, self._forget)

    def _welcome(self, name: str) -> _Worker:
        """The worker of that name, back or new. Raises WireError while one of that name is connected."""
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _Worker(name, self._receive)
        if worker.connected:
            raise WireError(f"replica link: a worker named {name} is already connected")
        worker.keep()
        worker.connected = True
        return worker

    def _forget(self, worker: _Worker) -> None:
        log.info("replica gone", worker=worker.name)
        if self._workers.get(worker.name) is worker:
            del self._workers[worker.name]


class Replica:
    """The worker side: fills `tables` from control and sends it `publish`; reconnects for ever.

    `name` is the worker's own name, the same after its restart and unlike any other worker's.
    """

    def __init__(
        self,
        path: Path,
        tables: Tables,
        publish: Tables,
        *,
        name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"worker name {name!r} must be letters, digits, dots, dashes; at most 63")
        self._path = path
        self._publish = publish
        self._clock = clock
        self._name = name
        self._sinks = {table: _Sink(held, "control", "") for table, held in tables.items()}
        self.connected = False
        """Whether control answers now."""

    async def run(self) -> None:
        """Follows control until cancelled."""
        loop = asyncio.get_running_loop()
        pause = BACK_OFF_FIRST
        while True:
            began = loop.time()
            await self._follow()
            if (
                loop.time() - began > BACK_OFF_LAST
            ):  # a connection that ends at once does not count as success
                pause = BACK_OFF_FIRST
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACK_OFF_LAST)

    async def _follow(self) -> None:
        """One connection, to its end."""
        stream: Stream | None = None
        try:
            stream = await asyncio.open_unix_connection(self._path, limit=_LIMIT)
            hello = await _greet(stream, Hello(frames.PROTOCOL, self._name, tuple(self._sinks)))
            self.connected = True
            log.info("replica connected", control=hello.name)
            wanted = {name: table for name, table in self._publish.items() if name in hello.takes}
            await _exchange(stream, wanted, self._sinks)
        except _ENDS as error:
            if self.connected:
                log.warning("replica lost", reason=_reason(error))
        finally:
            self.connected = False
            if stream is not None:
                stream[1].transport.abort()
            now = self._clock()
            for sink in self._sinks.values():
                sink.lost(now)


class _Sink:
    """One received table; its partition exists from the first complete content on."""

    def __init__(self, table: Table[str, bytes], owner: str, prefix: str) -> None:
        self._table = table
        self._owner = owner
        self._prefix = prefix
        self._writer: Writer[str, bytes] | None = None
        self._staged: dict[str, bytes] | None = None
        self._fresh = False

    def take(self, frame: Begin | Rows | Drops | End) -> None:
        """Applies one frame. Raises WireError when it cannot come now."""
        match frame:
            case Begin():
                self._staged = {}
            case Rows():
                for key, _, value in frame.rows:
                    if self._staged is not None:
                        self._staged[self._prefix + key] = value
                    else:
                        self._live().put(self._prefix + key, value)
            case Drops():
                for key in frame.keys:
                    if self._staged is not None:
                        self._staged.pop(self._prefix + key, None)
                    else:
                        self._live().drop(self._prefix + key)
            case End():
                if self._staged is None:
                    raise WireError(f"replica link: {frame.table} ends and has not begun")
                if self._writer is None:
                    self._writer = self._table.partition(self._owner)
                self._writer.replace(self._staged)
                self._writer.stale(None)
                self._staged = None
                self._fresh = True
            case _:
                assert_never(frame)

    def _live(self) -> Writer[str, bytes]:
        if self._writer is None or not self._fresh:
            raise WireError(f"replica link: changes of {self._table.name} before its content")
        return self._writer

    def lost(self, now: float) -> None:
        """The source is away since `now`: the rows stay, what was half told is forgotten."""
        self._staged = None
        if self._writer is not None and self._fresh:
            self._writer.stale(now)
        self._fresh = False

    def retire(self) -> None:
        if self._writer is not None:
            self._writer.retire()
            self._writer = None
        self._fresh = False


class _Worker:
    """What control keeps of one worker by name, over its reconnects."""

    def __init__(self, name: str, receive: Tables) -> None:
        self.name = name
        self.sinks = {table: _Sink(held, f"worker {name}", f"{name}/") for table, held in receive.items()}
        self.connected = False
        self._retirement: asyncio.TimerHandle | None = None

    def lost(self, now: float, grace: float, forget: Callable[[_Worker], None]) -> None:
        """The connection is gone; the rows go too unless the worker returns within `grace` seconds."""
        self.connected = False
        for sink in self.sinks.values():
            sink.lost(now)
        self._retirement = asyncio.get_running_loop().call_later(grace, self._retire, forget)

    def keep(self) -> None:
        """Calls off the retirement."""
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None

    def _retire(self, forget: Callable[[_Worker], None]) -> None:
        self._retirement = None
        for sink in self.sinks.values():
            sink.retire()
        forget(self)


async def _greet(stream: Stream, mine: Hello) -> Hello:
    """Says hello and returns the other's. Raises WireError when that is not one, TimeoutError on silence."""
    reader, writer = stream
    writer.write(frames.encode(mine))
    async with asyncio.timeout(HELLO_SECONDS):
        hello = await _read(reader)
    if not isinstance(hello, Hello) or not _NAME.fullmatch(hello.name):
        raise WireError("replica link: the first frame is no hello")
    if hello.protocol != frames.PROTOCOL:
        raise WireError(f"replica link: protocol {hello.protocol}, this side speaks {frames.PROTOCOL}")
    return hello


async def _exchange(stream: Stream, tables: Tables, sinks: Mapping[str, _Sink]) -> None:
    """Sends `tables` and fills `sinks` until the connection ends, which always raises."""
    reader, writer = stream
    tasks = [asyncio.create_task(_receive(reader, sinks), name="replica-receive")]
    for name, table in tables.items():
        tasks.append(asyncio.create_task(_send(writer, name, table), name=f"replica-send-{name}"))
    # Not a TaskGroup: until Python 3.13 that forgets a cancellation which comes with a child's error.
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(reader: asyncio.StreamReader, sinks: Mapping[str, _Sink]) -> None:
    while True:
        frame = await _read(reader)
        if isinstance(frame, Hello):
            raise WireError("replica link: a second hello")
        sink = sinks.get(frame.table)
        if sink is None:
            raise WireError(f"replica link: nobody takes table {frame.table!r} here")
        sink.take(frame)
        await asyncio.sleep(0)  # frames that wait in the buffer do not hold up the queries of a door


async def _read(reader: asyncio.StreamReader) -> frames.Frame:
    size = frames.length(await reader.readexactly(frames.HEADER_BYTES))
    return frames.decode(await reader.readexactly(size))


async def _send(writer: asyncio.StreamWriter, name: str, table: Table[str, bytes]) -> None:
    """Everything, then changes; values are read when their frame is made, so waiting sends newer ones."""
    complete = False
    async with aclosing(cast("AsyncGenerator[frozenset[str], None]", table.changes())) as changes:
        async for keys in changes:
            if not complete:
                writer.write(frames.encode(Begin(name)))
            for batch in frames.batches(name, _newest(table, keys)):
                writer.write(batch)
                await writer.drain()
            if not complete:
                writer.write(frames.encode(End(name)))
                complete = True
            del keys  # the first are all, and it may be long until the next


def _newest(table: Table[str, bytes], keys: frozenset[str]) -> Iterator[tuple[str, bytes | None]]:
    for key in keys:
        value = table.get(key)
        if value is not None and not frames.fits(key, value):
            log.error("replica row too large", table=table.name, key=key[:100], bytes=len(value))
            continue
        yield key, value


def _listener(path: Path) -> socket.socket:
    """A listening socket at `path`, for this user only; one that a dead process left there is replaced."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(fresh))
        fresh.chmod(0o600)
        listener.listen(MAX_WORKERS)
        listener.setblocking(False)
        fresh.replace(path)
    except BaseException:
        listener.close()
        raise
    return listener


async def _accept(listener: socket.socket) -> socket.socket:
    """The next connection. (The loop's own `sock_accept` loses one that comes as it is cancelled.)"""
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(listener, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(listener)
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            log.error("replica cannot accept", reason=str(error))
            await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
        else:
            connection.setblocking(False)
            return connection


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _hang_up(connection: socket.socket, _task: asyncio.Task[None]) -> None:
    """Closes a connection whose task has ended, even one that was cancelled before it began."""
    connection.close()


def _reason(error: BaseException) -> str:
    return "closed" if isinstance(error, EOFError) else str(error) or type(error).__name__
