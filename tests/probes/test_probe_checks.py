"""The checks over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe_servers import Serve, listening

from isthmus.flow import Table
from isthmus.model.health import CheckKey, CheckTarget, HealthCheck, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes.dialler import Dialler
from isthmus.probes.http import check_http
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed
from isthmus.probes.prober import Prober

LONG = 60.0
SHORT = 0.05


def answering(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return serve


@contextlib.contextmanager
def dialling() -> Iterator[Dialler]:
    dialler = Dialler()
    dialler.open()
    try:
        yield dialler
    finally:
        dialler.close()


async def dialled(dialler: Dialler, address: str, port: int, timeout: float) -> Outcome:
    found: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    dialler.dial(address, port, timeout, found.set_result)
    assert not found.done(), "nothing is said before the dial has begun"
    return await found


async def check_tcp(address: str, port: int, timeout: float) -> Outcome:
    with dialling() as dialler:
        return await dialled(dialler, address, port, timeout)


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port that is taken and does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops what else comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            assert filler.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        yield listener.getsockname()[1]


async def test_a_connection_that_opens_passes() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""  # an ordinary end; a reset would raise
        closed.set()

    async with listening(serve) as port:
        assert await check_tcp("127.0.0.1", port, LONG) == PASSED
        async with asyncio.timeout(LONG):
            await closed.wait()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_an_ipv6_address_is_checked_too() -> None:
    async with listening(answering(b"HTTP/1.1 204 No Content\r\n\r\n"), "::1") as port:
        assert await check_tcp("::1", port, LONG) == PASSED
        assert await check_http("::1", port, LONG, "/") == PASSED


async def test_a_refusal_fails_at_once() -> None:
    with refusing() as port:
        assert await check_tcp("127.0.0.1", port, LONG) == Outcome(False, "refused")
        assert await check_http("127.0.0.1", port, LONG, "/") == Outcome(False, "refused")


async def test_silence_fails_after_the_timeout() -> None:
    with silent() as port:
        assert await check_tcp("127.0.0.1", port, SHORT) == TIMEOUT
        assert await check_http("127.0.0.1", port, SHORT, "/") == TIMEOUT


async def test_cancelling_a_check_is_not_its_result() -> None:
    with silent() as port:
        for check in (check_tcp("127.0.0.1", port, LONG), check_http("127.0.0.1", port, LONG, "/")):
            task = asyncio.create_task(check)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


ANSWERS = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok": PASSED,
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end": PASSED,
    b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n": PASSED,
    b"HTTP/1.1 399 Odd\r\n\r\n": PASSED,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n": PASSED,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense": PASSED,
    b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 99_999: PASSED,
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n": Outcome(False, "HTTP 400"),
    b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n": Outcome(False, "HTTP 500"),
    b"HTTP/1.1 503 Busy\r\nContent-Length: 50\r\n\r\n": Outcome(False, "HTTP 503"),
    b"": Outcome(False, "closed without an answer"),
    b"SSH-2.0-OpenSSH_9.2\r\n": Outcome(False, "not HTTP"),
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999: Outcome(False, "not HTTP"),
    b"HTTP/1.1 100 Continue\r\n\r\n" * 9_999: Outcome(False, "not HTTP"),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items(), ids=[repr(key[:40]) for key in ANSWERS])
async def test_the_status_decides(answer: bytes, expected: Outcome) -> None:
    async with listening(answering(answer)) as port:
        assert await check_http("127.0.0.1", port, LONG, "/healthz") == expected


async def test_a_slow_answer_fails_and_a_slow_body_does_not() -> None:
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/slow " not in await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await done.wait()

    async with listening(serve) as port:
        assert await check_http("127.0.0.1", port, SHORT, "/slow") == TIMEOUT
        assert await check_http("127.0.0.1", port, 1.0, "/body") == PASSED
        done.set()


async def test_the_request_says_what_it_should() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with listening(serve) as port:
        assert await check_http("127.0.0.1", port, LONG, "healthz?full=1") == PASSED
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "GET /healthz?full=1 HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    assert headers["host"] == f"127.0.0.1:{port}"
    assert headers["connection"] == "close"
    assert headers["user-agent"].startswith("isthmus-probe/")


async def test_a_redirect_is_an_answer_and_nobody_goes_there() -> None:
    visits: list[str] = []

    async def elsewhere(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        visits.append("somebody came")

    async with listening(elsewhere) as other:
        answer = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\nContent-Length: 0\r\n\r\n"
        async with listening(answering(answer.encode())) as port:
            assert await check_http("127.0.0.1", port, LONG, "/") == PASSED
    assert visits == []


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(1024))
            await writer.drain()
            sent += 1024

    async with listening(endless) as port:
        assert await check_http("127.0.0.1", port, LONG, "/") == PASSED
    assert sent < 64 << 20, "what buffers hold, and no more"


async def test_a_path_that_cannot_be_asked_for_is_nobodys_failure() -> None:
    async with listening(answering(b"")) as port:
        outcome = await check_http("127.0.0.1", port, LONG, "/with space")
        assert outcome.ok is None


async def test_without_file_descriptors_a_check_says_nothing() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with refusing() as port, dialling() as dialler, contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        outcomes = (
            await dialled(dialler, "127.0.0.1", port, LONG),
            await check_http("127.0.0.1", port, LONG, "/"),
        )
    assert outcomes == (Outcome(None, "too many open files"),) * 2


@given(st.integers(0, 200))
def test_every_system_error_has_an_outcome(number: int) -> None:
    outcome = failed(OSError(number, "text"))
    assert outcome.ok is not True
    assert outcome.reason


async def test_the_prober_sees_real_endpoints_die_and_return() -> None:
    rows: Table[CheckKey, CheckTarget] = Table("checks")
    health: Table[CheckKey, Verdict] = Table("health")
    targets = rows.partition("test")
    targets.replace({})
    check = HealthCheck(interval=0.05, timeout=0.2)

    def add(name: str, port: int, check: HealthCheck) -> CheckKey:
        key = CheckKey(ServiceKey("shop", "checkout"), name, EndpointId(name), "TCP/80")
        targets.put(key, CheckTarget(address="127.0.0.1", port=port, check=check, own_cluster=name == "own"))
        return key

    async def until(key: CheckKey, up: bool) -> Verdict:
        async with asyncio.timeout(LONG):
            while (row := health.get(key)) is None or row.up is not up:
                await asyncio.sleep(0.005)
        return row

    status = b"200"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % status)

    prober = asyncio.create_task(Prober(rows, health.partition("prober")).run())
    try:
        async with listening(answering(b"")) as steady, listening(serve) as web:
            add("own", steady, check)
            http = add("far", web, HealthCheck(path="/healthz", interval=0.05, timeout=LONG))
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen(64)
                port = listener.getsockname()[1]
                tcp = add("third", port, check)
                await until(tcp, True)
            assert (await until(tcp, False)).reason == "refused"
            await until(http, True)
            status = b"503"
            assert (await until(http, False)).reason == "HTTP 503"
            status = b"200"
            await until(http, True)
    finally:
        prober.cancel()
        await asyncio.gather(prober, return_exceptions=True)
