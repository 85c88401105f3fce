"""The console's HTTP server: `/healthz`, `/readyz`, `/metrics` and the views under `/v1/`.

Invariants: read-only, JSON only (metrics excepted), and every wrong request gets a JSON body that says what
was wrong. It answers whoever reaches it, so it listens on the loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from isthmus.console import views
from isthmus.console.events import Ring
from isthmus.console.explanation import Unanswerable, explanation
from isthmus.console.views import Page, Sources, View
from isthmus.model.names import ServiceKey

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
MOST_ITEMS = 5_000
MOST_WAIT_SECONDS = 25
_UPS: dict[str, bool | None] = {"true": True, "false": False, "unknown": None}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_encode = msgspec.json.Encoder().encode

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(
    sources: Sources, registry: CollectorRegistry, ring: Ring, *, host: str = LOOPBACK, port: int = 0
) -> None:
    """Serves until cancelled. Raises OSError when the address cannot be listened on."""
    await listen(application(sources, registry, ring), host=host, port=port)


async def listen(app: web.Application, *, host: str = LOOPBACK, port: int = 0) -> None:
    """Serves an application until cancelled. Raises OSError when the address cannot be listened on."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info("console listens", addresses=[str(address) for address in runner.addresses])
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def application(sources: Sources, registry: CollectorRegistry, ring: Ring) -> web.Application:
    """The aiohttp application, not yet listening."""
    console = _Console(sources, ring)
    app = vitals(registry, lambda: views.not_ready(sources))
    app.add_routes(
        [
            web.get("/v1/status", console.status),
            web.get("/v1/services", console.services),
            web.get("/v1/services/{namespace}/{name}", console.service),
            web.get("/v1/plans", console.plans),
            web.get("/v1/clusters", console.clusters),
            web.get("/v1/health", console.health),
            web.get("/v1/proxies", console.proxies),
            web.get("/v1/zone", console.zone),
            web.get("/v1/explain", console.explain),
            web.get("/v1/events", console.events),
        ]
    )
    return app


def vitals(registry: CollectorRegistry, not_ready: Callable[[], list[str]]) -> web.Application:
    """An application with what every process tells: `/healthz`, `/readyz` and `/metrics`."""

    async def healthz(_request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        reasons = not_ready()
        return _json({"ready": not reasons, "notReady": reasons}, status=503 if reasons else 200)

    async def metrics(request: web.Request) -> web.Response:
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encoder(registry)
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    app = web.Application(middlewares=[_json_errors], client_max_size=1024)
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


class _Console:
    """One method for each path of `/v1/`."""

    def __init__(self, sources: Sources, ring: Ring) -> None:
        self._sources = sources
        self._ring = ring

    async def status(self, _request: web.Request) -> web.Response:
        return _json(views.status(self._sources))

    async def services(self, request: web.Request) -> web.Response:
        return _json(views.services(self._sources, _page(request)))

    async def service(self, request: web.Request) -> web.Response:
        key = ServiceKey(request.match_info["namespace"], request.match_info["name"])
        found = views.service(self._sources, key)
        if found is None:
            return _error(404, f"no service {key} in the clusterset")
        return _json(found)

    async def plans(self, request: web.Request) -> web.Response:
        key = _service_key(request)
        if key is None:
            return _error(400, "say which service: ?service=NAMESPACE/NAME")
        return _json(views.plans(self._sources, key, _page(request)))

    async def clusters(self, request: web.Request) -> web.Response:
        return _json(views.clusters(self._sources, _page(request)))

    async def health(self, request: web.Request) -> web.Response:
        return _json(views.health(self._sources, _page(request), _service_key(request), _ups(request)))

    async def proxies(self, request: web.Request) -> web.Response:
        page, look = _page(request), self._sources.proxies
        found, silent = await look() if look is not None else ([], [])
        return _json(views.proxies(found, silent, page, request.query.get("node")))

    async def zone(self, request: web.Request) -> web.Response:
        found = views.zone(self._sources, request.query.get("address", "")[:64])
        if found is None:
            return _error(400, "say which address: ?address=10.0.0.1")
        return _json(found)

    async def explain(self, request: web.Request) -> web.Response:
        key = _service_key(request)
        if key is None:
            return _error(400, "say which service: ?service=NAMESPACE/NAME")
        port, at = (request.query.get(name, "")[:256] for name in ("port", "from"))
        found = explanation(self._sources, key, port, at)
        if isinstance(found, Unanswerable):
            return _json({"error": found.error, "choices": list(found.choices)}, status=found.status)
        return _json(found)

    async def events(self, request: web.Request) -> web.Response:
        after = _number(request, "after", 0, 10**9)
        seconds = _number(request, "wait", 0, MOST_WAIT_SECONDS)
        run = request.query.get("run", "")
        if seconds:
            await self._ring.wait(after, run, seconds)
        return _json({"cluster": self._sources.cluster} | self._ring.view(after, run))


class _WrongRequest(Exception):
    """A parameter that cannot be used; the text is for the caller."""


@web.middleware
async def _json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _WrongRequest as error:
        return _error(400, str(error))
    except web.HTTPMethodNotAllowed as error:
        return _error(405, "the console is read-only", {"Allow": ", ".join(sorted(error.allowed_methods))})
    except web.HTTPException as error:
        return _error(error.status, error.reason)


def _service_key(request: web.Request) -> ServiceKey | None:
    """The service that `?service=` names. Raises _WrongRequest when it is not NAMESPACE/NAME."""
    text = request.query.get("service")
    if text is None:
        return None
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise _WrongRequest("service must be NAMESPACE/NAME")
    return ServiceKey(namespace, name)


def _ups(request: web.Request) -> frozenset[bool | None]:
    """The verdicts that `?up=` asks for. Raises _WrongRequest when there are no such."""
    text = request.query.get("up")
    if text is None:
        return views.EVERY_VERDICT
    if text not in _UPS:
        raise _WrongRequest(f"up must be one of {', '.join(_UPS)}")
    return frozenset({_UPS[text]})


def _page(request: web.Request) -> Page:
    return Page(
        limit=_number(request, "limit", Page().limit, MOST_ITEMS), offset=_number(request, "offset", 0, 10**9)
    )


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= most):
        raise _WrongRequest(f"{name} must be a number from 0 to {most}")
    return int(text)


def _json(view: View, *, status: int = 200) -> web.Response:
    return web.Response(
        body=_encode(view), status=status, content_type="application/json", charset="utf-8", headers=_HEADERS
    )


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    response = _json({"error": message}, status=status)
    response.headers.update(headers or {})
    return response
