"""The HTTP check: one GET over a connection of its own; a status of 200 to 399 is a success (RFC 9110).

Redirects are not followed: an answer is an answer. The status decides; of the body no more is read than
BODY_BYTES, for the server's sake only. No answer, however odd, raises.
"""

from __future__ import annotations

import asyncio
import socket

import h11

from isthmus import __version__
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed
from isthmus.probes.tcp import dialled

BODY_BYTES = 16 * 1024
HEAD_BYTES = 16 * 1024
_CHUNK = 16 * 1024


async def check_http(address: str, port: int, timeout: float, path: str) -> Outcome:
    """Asks for `path` within `timeout` seconds; the Host is the endpoint's address and port."""
    outcome = TIMEOUT
    try:
        request = _request(address, port, path)
        with dialled(address) as connection:
            async with asyncio.timeout(timeout):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(connection, (address, port))
                http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
                await loop.sock_sendall(connection, http.send(request) + http.send(h11.EndOfMessage()))
                outcome = await _answer(http, connection)
                await _drain(http, connection)
    except TimeoutError as error:
        return failed(error) if error.errno else outcome
    except OSError as error:
        return outcome if outcome is not TIMEOUT else failed(error)
    except h11.LocalProtocolError:
        return Outcome(None, "path cannot be asked for")
    except h11.RemoteProtocolError:
        return outcome if outcome is not TIMEOUT else Outcome(False, "not HTTP")
    return outcome


def _request(address: str, port: int, path: str) -> h11.Request:
    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
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


async def _answer(http: h11.Connection, connection: socket.socket) -> Outcome:
    """The outcome that the status says. Raises RemoteProtocolError when the answer is not HTTP."""
    loop = asyncio.get_running_loop()
    received = 0
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
            return PASSED if 200 <= status < 400 else Outcome(False, f"HTTP {status}")
        if event is h11.NEED_DATA:
            data = await loop.sock_recv(connection, _CHUNK)
            if not data and not received:
                return Outcome(False, "closed without an answer")
            received += len(data)
            if received > HEAD_BYTES + _CHUNK:  # interim answers without end
                return Outcome(False, "not HTTP")
            http.receive_data(data)


async def _drain(http: h11.Connection, connection: socket.socket) -> None:
    """Reads the body's end where that is near: closing with unread data would reset the connection."""
    loop = asyncio.get_running_loop()
    received = 0
    while received <= BODY_BYTES:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await loop.sock_recv(connection, _CHUNK)
            received += len(data)
            http.receive_data(data)
        elif not isinstance(event, h11.Data):
            return
