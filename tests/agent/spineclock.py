"""A real API server whose clock is wrong: the times it tells are shifted on their way.

Nothing but the server's own clock makes a `creationTimestamp`, and a test cannot set that. A proxy stands in
for the server; it passes everything on and moves `Date` and each `creationTimestamp` by so many seconds.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import aiohttp
import yarl
from aiohttp import web

from loadtests.ports import free_port

STAMP = re.compile(rb'(?<="creationTimestamp":")[^"]+(?=")')
PASSED = ("Authorization", "Content-Type", "Accept", "User-Agent")
FORM = "%Y-%m-%dT%H:%M:%SZ"
BODY_BYTES = 64 << 20


class Clocked:
    """`target`: the server's URL; `tls` to speak to it, `own_tls` to be spoken to; `ahead`: in seconds."""

    def __init__(self, target: str, tls: ssl.SSLContext, own_tls: ssl.SSLContext, ahead: float) -> None:
        self._port = free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self._target = target
        self._tls = tls
        self._own_tls = own_tls
        self._ahead = timedelta(seconds=ahead)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=None)
        )
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._own_tls).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: request.headers[name] for name in PASSED if name in request.headers}
        url = yarl.URL(self._target + request.raw_path, encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            told = {
                name: answer.headers[name]
                for name in ("Content-Type", "Retry-After")
                if name in answer.headers
            }
            date = parsedate_to_datetime(answer.headers["Date"]) + self._ahead
            told["Date"] = format_datetime(date.astimezone(UTC), usegmt=True)
            response = web.StreamResponse(status=answer.status, headers=told)
            await response.prepare(request)
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    await response.write(self._shifted(line) + b"\n")
            await response.write(self._shifted(rest))
            await response.write_eof()
            return response

    def _shifted(self, line: bytes) -> bytes:
        def shift(found: re.Match[bytes]) -> bytes:
            then = datetime.strptime(found[0].decode(), FORM).replace(tzinfo=UTC)
            return (then + self._ahead).strftime(FORM).encode()

        return STAMP.sub(shift, line)
