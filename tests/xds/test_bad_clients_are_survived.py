"""Clients that break the protocol, the transport or all bounds are counted and let go; others are served."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from ads_client import CDS, CLASS, EDS, TYPE_URLS, node
from envoy.service.discovery.v3 import discovery_pb2
from http_load import until
from xds_harness import Door, Rows, served

from isthmus.xds.admission import Rate
from isthmus.xds.quarantine import MOST_IN_A_ROW
from isthmus.xds.refusal import Ending
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ResourceType, Row
from isthmus.xds.server import METHOD, Limits

DELTA = METHOD.replace("Stream", "Delta", 1)


def put(rows: Rows, name: str, value: bytes) -> None:
    rows.writer.put(str(Row(ResourceType.CDS, EVERYBODY, name)), value)


def request(kind: ResourceType = CDS, **fields: Any) -> bytes:
    fields.setdefault("node", node())
    return discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[kind], **fields).SerializeToString()


@asynccontextmanager
async def calling(address: str, method: str = METHOD) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(method)()
        try:
            yield call
        finally:
            call.cancel()


async def response(call: Any) -> discovery_pb2.DiscoveryResponse:
    async with asyncio.timeout(60):
        return discovery_pb2.DiscoveryResponse.FromString(await call.read())


@asynccontextmanager
async def good_neighbour(**limits: Any) -> AsyncIterator[Door]:
    """A worker with a client that is well; it gets what changes after all that happens inside."""
    rows = Rows()
    put(rows, "a", b"before")
    rows.writer.put(str(Row(ResourceType.LDS, str(CLASS), EXPLICIT)), b"listener")
    async with served(rows, limits=Limits(**limits)) as door, calling(door.address) as call:
        await call.write(request())
        first = await response(call)
        await call.write(request(response_nonce=first.nonce))
        yield door
        put(rows, "a", b"after")
        found = await response(call)
        while b"after" not in [one.value for one in found.resources]:
            await call.write(request(response_nonce=found.nonce))
            found = await response(call)
        assert door.ads.open_streams >= 1


def ended(door: Door, ending: Ending) -> int:
    return door.ads.counts.endings[ending]


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literally(**fields: str) -> bytes:
    """Header fields, none of them indexed (RFC 7541, section 6.2.2); `_name` is the pseudo-header."""
    texts = ((name.replace("_", ":").encode(), value.encode()) for name, value in fields.items())
    return b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in texts)


HEADERS = literally(_method="POST", _scheme="http", _path=METHOD, _authority="bad", te="trailers")
HEADERS += b"\0\x0ccontent-type\x10application/grpc"
OPENING = PREFACE + frame(4, 0, b"", 0) + frame(1, 4, HEADERS)
"""A connection's first bytes, up to a stream that is open."""


async def test_garbage_on_the_port() -> None:
    preface = PREFACE
    chance = random.Random(7)
    pieces = [
        chance.randbytes(100_000),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        preface + b"\xff" * 5_000,
        preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        b"\x16\x03\x01" + bytes(512),
        b"",
    ]
    async with good_neighbour() as door:
        host, _, port = door.address.rpartition(":")
        for piece in pieces * 5:
            _reader, writer = await asyncio.open_connection(host, int(port))
            with suppress(OSError):
                writer.write(piece)
                await writer.drain()
            writer.transport.abort()
        await until(alone(door), "only the good neighbour is left")


def alone(door: Door) -> Callable[[], Awaitable[bool]]:
    """Whether the good neighbour is the only client."""

    async def look() -> bool:
        return door.ads.open_streams == 1

    return look


async def counted(door: Door, ending: Ending, times: int) -> None:
    async def enough() -> bool:
        return ended(door, ending) >= times

    await until(enough, f"{times} times {ending.value}")


@pytest.mark.parametrize(
    ("names", "ending"),
    [(20, Ending.SIZE), (300_000, Ending.RESET)],
    ids=["more than is read", "more than the transport takes"],
)
async def test_a_message_that_is_too_large_ends_its_stream(names: int, ending: Ending) -> None:
    async with good_neighbour(request_bytes=1000) as door, calling(door.address) as call:
        await call.write(request(resource_names=["x" * 100] * names))
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await counted(door, ending, 1)
        await until(alone(door), "only the good neighbour is left")


@pytest.mark.parametrize(
    "rest",
    [
        b"\xff\xff\xff" + frame(0, 0, bytes(100_000))[3:],
        frame(0, 0, bytes(20_000)),
        frame(1, 4, b"\xff" * 1000, 3),
        frame(3, 0, b"short"),
        frame(6, 0, bytes(9), 0),
        frame(0, 0, b"\0\xff\xff\xff\xff"),
    ],
    ids=["endless frame", "large frame", "no headers", "cut reset", "odd ping", "endless message"],
)
async def test_frames_that_break_the_transport_end_their_connection(rest: bytes) -> None:
    async with good_neighbour() as door:
        host, _, port = door.address.rpartition(":")
        _reader, writer = await asyncio.open_connection(host, int(port))
        with suppress(OSError):
            writer.write(OPENING + rest)
            await writer.drain()
            writer.write_eof()
        await counted(door, Ending.RESET, 1)
        writer.transport.abort()
        await until(alone(door), "only the good neighbour is left")


async def test_a_client_that_answers_no_ping_is_let_go() -> None:
    """One whose host has gone without a word: nothing is written to it that it could fail to read."""
    async with good_neighbour(ping_seconds=0.5, silence_seconds=0.5) as door:
        host, _, port = door.address.rpartition(":")
        data = request()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(OPENING + frame(0, 0, b"\0" + len(data).to_bytes(4, "big") + data))
        async with asyncio.timeout(60):
            while await reader.read(65536):
                pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

        await until(alone(door), "the stream is gone")


async def test_a_flood_of_resets() -> None:
    async with good_neighbour() as door:
        host, _, port = door.address.rpartition(":")
        for _ in range(20):
            _reader, writer = await asyncio.open_connection(host, int(port))
            streams = range(1, 101, 2)
            with suppress(OSError):
                writer.write(PREFACE + frame(4, 0, b"", 0))
                writer.writelines(frame(1, 4, HEADERS, one) + frame(3, 0, bytes(4), one) for one in streams)
                await writer.drain()
            writer.transport.abort()
        await counted(door, Ending.RESET, 100)
        await until(alone(door), "only the good neighbour is left")


async def test_a_method_that_is_not_served_is_counted() -> None:
    async with good_neighbour() as door, calling(door.address, METHOD + "s") as call:
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert door.ads.counts.methods == 1


@pytest.mark.parametrize("method", [METHOD, DELTA])
async def test_bytes_that_are_no_request_end_their_stream(method: str) -> None:
    async with good_neighbour() as door, calling(door.address, method) as call:
        await call.write(b"\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert ended(door, Ending.PROTOCOL) == 1


@pytest.mark.parametrize("method", [METHOD, DELTA])
async def test_a_node_without_an_id_is_refused(method: str) -> None:
    async with good_neighbour() as door, calling(door.address, method) as call:
        kind = discovery_pb2.DiscoveryRequest if method == METHOD else discovery_pb2.DeltaDiscoveryRequest
        await call.write(kind(type_url=TYPE_URLS[CDS]).SerializeToString())
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "node id" in await call.details()
        assert ended(door, Ending.PROTOCOL) == 1


@pytest.mark.parametrize("method", [METHOD, DELTA])
async def test_a_million_names_are_refused(method: str) -> None:
    names = [f"{number:x}" for number in range(1_000_000)]
    if method == METHOD:
        data = request(EDS, resource_names=names)
    else:
        message = discovery_pb2.DeltaDiscoveryRequest(
            node=node(), type_url=TYPE_URLS[EDS], resource_names_subscribe=names
        )
        data = message.SerializeToString()
    async with good_neighbour(request_bytes=64 << 20) as door, calling(door.address, method) as call:
        await call.write(data)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ended(door, Ending.NAMES) == 1
        assert door.ads.sets.total == 0


async def test_a_client_that_never_reads_is_let_go_and_counts_until_it_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with good_neighbour(stall_seconds=1.0, streams=2) as door:
        large = Row(ResourceType.EDS, str(CLASS.vantage), "large")
        door.rows.writer.put(str(large), bytes(32 << 20))
        async with grpc.aio.insecure_channel(
            door.address, options=[("grpc.max_receive_message_length", -1)]
        ) as channel:
            call = channel.stream_stream(METHOD)()
            await call.write(request(EDS, resource_names=["large"]))
            await counted(door, Ending.STALLED, 1)
            await until(alone(door), "the stream is gone")
            async with calling(door.address) as other:
                assert await other.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await response(call)).resources
            async with asyncio.timeout(60):
                assert await call.code() is grpc.StatusCode.ABORTED
        async with calling(door.address) as other:
            await other.write(request())
            assert (await response(other)).resources
    assert caplog.records == []


async def test_a_client_that_is_refused_while_it_is_written_to_counts_until_it_reads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For longer than a client may take to read: one that stops reading later is let go before."""
    async with good_neighbour(stall_seconds=1.0, streams=3) as door:
        door.rows.writer.put(str(Row(ResourceType.EDS, str(CLASS.vantage), "large")), bytes(32 << 20))
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        async with (
            grpc.aio.insecure_channel(door.address, options=options) as one,
            grpc.aio.insecure_channel(door.address, options=options) as other,
        ):
            refused, stalled = (channel.stream_stream(METHOD)() for channel in (one, other))
            await refused.write(request(EDS, resource_names=["large"]))
            await refused.write(b"\xff\xff\xff")
            await counted(door, Ending.PROTOCOL, 1)
            await stalled.write(request(EDS, resource_names=["large"]))
            await counted(door, Ending.STALLED, 1)
            async with calling(door.address) as more:
                assert await more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call, code in ((refused, "INVALID_ARGUMENT"), (stalled, "ABORTED")):
                assert (await response(call)).resources
                async with asyncio.timeout(60):
                    assert (await call.code()).name == code
        assert ended(door, Ending.STALLED) == 1
    assert caplog.records == []


async def test_a_client_that_goes_while_it_is_written_to_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    async with good_neighbour() as door:
        door.rows.writer.put(str(Row(ResourceType.EDS, str(CLASS.vantage), "large")), bytes(32 << 20))
        host, _, port = door.address.rpartition(":")
        data = request(EDS, resource_names=["large"])
        for _ in range(10):
            _reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(OPENING + frame(0, 0, b"\0" + len(data).to_bytes(4, "big") + data))

            async def written_to() -> bool:
                return door.ads.open_streams == 2

            await until(written_to, "it is written to")
            writer.transport.abort()

            await until(alone(door), "it is gone")
    gc.collect()
    assert failures == []
    assert caplog.records == []


async def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from isthmus.xds import server

    monkeypatch.setattr(server, "FIRST_REQUEST_SECONDS", 0.3)
    async with good_neighbour() as door, calling(door.address) as call:
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended(door, Ending.SILENT) == 1


async def test_a_client_that_rejects_everything_gets_a_bounded_number_of_responses() -> None:
    async with good_neighbour() as door, calling(door.address) as call:
        for number in range(200):
            put(door.rows, f"s{number}", f"s{number}".encode())
        await call.write(request())
        rejected = 0
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(60 if rejected < 2 else 3):
                    found = discovery_pb2.DiscoveryResponse.FromString(await call.read())
                answer = discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[CDS], response_nonce=found.nonce)
                answer.error_detail.message = "never"
                await call.write(answer.SerializeToString())
                rejected += 1
        assert 1 < rejected <= MOST_IN_A_ROW + 1
        assert door.ads.counts.rejections[CDS] == rejected


async def test_a_client_that_reconnects_in_a_loop_is_slowed_down() -> None:
    rate = Rate(burst=10, per_second=1)
    async with (
        asyncio.timeout(120),
        good_neighbour(node=rate) as door,
        grpc.aio.insecure_channel(door.address) as channel,
    ):
        codes = []
        while ended(door, Ending.RATE) < 50:
            call = channel.stream_stream(METHOD)()
            await call.write(request(node=node(zone="loop")))
            read = asyncio.create_task(call.read())
            done, _ = await asyncio.wait([read], timeout=0.1)
            if done:
                with suppress(grpc.aio.AioRpcError):
                    await read
                codes.append(await call.code())
            else:
                call.cancel()
                with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await read
        assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        async with calling(door.address) as other:
            message = node()
            message.id = "another"
            await other.write(request(node=message))
            assert (await response(other)).resources


async def test_types_that_are_not_served_are_counted_and_the_stream_goes_on() -> None:
    async with good_neighbour() as door, calling(door.address) as call:
        for number in range(100):
            message = discovery_pb2.DiscoveryRequest(type_url=f"type/{number}", node=node())
            await call.write(message.SerializeToString())
        await call.write(request())
        assert (await response(call)).type_url == TYPE_URLS[CDS]
        assert door.ads.counts.unknown == 100
        assert max(len(stream.unknown) for stream in door.ads.streams()) == 32


async def test_a_connection_ends_with_its_age_and_the_client_comes_back() -> None:
    async with good_neighbour(), asyncio.timeout(120):
        rows = Rows()
        put(rows, "a", b"a")
        rows.writer.put(str(Row(ResourceType.LDS, str(CLASS), EXPLICIT)), b"listener")
        async with served(rows, limits=Limits(age_seconds=2.0)) as door:
            for _ in range(2):
                async with calling(door.address) as call:
                    await call.write(request())
                    assert (await response(call)).resources
                    with pytest.raises(grpc.aio.AioRpcError, match="max connection age"):
                        await call.read()
