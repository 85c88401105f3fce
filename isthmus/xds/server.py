"""ADS over gRPC: bytes in, bytes out, the protocol itself is `ads`.

Invariants: a stream that breaks the protocol ends alone; streams are bounded, and so is what one of them may
keep in memory (one unanswered response per type); a client that says nothing is not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
import structlog

from isthmus.errors import PlatformError, WireError
from isthmus.xds.ads import Ads, TooManyClasses
from isthmus.xds.counts import Ending
from isthmus.xds.names import TooManyNames
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Variant
from isthmus.xds.stream import Stream

log = structlog.get_logger()

_SERVICES: Final = (
    ("discovery.v3.AggregatedDiscoveryService", "AggregatedResources", None),
    ("cluster.v3.ClusterDiscoveryService", "Clusters", ResourceType.CDS),
    ("endpoint.v3.EndpointDiscoveryService", "Endpoints", ResourceType.EDS),
    ("listener.v3.ListenerDiscoveryService", "Listeners", ResourceType.LDS),
    ("route.v3.RouteDiscoveryService", "Routes", ResourceType.RDS),
)
METHODS: Final = {
    f"/envoy.service.{service}/{prefix}{what}": (variant, only)
    for service, what, only in _SERVICES
    for prefix, variant in (("Stream", Variant.SOTW), ("Delta", Variant.DELTA))
}
"""Variant and type (None: all) of each method."""
METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
FIRST_REQUEST_SECONDS = 10.0
QUEUE = 4
"""Responses that may wait for the transport: one per type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one worker carries."""

    streams: int = 5_000
    request_bytes: int = 4 * 1024 * 1024


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.request_bytes),
        ("grpc.max_send_message_length", -1),
        # Above 1,000 calls that wait for the loop C-core sheds at random: a fleet that reconnects.
        ("grpc.server.max_pending_requests", 4 * limits.streams),
        ("grpc.server.max_pending_requests_hard_limit", 4 * limits.streams),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Proxies ping every few seconds to notice our silence; the default takes that for an attack.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
    ]


@asynccontextmanager
async def serving(ads: Ads, listen: str, limits: Limits | None = None) -> AsyncIterator[str]:
    """Serves on `host:port` (port 0: any) while the context is open; gives the address it got.

    Raises PlatformError where that address cannot be listened on.
    """
    limits = limits or Limits()
    server = grpc.aio.server(options=_options(limits))
    server.add_generic_rpc_handlers((_Methods(_Streams(ads, limits)),))
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise PlatformError(f"cannot listen on {listen} for xDS: {error}") from error
    await server.start()
    try:
        yield f"{listen.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(grace=None)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Routes the streaming methods; every other one is UNIMPLEMENTED."""

    def __init__(self, streams: _Streams) -> None:
        self._handlers = {
            method: grpc.stream_stream_rpc_method_handler(partial(streams.serve, variant, only))
            for method, (variant, only) in METHODS.items()
        }

    def service(self, details: Any) -> Any:
        return self._handlers.get(details.method)


class _Streams:
    """Runs streams, each in the task that gRPC gives it."""

    def __init__(self, ads: Ads, limits: Limits) -> None:
        self._ads = ads
        self._limits = limits
        self._open = 0

    async def serve(self, variant: Variant, only: ResourceType | None, _: object, context: Any) -> None:
        """One stream, to its end."""
        if self._open >= self._limits.streams:
            await self._refuse(
                context,
                Ending.FULL,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"this worker carries {self._limits.streams} streams",
            )
        self._open += 1
        outbox = _Outbox()
        stream = self._ads.open(outbox.put, variant, only)
        writer = asyncio.create_task(outbox.run(context.write, stream.drained), name="xds-stream-writer")
        try:
            await self._read(stream, context)
        except WireError as error:
            ending, code = _reason(error)
            await self._refuse(context, ending, code, str(error))
        except TimeoutError:
            await self._refuse(context, Ending.SILENT, grpc.StatusCode.DEADLINE_EXCEEDED, "no request came")
        finally:
            stream.close()
            self._open -= 1
            writer.cancel()
            await asyncio.wait([writer])

    async def _read(self, stream: Stream, context: Any) -> None:
        async with asyncio.timeout(FIRST_REQUEST_SECONDS):
            data = await context.read()
        while data is not grpc.aio.EOF:
            stream.request(data)
            data = await context.read()

    async def _refuse(self, context: Any, ending: Ending, code: grpc.StatusCode, text: str) -> None:
        self._ads.counts.endings[ending] += 1
        log.warning("xds stream refused", ending=ending.value, reason=text, peer=context.peer())
        await context.abort(code, text)


def _reason(error: WireError) -> tuple[Ending, grpc.StatusCode]:
    match error:
        case TooManyClasses():
            return Ending.CLASSES, grpc.StatusCode.RESOURCE_EXHAUSTED
        case TooManyNames():
            return Ending.NAMES, grpc.StatusCode.RESOURCE_EXHAUSTED
        case _:
            return Ending.PROTOCOL, grpc.StatusCode.INVALID_ARGUMENT


class _Outbox:
    """Responses on their way to the transport."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()
        self._full = False

    def put(self, data: bytes) -> bool:
        """Takes a response; says whether there is room for another."""
        self._waiting.append(data)
        self._wake.set()
        self._full = len(self._waiting) >= QUEUE
        return not self._full

    async def run(self, write: Callable[[bytes], Any], drained: Callable[[], None]) -> None:
        """Writes until cancelled, or until the client is gone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                try:
                    await write(self._waiting.pop(0))
                except (grpc.RpcError, grpc.aio.UsageError) as error:
                    log.debug("xds write failed", reason=str(error))
                    return
            if self._full:
                self._full = False
                drained()
