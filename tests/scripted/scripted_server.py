"""A scripted API server, for what a well-behaved one does not do."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from isthmus.kube.config import Access
from isthmus.kube.credentials import Files

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Script:
    """Answers in order; lists and watches have their own queues (empty: an empty list, a silent watch)."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    answers: deque[Handler] = field(default_factory=deque)
    lists: deque[Handler] = field(default_factory=deque)
    watches: deque[Handler] = field(default_factory=deque)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.seen.append(
            Seen(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                json.loads(raw) if raw else None,
            )
        )
        if "watch" in request.query:
            handler = self.watches.popleft() if self.watches else self.stream(hold=True)
        elif "limit" in request.query:
            handler = self.lists.popleft() if self.lists else self.page()
        else:
            handler = self.answers.popleft()
        return await handler(request)

    def requests(self, kind: str) -> list[Seen]:
        """What was asked so far: `watch`, `list` or a method."""
        if kind == "watch":
            return [seen for seen in self.seen if "watch" in seen.query]
        if kind == "list":
            return [seen for seen in self.seen if "limit" in seen.query]
        return [seen for seen in self.seen if seen.method == kind]

    def answer(
        self, body: Any = None, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> Handler:
        async def handler(_request: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(text=text, status=status, headers=headers, content_type="application/json")

        return handler

    def failure(self, code: int, message: str = "", **more: Any) -> Handler:
        """A metav1.Status error; `headers` are the response's, the rest belongs to the Status."""
        headers = more.pop("headers", None)
        body = {"kind": "Status", "status": "Failure", "code": code, "message": message, **more}
        return self.answer(body, status=code, headers=headers)

    def page(self, *items: Any, version: str = "1", continue_: str = "") -> Handler:
        metadata = {"resourceVersion": version, **({"continue": continue_} if continue_ else {})}
        return self.answer({"metadata": metadata, "items": list(items)})

    def stream(
        self, *lines: Any, hold: bool = False, after: asyncio.Event | None = None, then: Any = None
    ) -> Handler:
        """A watch that sends these events (str: as is), waits for `after`, sends `then`, and ends.

        `hold`: stays silent instead of ending.
        """

        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for line in lines:
                text = line if isinstance(line, str) else json.dumps(line)
                await response.write(text.encode() + b"\n")
            if after is not None:
                await after.wait()
            if then is not None:
                await response.write(json.dumps(then).encode() + b"\n")
            if hold:
                await self.closing.wait()
            return response

        return handler

    def silence(self) -> Handler:
        """Accepts the request and never answers."""

        async def handler(_request: web.Request) -> web.StreamResponse:
            await self.closing.wait()
            return web.Response(status=500)

        return handler


@asynccontextmanager
async def scripted() -> AsyncIterator[Script]:
    """A server without answers yet."""
    made = Script()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        made.closing.set()
        await runner.cleanup()


def access_to(url: str, **more: Any) -> Access:
    return Access(name="test", server=url, source=Files(where="test", encrypted=False), **more)
