"""HTTPS, gRPC, DNS and ICMP checks against real servers of other make."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from probe_servers import listening

from isthmus.model.health import CheckProtocol, CheckTarget, HealthCheck
from isthmus.probes.checks import CHECKS, Checks
from isthmus.probes.dns import check_dns
from isthmus.probes.grpc import check_grpc
from isthmus.probes.http import check_http, check_https
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome

NAME = "checkout.shop.svc.clusterset.local"
LONG = 60.0
SHORT = 0.2
HERE = "127.0.0.1"

Answer = Callable[[bytes], bytes | None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate that ended long ago, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(past)
        .not_valid_after(past + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(encoding))
    return path


@contextlib.asynccontextmanager
async def web(certificate: Path, status: bytes, asked: list[bytes]) -> AsyncIterator[int]:
    """An HTTPS server; what it is asked, names first, goes to `asked`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: asked.append((name or "").encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 %b X\r\nContent-Length: 2\r\n\r\nok" % status)
        await writer.drain()

    async with listening(serve, HERE, context) as port:
        yield port


async def test_https_asks_by_name_and_takes_any_certificate(certificate: Path) -> None:
    asked: list[bytes] = []
    async with web(certificate, b"204", asked) as port:
        assert await check_https(HERE, port, LONG, "/healthz", NAME) == PASSED
    assert asked[0] == NAME.encode()
    assert asked[1].startswith(b"GET /healthz HTTP/1.1\r\n")
    assert f"Host: {NAME}\r\n".encode() in asked[1]


async def test_https_fails_by_its_status(certificate: Path) -> None:
    async with web(certificate, b"503", []) as port:
        assert await check_https(HERE, port, LONG, "", NAME) == Outcome(False, "HTTP 503")


async def test_https_to_a_server_without_tls_fails_and_so_does_http_to_one_with_it(certificate: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with listening(serve) as plain, web(certificate, b"200", []) as secure:
        outcome = await check_https(HERE, plain, LONG, "", NAME)
        assert outcome.ok is False
        assert outcome.reason.startswith("TLS: ")
        assert (await check_http(HERE, secure, LONG, "")).ok is False


async def test_a_handshake_that_never_ends_is_a_timeout_and_one_that_is_cut_a_failure() -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (done.wait() if not done.is_set() else reader.read(1))

    async with listening(serve) as port:
        assert await check_https(HERE, port, SHORT, "", NAME) == TIMEOUT
        done.set()
        assert (await check_https(HERE, port, LONG, "", NAME)).ok is False


@contextlib.asynccontextmanager
async def grpc_server(servicer: health.aio.HealthServicer | None) -> AsyncIterator[int]:
    server = grpc.aio.server()
    if servicer is not None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{HERE}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_grpc_health_decides() -> None:
    servicer = health.aio.HealthServicer()
    statuses = health_pb2.HealthCheckResponse
    async with grpc_server(servicer) as port:
        for status, expected in (
            (statuses.SERVING, PASSED),
            (statuses.NOT_SERVING, Outcome(False, "gRPC NOT_SERVING")),
            (statuses.UNKNOWN, Outcome(False, "gRPC UNKNOWN")),
        ):
            await servicer.set("", status)
            assert await check_grpc(HERE, port, LONG, NAME) == expected


async def test_every_protocol_is_done_by_its_own_check(certificate: Path) -> None:
    asked: list[bytes] = []
    servicer = health.aio.HealthServicer()
    async with (
        grpc_server(servicer) as rpc,
        web(certificate, b"200", asked) as secure,
        dns_server(saying(dns.rcode.REFUSED), udp=True) as names,
    ):
        for protocol, port in (
            (CheckProtocol.GRPC, rpc),
            (CheckProtocol.HTTPS, secure),
            (CheckProtocol.DNS, names),
            (CheckProtocol.TCP, rpc),
        ):
            check = HealthCheck(protocol=protocol, timeout=LONG)
            target = CheckTarget(address=HERE, port=port, check=check, name=NAME, udp=True)
            found: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            async with Checks() as checks:
                checks.begin(target, found.set_result)
                assert await found == PASSED
    assert asked[0] == NAME.encode()
    assert set(CHECKS) | {CheckProtocol.TCP} == set(CheckProtocol)


async def test_grpc_without_the_health_service_fails() -> None:
    async with grpc_server(None) as port:
        assert await check_grpc(HERE, port, LONG, NAME) == Outcome(False, "gRPC UNIMPLEMENTED")


async def test_grpc_to_a_port_that_refuses_is_silent_or_speaks_otherwise_fails() -> None:
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        assert await check_grpc(HERE, taken.getsockname()[1], LONG, NAME) == Outcome(False, "refused")
        taken.listen(8)  # the kernel accepts and nobody answers
        assert await check_grpc(HERE, taken.getsockname()[1], SHORT, NAME) == TIMEOUT

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with listening(serve) as port:
        assert (await check_grpc(HERE, port, SHORT, NAME)).ok is False


@contextlib.asynccontextmanager
async def dns_server(answer: Answer, *, udp: bool) -> AsyncIterator[int]:
    """A server that answers each query with what `answer` makes of it."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as server:
        server.setblocking(False)
        server.bind((HERE, 0))
        if not udp:
            server.listen(8)

        async def datagrams() -> None:
            while True:
                query, caller = await loop.sock_recvfrom(server, 512)
                if (message := answer(query)) is not None:
                    await loop.sock_sendto(server, message, caller)

        async def streams() -> None:
            while True:
                connection, _ = await loop.sock_accept(server)
                query = await loop.sock_recv(connection, 512)
                if (message := answer(query[2:])) is not None:
                    for byte in len(message).to_bytes(2) + message:  # a stream has no messages
                        await loop.sock_sendall(connection, bytes((byte,)))
                connection.close()

        task = loop.create_task(datagrams() if udp else streams())
        try:
            yield server.getsockname()[1]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def saying(rcode: dns.rcode.Rcode) -> Answer:
    def answer(query: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.set_rcode(rcode)
        return response.to_wire()

    return answer


def without(flag: dns.flags.Flag) -> Answer:
    def answer(query: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.flags &= ~flag
        return response.to_wire()

    return answer


def altered(query: bytes) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(query))
    response.id ^= 1
    return response.to_wire()


def about_something_else(query: bytes) -> bytes:
    response = dns.message.make_response(dns.message.make_query("elsewhere.example", "A"))
    response.id = dns.message.from_wire(query).id
    return response.to_wire()


@pytest.mark.parametrize("udp", [True, False])
async def test_any_dns_answer_but_servfail_passes(udp: bool) -> None:
    for rcode in (dns.rcode.NOERROR, dns.rcode.REFUSED, dns.rcode.NXDOMAIN, dns.rcode.NOTIMP):
        async with dns_server(saying(rcode), udp=udp) as port:
            assert await check_dns(HERE, port, LONG, udp=udp) == PASSED
    async with dns_server(saying(dns.rcode.SERVFAIL), udp=udp) as port:
        assert await check_dns(HERE, port, LONG, udp=udp) == Outcome(False, "SERVFAIL")


@pytest.mark.parametrize("answer", [altered, about_something_else, without(dns.flags.QR), lambda _q: b"?"])
async def test_what_is_no_answer_to_the_question_is_not_counted_as_one(answer: Answer) -> None:
    async with dns_server(answer, udp=True) as port:
        assert await check_dns(HERE, port, SHORT, udp=True) == TIMEOUT
    async with dns_server(answer, udp=False) as port:
        assert await check_dns(HERE, port, LONG, udp=False) == Outcome(False, "not DNS")


async def test_a_bare_header_over_tcp_is_an_answer_on_a_connection_that_stays_open() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(2 + 12 + 5)
        writer.write(b"\x00\x0c" + query[2:4] + b"\x80\x05" + bytes(8))
        await reader.read()  # until the caller has had enough

    async with listening(serve) as port:
        assert await check_dns(HERE, port, 2.0, udp=False) == PASSED


async def test_a_dns_server_that_is_silent_or_gone_fails() -> None:
    async with dns_server(lambda _query: None, udp=True) as port:
        assert await check_dns(HERE, port, SHORT, udp=True) == TIMEOUT
    assert await check_dns(HERE, port, LONG, udp=True) == Outcome(False, "refused")
    assert await check_dns(HERE, port, LONG, udp=False) == Outcome(False, "refused")
