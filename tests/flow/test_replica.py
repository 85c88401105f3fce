"""Tables over a real Unix socket: everything, then changes, whatever dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import ConfigError
from isthmus.flow import Table, frames
from isthmus.flow.frames import Begin, End, Hello, Rows
from isthmus.flow.replica import Publisher, Replica

ROWS = "rows"
WANTS = "wants"


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(*runs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result


def table(name: str = ROWS, **rows: bytes) -> Table[str, bytes]:
    """A synced table with one partition, owned by `test`."""
    made: Table[str, bytes] = Table(name)
    made.partition("test").replace(rows)
    return made


def writer(source: Table[str, bytes]) -> Any:
    return source._writers["test"]


@pytest.fixture
def path() -> Any:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders may be too deep for a Unix socket
        yield Path(folder) / "replica.sock"


async def test_a_worker_gets_everything_and_then_what_changes(path: Path) -> None:
    source = table(a=b"1", b=b"2")
    copy: Table[str, bytes] = Table(ROWS)
    async with running(
        Publisher(path, {ROWS: source}, {}).run(), Replica(path, {ROWS: copy}, {}, name="w").run()
    ):
        await until(lambda: copy.synced)
        assert dict(copy.items()) == {"a": b"1", "b": b"2"}
        writer(source).put("c", b"3")
        writer(source).drop("a")
        writer(source).put("b", b"4")
        await until(lambda: dict(copy.items()) == {"b": b"4", "c": b"3"})


async def test_the_socket_is_for_this_user_only(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    copy: Table[str, bytes] = Table(ROWS)
    async with running(
        Publisher(path, {ROWS: table()}, {}).run(), Replica(path, {ROWS: copy}, {}, name="w").run()
    ):
        await until(lambda: copy.synced)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert os.listdir(path.parent) == [path.name]


async def test_a_source_that_is_not_synced_sends_nothing(path: Path) -> None:
    source: Table[str, bytes] = Table(ROWS)
    half = source.partition("test")
    half.put("a", b"1")
    copy: Table[str, bytes] = Table(ROWS)
    replica = Replica(path, {ROWS: copy}, {}, name="w")
    async with running(Publisher(path, {ROWS: source}, {}).run(), replica.run()):
        await until(lambda: replica.connected)
        assert not copy.synced
        assert len(copy) == 0
        half.replace({"a": b"1", "b": b"2"})
        await until(lambda: copy.synced)
        assert dict(copy.items()) == {"a": b"1", "b": b"2"}


async def test_rows_outlive_control_and_only_differences_change_after_its_restart(path: Path) -> None:
    copy: Table[str, bytes] = Table(ROWS)
    replica = Replica(path, {ROWS: copy}, {}, name="w", clock=lambda: 1234.0)
    seen: list[frozenset[str]] = []

    async def listen() -> None:
        async for keys in copy.changes():
            seen.extend([keys])

    async with running(replica.run(), listen()):
        async with running(Publisher(path, {ROWS: table(a=b"1", b=b"2", c=b"3")}, {}).run()):
            await until(lambda: bool(seen))
        await until(lambda: not replica.connected)
        assert dict(copy.items()) == {"a": b"1", "b": b"2", "c": b"3"}
        assert copy.stale == {"control": 1234.0}
        assert copy.synced

        fresh: Table[str, bytes] = Table(ROWS)
        rows = fresh.partition("test")
        async with running(Publisher(path, {ROWS: fresh}, {}).run()):
            await until(lambda: replica.connected)
            rows.put("a", b"1")  # a control process that has only begun to read
            assert dict(copy.items()) == {"a": b"1", "b": b"2", "c": b"3"}
            rows.replace({"a": b"1", "b": b"new", "d": b"4"})
            await until(lambda: dict(copy.items()) == {"a": b"1", "b": b"new", "d": b"4"})
            await until(lambda: len(seen) > 1)
            assert copy.stale == {}
    assert seen == [frozenset("abc"), frozenset("bcd")]


async def test_what_workers_publish_arrives_under_their_names_and_leaves_with_them(path: Path) -> None:
    wants: Table[str, bytes] = Table(WANTS)
    publisher = Publisher(path, {}, {WANTS: wants}, grace=0.05)
    assert wants.synced
    mine = table(WANTS, x=b"1")
    async with running(publisher.run()):
        async with running(Replica(path, {}, {WANTS: table(WANTS, x=b"2", y=b"3")}, name="other").run()):
            async with running(Replica(path, {}, {WANTS: mine}, name="one").run()):
                await until(lambda: len(wants) == 3)
                assert dict(wants.items()) == {"one/x": b"1", "other/x": b"2", "other/y": b"3"}
                assert publisher.workers == {"one", "other"}
                writer(mine).drop("x")
                await until(lambda: len(wants) == 2)
                writer(mine).put("z", b"9")
                await until(lambda: wants.get("one/z") == b"9")
            await until(lambda: len(wants) == 2)
        await until(lambda: len(wants) == 0)
        assert wants.synced
        assert publisher.workers == frozenset()


async def test_a_worker_that_returns_in_time_loses_nothing(path: Path) -> None:
    wants: Table[str, bytes] = Table(WANTS)
    publisher = Publisher(path, {}, {WANTS: wants}, grace=3600.0, clock=lambda: 7.0)
    changed: list[frozenset[str]] = []

    async def listen() -> None:
        async for keys in wants.changes():
            changed.extend([keys])

    async with running(publisher.run(), listen()):
        async with running(Replica(path, {}, {WANTS: table(WANTS, x=b"1", y=b"2")}, name="w").run()):
            await until(lambda: len(wants) == 2)
        await until(lambda: not publisher.workers)
        assert wants.stale == {"worker w": 7.0}
        await until(lambda: len(changed) >= 2)
        changed.clear()
        async with running(Replica(path, {}, {WANTS: table(WANTS, x=b"1", y=b"new")}, name="w").run()):
            await until(lambda: wants.get("w/y") == b"new")
            await until(lambda: bool(changed))
            assert wants.stale == {}
        assert changed == [frozenset({"w/y"})]


async def test_a_second_worker_of_the_same_name_is_refused(path: Path) -> None:
    wants: Table[str, bytes] = Table(WANTS)
    publisher = Publisher(path, {}, {WANTS: wants})
    async with running(publisher.run(), Replica(path, {}, {WANTS: table(WANTS, x=b"1")}, name="w").run()):
        await until(lambda: len(wants) == 1)
        reader, impostor = await asyncio.open_unix_connection(path)
        impostor.write(frames.encode(Hello(frames.PROTOCOL, "w", ())))
        await reader.read()
        impostor.close()
        with contextlib.suppress(ConnectionError):
            await impostor.wait_closed()
        assert dict(wants.items()) == {"w/x": b"1"}
        assert publisher.workers == {"w"}


GARBAGE = {
    "a header only": b"\x01",
    "no msgpack": b"\0\0\0\x04abcd",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": frames.encode(Hello(99, "evil", (ROWS,))),
    "a name that is a path": frames.encode(Hello(frames.PROTOCOL, "../evil", (ROWS,))),
    "rows without hello": frames.encode(Rows(WANTS, [])),
    "a table nobody has": frames.encode(Hello(frames.PROTOCOL, "evil", ("secrets",))),
    "a table nobody takes": frames.encode(Hello(frames.PROTOCOL, "evil", ()))
    + frames.encode(Begin("secrets")),
    "changes before content": frames.encode(Hello(frames.PROTOCOL, "evil", ()))
    + frames.encode(Rows(WANTS, [("k", frames.version_of(b"v"), b"v")])),
    "an end without begin": frames.encode(Hello(frames.PROTOCOL, "evil", ())) + frames.encode(End(WANTS)),
    "two hellos": 2 * frames.encode(Hello(frames.PROTOCOL, "evil", ())),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_ends_its_own_connection_and_nothing_else(path: Path, garbage: bytes) -> None:
    source, copy, wants = table(a=b"1"), Table[str, bytes](ROWS), Table[str, bytes](WANTS)
    publisher = Publisher(path, {ROWS: source}, {WANTS: wants})
    good = Replica(path, {ROWS: copy}, {WANTS: table(WANTS, x=b"1")}, name="good")
    async with running(publisher.run(), good.run()):
        await until(lambda: copy.synced and len(wants) == 1)
        reader, evil = await asyncio.open_unix_connection(path)
        evil.write(garbage)
        if len(garbage) < frames.HEADER_BYTES:
            evil.write_eof()
        await reader.read()  # ends only when the other side has closed
        evil.close()
        with contextlib.suppress(ConnectionError):
            await evil.wait_closed()
        writer(source).put("b", b"2")
        await until(lambda: copy.get("b") == b"2")
        assert dict(wants.items()) == {"good/x": b"1"}
        assert publisher.workers == {"good"}


async def test_a_slow_reader_is_owed_the_newest_values_only(path: Path) -> None:
    source = table(a=b"0" * 60_000)
    copy: Table[str, bytes] = Table(ROWS)
    rounds = 500
    async with running(
        Publisher(path, {ROWS: source}, {}).run(), Replica(path, {ROWS: copy}, {}, name="fast").run()
    ):
        await until(lambda: copy.synced)
        reader, slow = await asyncio.open_unix_connection(path, limit=1024)
        slow.write(frames.encode(Hello(frames.PROTOCOL, "slow", (ROWS,))))
        for n in range(rounds):
            newest = str(n).encode() * 20_000
            writer(source).put("a", newest)
            await until(lambda newest=newest: copy.get("a") == newest)  # the fast one is not held up
        received = 0
        async with asyncio.timeout(60):
            while True:
                size = frames.length(await reader.readexactly(frames.HEADER_BYTES))
                frame = frames.decode(await reader.readexactly(size))
                if isinstance(frame, Rows):
                    received += 1
                    if frame.rows[-1][2] == newest:
                        break
        assert 0 < received < rounds / 2
        slow.close()
        await slow.wait_closed()


async def test_a_row_that_is_too_large_harms_no_other(path: Path) -> None:
    source = table(a=b"1", huge=bytes(frames.MAX_ROW + 1))
    copy: Table[str, bytes] = Table(ROWS)
    async with running(
        Publisher(path, {ROWS: source}, {}).run(), Replica(path, {ROWS: copy}, {}, name="w").run()
    ):
        await until(lambda: copy.synced)
        assert dict(copy.items()) == {"a": b"1"}
        writer(source).put("huge", b"small")
        await until(lambda: copy.get("huge") == b"small")


def test_names_and_paths_that_cannot_work_are_told_at_once(path: Path) -> None:
    with pytest.raises(ConfigError, match="worker name"):
        Replica(path, {}, {}, name="a/b")
    with pytest.raises(ConfigError, match="too long"):
        Publisher(path / ("x" * 120), {}, {})


keys = st.sampled_from(["a", "b", "c", "d"])
steps = st.one_of(
    st.tuples(st.just("put"), keys, st.binary(max_size=3)),
    st.tuples(st.just("drop"), keys, st.just(b"")),
    st.tuples(st.just("restart control"), st.just(""), st.just(b"")),
    st.tuples(st.just("restart worker"), st.just(""), st.just(b"")),
    st.tuples(st.just("pause"), st.just(""), st.just(b"")),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=12))
def test_after_any_puts_drops_and_reconnects_the_replica_equals_the_source(
    plan: list[tuple[str, str, bytes]],
) -> None:
    async def play(path: Path) -> None:
        source, copy = table(), Table[str, bytes](ROWS)
        replica = Replica(path, {ROWS: copy}, {}, name="w")
        control = asyncio.create_task(Publisher(path, {ROWS: source}, {}).run())
        worker = asyncio.create_task(replica.run())
        try:
            for action, key, value in plan:
                match action:
                    case "put":
                        writer(source).put(key, value)
                    case "drop":
                        writer(source).drop(key)
                    case "restart control":
                        control.cancel()
                        await asyncio.gather(control, return_exceptions=True)
                        control = asyncio.create_task(Publisher(path, {ROWS: source}, {}).run())
                    case "restart worker":
                        worker.cancel()
                        await asyncio.gather(worker, return_exceptions=True)
                        worker = asyncio.create_task(replica.run())
                    case "pause":
                        await asyncio.sleep(0)
            await until(lambda: copy.synced and dict(copy.items()) == dict(source.items()))
        finally:
            control.cancel()
            worker.cancel()
            await asyncio.gather(control, worker, return_exceptions=True)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder) / "s"))


CONTROL = """
import asyncio, sys
from pathlib import Path
from isthmus.flow import Table
from isthmus.flow.replica import Publisher
table = Table("rows")
table.partition("test").replace({key: sys.argv[2].encode() for key in "abc"})
asyncio.run(Publisher(Path(sys.argv[1]), {"rows": table}, {}).run())
"""


async def test_a_killed_control_process_is_survived_and_its_successor_followed(path: Path) -> None:
    copy: Table[str, bytes] = Table(ROWS)
    replica = Replica(path, {ROWS: copy}, {}, name="w")
    async with running(replica.run()):
        for value in (b"first", b"second"):
            control = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CONTROL, str(path), value.decode()
            )
            try:
                await until(lambda value=value: dict(copy.items()) == dict.fromkeys("abc", value))
                assert replica.connected
            finally:
                os.kill(control.pid, signal.SIGKILL)
                await control.wait()
            await until(lambda: not replica.connected)
            assert dict(copy.items()) == dict.fromkeys("abc", value)
