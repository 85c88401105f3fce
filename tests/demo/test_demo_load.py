"""The load process: an open loop of requests and queries, and callers that die."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from isthmus.demo.backend import BackendConfig, Listen, Pods
from isthmus.demo.load import Caller, Load, LoadConfig, Mute, Query, Request, Sample

ROOT = Path(__file__).resolve().parents[2]


async def settles(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


def bound(kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    return sock


def config(
    http: int, dns: int, *, clusters: tuple[str, ...] = ("eu-1", "eu-2"), rate: float = 200.0
) -> LoadConfig:
    return LoadConfig(
        callers=[Caller(c, ("127.0.0.1", http), ("127.0.0.1", dns)) for c in clusters],
        authorities=["front:80", "cart:7070"],
        names=["front.shop"],
        rate=rate,
        dns_rate=20.0,
    )


async def test_every_caller_asks_for_everything_and_dead_ones_fall_quiet() -> None:
    with bound() as sock:
        port = sock.getsockname()[1]
    pods = Pods()
    await pods.listen(BackendConfig("eu-1", [Listen("127.0.0.1", port, "http", "p")]))
    samples: list[Sample] = []
    with bound(socket.SOCK_DGRAM) as silent:
        load = Load(config(port, silent.getsockname()[1]), samples.append)
        work = asyncio.create_task(load.run())
        await settles(lambda: len(samples) > 50)
        load.mute(frozenset({"eu-2"}))
        requests = [s for s in samples if isinstance(s, Request)]
        assert {(r.caller, r.authority) for r in requests} == {
            (c, a) for c in ("eu-1", "eu-2") for a in ("front:80", "cart:7070")
        }
        assert {(r.status, r.cluster) for r in requests} == {(200, "eu-1")}
        await settles(lambda: [s.caller for s in samples if isinstance(s, Request)][-20:] == ["eu-1"] * 20)
        await settles(lambda: any(isinstance(s, Query) and s.code == -1 for s in samples))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    await pods.close()


async def test_a_refused_connection_is_a_failure_with_a_reason() -> None:
    with bound() as sock, bound(socket.SOCK_DGRAM) as silent:
        samples: list[Sample] = []
        load = Load(config(sock.getsockname()[1], silent.getsockname()[1]), samples.append)
        work = asyncio.create_task(load.run())
        await settles(lambda: any(isinstance(s, Request) for s in samples))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    failed = next(s for s in samples if isinstance(s, Request))
    assert (failed.status, failed.cluster) == (0, "")
    assert failed.why


async def test_the_process_obeys_stdin_and_ends_with_it(tmp_path: Path) -> None:
    with bound() as closed, bound(socket.SOCK_DGRAM) as silent:
        file = tmp_path / "load.json"
        file.write_bytes(msgspec.json.encode(config(closed.getsockname()[1], silent.getsockname()[1])))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "isthmus.demo.load", str(file)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(60):
            sample = msgspec.json.decode(await process.stdout.readline(), type=Sample)
            assert sample.caller == "eu-1"
            process.stdin.write(msgspec.json.encode(Mute(["eu-1"])) + b"\n")
            streak = 0
            while streak < 10:
                sample = msgspec.json.decode(await process.stdout.readline(), type=Sample)
                streak = streak + 1 if sample.caller == "eu-2" else 0
            process.stdin.close()
            while await process.stdout.readline():
                pass
            assert await process.wait() == 0
