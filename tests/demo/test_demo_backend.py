"""Backends and the callers' HTTP and DNS, over real sockets of the loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import dns.message
import dns.rrset
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from isthmus.demo.backend import BackendConfig, Listen, Pods
from isthmus.demo.dnscall import NO_ERROR, decode_answer, dns_caller, encode_query
from isthmus.demo.httpcall import Broken, connect, fetch
from isthmus.errors import WireError
from loadtests.ports import free_port


@pytest.fixture
async def ports() -> AsyncIterator[tuple[int, int]]:
    """An HTTP port and an echo port of a running backend."""
    http, echo = free_port(), free_port()
    listen = [Listen("127.0.0.1", http, "http", "front-1"), Listen("127.0.0.1", echo, "echo", "cache-1")]
    pods = Pods()
    await pods.listen(BackendConfig("eu-1", listen))
    yield http, echo
    await pods.close()


async def test_an_http_port_answers_with_cluster_and_pod(ports: tuple[int, int]) -> None:
    answer = await fetch("127.0.0.1", ports[0], "/any/path")
    assert (answer.status, answer.headers[b"x-cluster"], answer.headers[b"x-pod"]) == (
        200,
        b"eu-1",
        b"front-1",
    )
    assert answer.body == b'{"cluster":"eu-1","pod":"front-1"}\n'


async def test_a_connection_serves_one_request_after_another(ports: tuple[int, int]) -> None:
    connection = await connect("127.0.0.1", ports[0])
    for _ in range(3):
        assert (await connection.get("front", "/")).status == 200
        assert connection.idle
    connection.close()
    assert not connection.idle


async def test_bodies_and_pipelined_requests_in_any_pieces_are_read(ports: tuple[int, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
    for byte in b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\nGET /":
        writer.write(bytes([byte]))
        await writer.drain()
    writer.write(b" HTTP/1.1\r\n\r\n")
    received = b""
    async with asyncio.timeout(60):
        while received.count(b"HTTP/1.1 200 OK") < 3 or not received.endswith(b"}\n"):
            received += await reader.read(4096)
    assert received.count(b"HTTP/1.1") == 3
    writer.close()
    await writer.wait_closed()


async def test_an_echo_port_sends_back_what_it_gets(ports: tuple[int, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[1])
    writer.write(b"PING\r\n")
    async with asyncio.timeout(60):
        assert await reader.readexactly(6) == b"PING\r\n"
    writer.close()
    await writer.wait_closed()


@pytest.fixture
async def rich() -> AsyncIterator[tuple[int, int]]:
    """A gRPC and an HTTPS port of a running backend."""
    rpc, secure = free_port(), free_port()
    listen = [Listen("127.0.0.1", rpc, "grpc", "cart-1"), Listen("127.0.0.1", secure, "https", "pay-1")]
    pods = Pods()
    await pods.listen(BackendConfig("eu-1", listen))
    yield rpc, secure
    await pods.close()


async def test_a_grpc_port_is_healthy_and_answers_http_too(rich: tuple[int, int]) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{rich[0]}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        answer = await check(health_pb2.HealthCheckRequest(), timeout=20.0, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (await fetch("127.0.0.1", rich[0], "/")).headers[b"x-pod"] == b"cart-1"


async def test_an_https_port_answers_within_tls_by_a_certificate_that_nobody_signed(
    rich: tuple[int, int],
) -> None:
    trusting = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", rich[1], ssl=trusting, server_hostname="pay.shop")
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", rich[1], ssl=trusting)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: pay\r\n\r\n")
    assert b"x-pod: pay-1\r\n" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_caller_of_grpc_that_hangs_up_takes_nothing_with_it(rich: tuple[int, int]) -> None:
    for sent in (b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/9"):
        _, writer = await asyncio.open_connection("127.0.0.1", rich[0])
        writer.write(sent)
        writer.close()
        await writer.wait_closed()
    assert (await fetch("127.0.0.1", rich[0], "/")).status == 200


async def test_a_request_fails_when_its_connection_ends() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Broken):
            await fetch("127.0.0.1", port, "/")


async def test_a_chunked_answer_is_put_together() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.write(b"6;ext=1\r\n world\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await fetch("127.0.0.1", port, "/")).body == b"hello world"


def test_a_query_is_one_that_dnspython_reads() -> None:
    query = dns.message.from_wire(encode_query(77, "front.shop.svc.clusterset.local"))
    assert (query.id, query.flags) == (77, 0)
    assert str(query.question[0]) == "front.shop.svc.clusterset.local. IN A"


def test_addresses_of_an_answer_with_compressed_names_are_read() -> None:
    query = dns.message.from_wire(encode_query(77, "front.shop"))
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("front.shop.", 5, "IN", "A", "10.64.1.0", "10.65.1.0"))
    ident, code, addresses = decode_answer(response.to_wire())
    assert (ident, code, set(addresses)) == (77, NO_ERROR, {"10.64.1.0", "10.65.1.0"})


@given(data=st.binary(max_size=80))
def test_bytes_that_are_no_answer_are_a_wire_error_or_an_answer(data: bytes) -> None:
    try:
        _, code, _ = decode_answer(data)
    except WireError:
        return
    assert 0 <= code <= 15


async def test_a_query_that_nobody_answers_times_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        caller = await dns_caller("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(TimeoutError):
            await caller.ask("front.shop", 0.05)
        await caller.close()
