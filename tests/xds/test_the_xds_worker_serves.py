"""The gRPC server and the worker process around the protocol core."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from ads_client import CDS, CLASS, TYPE_URLS, node
from envoy.service.discovery.v3 import discovery_pb2
from http_load import until
from xds_harness import CLUSTER, Rows, served

from isthmus.errors import PlatformError
from isthmus.flow.replica import Publisher
from isthmus.flow.table import Table
from isthmus.model.names import ClusterId
from isthmus.xds import worker
from isthmus.xds.proxies import LOOKS, described
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ResourceType, Row
from isthmus.xds.server import METHOD, Limits
from loadtests.ports import free_port

ROOT = Path(__file__).parents[2]


def first_request(**fields: Any) -> bytes:
    fields.setdefault("node", node())
    return discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[CDS], **fields).SerializeToString()


@asynccontextmanager
async def stream(address: str, method: str = METHOD) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(method)(wait_for_ready=True)
        try:
            yield call
        finally:
            call.cancel()


async def response(call: Any) -> discovery_pb2.DiscoveryResponse:
    async with asyncio.timeout(60):
        return discovery_pb2.DiscoveryResponse.FromString(await call.read())


def rendered(rows: Rows, *names: str) -> None:
    for name in names:
        rows.writer.put(str(Row(ResourceType.CDS, EVERYBODY, name)), name.encode())
    rows.writer.put(str(Row(ResourceType.LDS, str(CLASS), EXPLICIT)), b"listener")


async def test_a_stream_gets_what_is_rendered_and_what_changes() -> None:
    rows = Rows()
    async with served(rows) as door, stream(door.address) as call:
        await call.write(first_request())

        async def wanted() -> bool:
            return str(CLASS) in rows.wants

        await until(wanted, "the class is wanted")
        rendered(rows, "a", "b")
        first = await response(call)
        assert [r.value for r in first.resources] == [b"a", b"b"]
        assert first.control_plane.identifier == "isthmus"
        await call.write(first_request(response_nonce=first.nonce, version_info=first.version_info))
        rows.writer.drop(str(Row(ResourceType.CDS, EVERYBODY, "a")))
        second = await response(call)
        assert [r.value for r in second.resources] == [b"b"]
        assert second.version_info != first.version_info


async def test_a_stream_that_breaks_the_protocol_ends_alone() -> None:
    rows = Rows()
    rendered(rows, "a")
    async with served(rows) as door, stream(door.address) as good, stream(door.address) as bad:
        await good.write(first_request())
        first = await response(good)
        await bad.write(b"\xff")
        assert await bad.code() is grpc.StatusCode.INVALID_ARGUMENT
        rendered(rows, "a", "b")

        async def alone() -> bool:
            return door.ads.open_streams == 1

        await until(alone, "the bad stream is gone")
        await good.write(first_request(response_nonce=first.nonce))
        assert [r.value for r in (await response(good)).resources] == [b"a", b"b"]


async def test_a_method_that_is_not_served_is_unimplemented() -> None:
    async with served(Rows()) as door, stream(door.address, METHOD.replace("Stream", "Fetch")) as call:
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_streams_are_bounded_and_a_place_becomes_free_again() -> None:
    rows = Rows()
    rendered(rows, "a")
    async with served(rows, limits=Limits(streams=1)) as door:
        async with stream(door.address) as first:
            await first.write(first_request())
            await response(first)
            async with stream(door.address) as second:
                assert await second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

        async def room() -> bool:
            async with stream(door.address) as call:
                with suppress(grpc.RpcError, asyncio.InvalidStateError):
                    await call.write(first_request())
                    return await call.read() is not grpc.aio.EOF
            return False

        await until(room, "the first stream's place is free")


async def test_many_streams_get_a_change_each() -> None:
    rows = Rows()
    rendered(rows, "a")

    async def caller(address: str) -> bytes:
        async with stream(address) as call:
            await call.write(first_request())
            first = await response(call)
            await call.write(first_request(response_nonce=first.nonce))
            return bytes((await response(call)).resources[-1].value)

    async with served(rows) as door, asyncio.TaskGroup() as group:
        callers = [group.create_task(caller(door.address)) for _ in range(50)]

        async def connected() -> bool:
            states = [s["types"]["cds"] for s in described(door.ads, 0.0)]
            return len(states) == 50 and all(s["accepted"] for s in states)

        await until(connected, "50 streams have everything")
        rendered(rows, "z")
    assert {task.result() for task in callers} == {b"z"}


async def test_an_address_in_use_is_told() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PlatformError, match=str(port)):
            async with served(Rows(), f"127.0.0.1:{port}"):
                pass


async def test_rows_and_wants_travel_over_the_link_and_outlive_it(tmp_path: Path) -> None:
    link, port = tmp_path / "link", free_port()
    rows = Rows()
    wants: Table[str, bytes] = Table("wants")
    rendered(rows, "a")

    async def control() -> None:
        tables = {worker.TABLE: rows.table, LOOKS: Table[str, bytes](LOOKS)}
        await Publisher(link, tables, {worker.WANTS: wants}).run()

    publisher = asyncio.create_task(control())
    options = worker.Options(name="xds-0", cluster=ClusterId(CLUSTER), listen=f"127.0.0.1:{port}")
    running = asyncio.create_task(worker.run(options, link))
    try:
        async with stream(f"127.0.0.1:{port}") as call:
            await call.write(first_request())
            assert [r.value for r in (await response(call)).resources] == [b"a"]

            async def told() -> bool:
                return f"xds-0/{CLASS}" in wants

            await until(told, "control hears of the class")
            publisher.cancel()
            with suppress(asyncio.CancelledError):
                await publisher
        async with stream(f"127.0.0.1:{port}") as call:
            await call.write(first_request())
            assert [r.value for r in (await response(call)).resources] == [b"a"]
    finally:
        for task in (running, publisher):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def test_the_worker_imports_neither_decisions_nor_rendering() -> None:
    code = "import sys, isthmus.xds.worker; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "isthmus.xds.ads" in loaded
    forbidden = (
        "isthmus.kube",
        "isthmus.traffic",
        "isthmus.api",
        "isthmus.xds.envoy",
        "aiohttp",
        "kubernetes",
    )
    assert [name for name in loaded if name.startswith(forbidden)] == []
