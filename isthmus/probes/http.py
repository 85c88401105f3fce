"""The HTTP and HTTPS checks: one GET over a connection of its own; a status of 200 to 399 passes (RFC 9110).

Redirects are not followed: an answer is an answer. The status decides; of the body no more is read than
BODY_BYTES, for the server's sake only. No answer, however odd, raises. Over TLS the certificate is not
verified (see `connection`) and the server is asked for by name, as its callers do.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import lru_cache

import h11

from isthmus import __version__
from isthmus.probes.connection import CHUNK, Connection, Plain, Tls, dialled
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed

BODY_BYTES = 16 * 1024
HEAD_BYTES = 16 * 1024
KNOWN_REQUESTS = 10_000


async def check_http(address: str, port: int, timeout: float, path: str) -> Outcome:
    """Asks for `path` within `timeout` seconds; the Host is the endpoint's address and port."""
    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return await _check(address, port, timeout, host, path)


async def check_https(address: str, port: int, timeout: float, path: str, name: str) -> Outcome:
    """The same within TLS; `name` is the server name (SNI) and the Host."""
    return await _check(address, port, timeout, name, path, server_name=name)


async def _check(
    address: str, port: int, timeout: float, host: str, path: str, *, server_name: str | None = None
) -> Outcome:
    answer: Outcome | None = None
    try:
        request = _request(host, path)
        with dialled(address) as connection:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
                link = await _link(connection, server_name)
                http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
                await link.send((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
                answer = await _answer(http, link)
                await _drain(http, link)
                await link.farewell()
    except TimeoutError as error:
        trouble = failed(error) if error.errno else TIMEOUT
    except ssl.SSLError as error:
        trouble = Outcome(False, f"TLS: {(error.reason or 'closed').replace('_', ' ').lower()}")
    except OSError as error:
        trouble = failed(error)
    except h11.LocalProtocolError:
        return Outcome(None, "path cannot be asked for")
    except h11.RemoteProtocolError:
        trouble = Outcome(False, "not HTTP")
    else:
        return answer
    return trouble if answer is None else answer


async def _link(connection: socket.socket, server_name: str | None) -> Connection:
    plain = Plain(connection)
    if server_name is None:
        return plain
    tls = Tls(plain, server_name)
    await tls.handshake()
    return tls


@lru_cache(maxsize=KNOWN_REQUESTS)
def _request(host: str, path: str) -> h11.Request:
    """What is asked, which h11 has found well formed once. Raises LocalProtocolError where it is not."""
    return h11.Request(
        method="GET",
        target=path if path.startswith("/") else f"/{path}",
        headers=[
            ("Host", host),
            ("User-Agent", f"isthmus-probe/{__version__}"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ],
    )


async def _answer(http: h11.Connection, link: Connection) -> Outcome:
    """The outcome that the status says. Raises RemoteProtocolError when the answer is not HTTP."""
    received = 0
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
            return PASSED if 200 <= status < 400 else Outcome(False, f"HTTP {status}")
        if event is h11.NEED_DATA:
            data = await link.receive()
            if not data and not received:
                return Outcome(False, "closed without an answer")
            received += len(data)
            if received > HEAD_BYTES + CHUNK:  # interim answers without end
                return Outcome(False, "not HTTP")
            http.receive_data(data)


async def _drain(http: h11.Connection, link: Connection) -> None:
    """Reads the body's end where that is near: closing with unread data would reset the connection."""
    received = 0
    while received <= BODY_BYTES:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await link.receive()
            received += len(data)
            http.receive_data(data)
        elif not isinstance(event, h11.Data):
            return
