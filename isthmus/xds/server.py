"""xDS over gRPC: bytes in, bytes out, the protocol itself is `stream`.

Invariants: a stream that breaks the protocol ends alone; streams are bounded, and so is what one of them may
keep in memory (of each type the newest response, and MOST_LATE that it overtook unanswered); a client that
says nothing, or does not read, is not kept; with certificates a client is the node that its certificate
allows it to be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
import structlog

from isthmus.errors import PlatformError, WireError
from isthmus.tls import Certificates, Pair
from isthmus.xds import csds, identity
from isthmus.xds.admission import Admission, Rate
from isthmus.xds.ads import Ads
from isthmus.xds.counts import Counts
from isthmus.xds.names import MOST_IN_ALL, MOST_NAMES
from isthmus.xds.node import Node
from isthmus.xds.refusal import Ending, Refused, TooLarge
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
TRANSPORT_FACTOR = 4
"""So many times `request_bytes` reach us at all: what the transport itself refuses it tells nobody."""
QUEUE = 4
"""Responses that may wait for the transport: one per type."""
LOOK_SECONDS = 1.0
_CODES: Final = {
    Ending.PROTOCOL: grpc.StatusCode.INVALID_ARGUMENT,
    Ending.IDENTITY: grpc.StatusCode.PERMISSION_DENIED,
    Ending.SILENT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Ending.STALLED: grpc.StatusCode.ABORTED,
}
"""What a client is told; RESOURCE_EXHAUSTED for what is not here."""


NODE_RATE: Final = Rate(burst=100, per_second=5)
FLEET_RATE: Final = Rate(burst=10_000, per_second=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one worker carries.

    `names` are those of one subscription, `all_names` those of all distinct ones; `node` and `all_nodes` are
    how often streams may be opened. A connection ends after `age_seconds`, give or take a tenth, so that a
    fleet spreads over replicas again. Let go are clients that have not read a response for `stall_seconds`,
    and those that do not answer a ping, sent after `ping_seconds` of silence, within `silence_seconds`.
    """

    streams: int = 5_000
    request_bytes: int = 4 * 1024 * 1024
    names: int = MOST_NAMES
    all_names: int = MOST_IN_ALL
    node: Rate = NODE_RATE
    all_nodes: Rate = FLEET_RATE
    age_seconds: float = 1800.0
    stall_seconds: float = 30.0
    ping_seconds: float = 10.0
    silence_seconds: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """mTLS; `trust_domain` is that of SPIFFE identities, empty: any that the authorities have signed."""

    certificates: Certificates
    trust_domain: str = ""


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", TRANSPORT_FACTOR * limits.request_bytes),
        ("grpc.max_send_message_length", -1),
        # Above 1,000 calls that wait for the loop C-core sheds at random: a fleet that reconnects.
        ("grpc.server.max_pending_requests", 4 * limits.streams),
        ("grpc.server.max_pending_requests_hard_limit", 4 * limits.streams),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 60_000),
        # C-core adds a jitter of a tenth to either side.
        ("grpc.max_connection_age_ms", int(limits.age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", 5_000),
        ("grpc.max_concurrent_streams", 100),
        ("grpc.keepalive_time_ms", int(limits.ping_seconds * 1000)),
        # The second is what counts: by itself it is a minute, whatever the first says.
        ("grpc.keepalive_timeout_ms", int(limits.silence_seconds * 1000)),
        ("grpc.http2.ping_timeout_ms", int(limits.silence_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Proxies ping every few seconds to notice our silence; the default takes that for an attack.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
        # What clients send is small: to measure the line costs a ping for each of their answers.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.enable_channelz", 0),
    ]


@asynccontextmanager
async def serving(
    ads: Ads, listen: str, limits: Limits | None = None, security: Security | None = None
) -> AsyncIterator[str]:
    """Serves on `host:port` (port 0: any) while the context is open; gives the address it got.

    Without `security` in plain text. Raises PlatformError where that address cannot be listened on.
    """
    limits = limits or Limits()
    streams = _Streams(ads, limits, security.trust_domain if security is not None else "")
    server = grpc.aio.server(options=_options(limits))
    server.add_generic_rpc_handlers((_Methods(streams, ads.counts),))
    try:
        if security is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, _credentials(security.certificates, ads.counts))
    except RuntimeError as error:
        raise PlatformError(f"cannot listen on {listen} for xDS: {error}") from error
    await server.start()
    watch = asyncio.create_task(streams.watch(), name="xds-stalled")
    try:
        yield f"{listen.rpartition(':')[0]}:{port}"
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await server.stop(grace=None)


def _credentials(certificates: Certificates, counts: Counts) -> Any:
    """Credentials that are asked for at each handshake, so that a renewed certificate counts at once."""
    used = certificates.current()

    def newest() -> Any:
        nonlocal used
        counts.handshakes += 1
        pair = certificates.current()
        if pair.number == used.number:
            return None
        used = pair
        return _configuration(pair)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used), newest, require_client_authentication=True
    )


def _configuration(pair: Pair) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(pair.key, pair.certificate)], root_certificates=pair.authorities
    )


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Routes the streaming methods; every other one is UNIMPLEMENTED."""

    def __init__(self, streams: _Streams, counts: Counts) -> None:
        self._counts = counts
        self._handlers = {
            method: grpc.stream_stream_rpc_method_handler(partial(streams.serve, variant, only))
            for method, (variant, only) in METHODS.items()
        }
        self._handlers[csds.FETCH] = grpc.unary_unary_rpc_method_handler(streams.status)
        self._handlers[csds.STREAM] = grpc.stream_stream_rpc_method_handler(streams.statuses)

    def service(self, details: Any) -> Any:
        handler = self._handlers.get(details.method)
        self._counts.methods += handler is None
        return handler


class _Streams:
    """Runs streams, each in the task that gRPC gives it."""

    def __init__(self, ads: Ads, limits: Limits, trust_domain: str) -> None:
        self._ads = ads
        self._limits = limits
        self._trust_domain = trust_domain
        self._admission = Admission(limits.node, limits.all_nodes, ads.clock)
        self._open: dict[asyncio.Task[Any], _Outbox] = {}

    async def serve(self, variant: Variant, only: ResourceType | None, _: object, context: Any) -> None:
        """One stream, to its end."""
        if len(self._open) >= self._limits.streams:
            await self._refuse(context, Ending.FULL, f"this worker carries {self._limits.streams} streams")
        task = asyncio.current_task()
        assert task is not None
        outbox = self._open[task] = _Outbox(context.write, self._ads.clock)
        who, peer = identity.identity(context.auth_context()), context.peer()
        stream = self._ads.open(outbox.put, variant, only, partial(self._admit, who, peer))
        stream.peer, stream.identity = peer, "" if who is None else str(who)
        outbox.stream = stream
        try:
            await self._read(stream, context)
            stream.close()
            await outbox.close()
        except WireError as error:
            stream.close()
            ending = error.ending if isinstance(error, Refused) else Ending.PROTOCOL
            await self._refuse(context, ending, str(error), outbox)
        except TimeoutError:
            await self._refuse(context, Ending.SILENT, "no request came", outbox)
        except asyncio.CancelledError:
            if not outbox.stalled:
                raise
            stream.close()
            task.uncancel()
            await self._refuse(context, Ending.STALLED, "responses are not read", outbox)
        finally:
            stream.close()
            del self._open[task]

    async def status(self, data: bytes, context: Any) -> bytes | None:
        """One answer about clients (CSDS)."""
        who = identity.identity(context.auth_context())

        def may_see(node: str) -> bool:
            return who is None or who.allows(node, self._trust_domain)

        wall = time.time() - self._ads.clock()
        try:
            self._admission.admit("client status", context.peer().rpartition(":")[0])
            return csds.answer(data, self._ads, may_see, wall)
        except WireError as error:
            ending = error.ending if isinstance(error, Refused) else Ending.PROTOCOL
            await self._refuse(context, ending, str(error))
            return None

    async def statuses(self, _: object, context: Any) -> None:
        """An answer to each question about clients (CSDS)."""
        while (data := await context.read()) is not grpc.aio.EOF:
            told = await self.status(data, context)
            if told is not None:
                await context.write(told)

    async def watch(self) -> None:
        """Ends streams whose client does not read, until cancelled."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._limits.stall_seconds / 2))
            late = self._ads.clock() - self._limits.stall_seconds
            for task, outbox in self._open.items():
                if outbox.stalled or outbox.ending:
                    continue
                if outbox.writing_since is not None and outbox.writing_since < late:
                    outbox.stalled = True
                    task.cancel()

    def _admit(self, who: identity.Identity | None, peer: str, node: Node) -> None:
        self._admission.admit(node.id, peer.rpartition(":")[0])
        identity.require(who, node.id, self._trust_domain)

    async def _read(self, stream: Stream, context: Any) -> None:
        endings, most = self._ads.counts.endings, self._limits.request_bytes
        try:
            async with asyncio.timeout(FIRST_REQUEST_SECONDS):
                data = await context.read()
        except asyncio.CancelledError:
            endings[Ending.RESET] += 1
            raise
        endings[Ending.RESET] += data is grpc.aio.EOF
        while data is not grpc.aio.EOF:
            if len(data) > most:
                raise TooLarge(f"a request of {len(data)} bytes: {most} are read")
            stream.request(data)
            data = await context.read()

    async def _refuse(self, context: Any, ending: Ending, text: str, outbox: _Outbox | None = None) -> None:
        self._ads.counts.endings[ending] += 1
        log.warning("xds stream refused", ending=ending.value, reason=text, peer=context.peer())
        if outbox is not None:
            outbox.ending = True
            await outbox.close()
        await context.abort(_CODES.get(ending, grpc.StatusCode.RESOURCE_EXHAUSTED), text)


class _Outbox:
    """Responses on their way to the transport; a task writes them while there are any."""

    __slots__ = (
        "_clock",
        "_failed",
        "_full",
        "_lost",
        "_waiting",
        "_write",
        "_writer",
        "ending",
        "stalled",
        "stream",
        "writing_since",
    )

    def __init__(self, write: Callable[[bytes], Awaitable[None]], clock: Callable[[], float]) -> None:
        self.writing_since: float | None = None
        self.stalled = False
        self.ending = False
        """The client is about to be told why its stream ends; nothing may cut that short."""
        self.stream: Stream | None = None
        """Whom to tell that there is room again."""
        self._write = write
        self._clock = clock
        self._waiting: list[bytes] = []
        self._writer: asyncio.Task[None] | None = None
        self._full = self._lost = self._failed = False

    def put(self, data: bytes) -> bool:
        """Takes a response; says whether there is room for another."""
        if self._lost:
            return False
        self._waiting.append(data)
        if self._writer is None:
            self._writer = asyncio.create_task(self._run(), name="xds-stream-writer")
        self._full = len(self._waiting) >= QUEUE
        return not self._full

    async def close(self) -> None:
        """Drops what waits; returns when what is on its way is read, or cannot be any more.

        gRPC sends no status before, and takes nothing back: until then the stream counts. Raises
        CancelledError where it could not be written: nobody is there to be told how the stream ends.
        """
        self._lost, self.stream = True, None
        self._waiting.clear()
        if self._writer is not None:
            await asyncio.wait([self._writer])
        if self._failed:
            raise asyncio.CancelledError("the client is gone")

    async def _run(self) -> None:
        try:
            while self._waiting:
                self.writing_since = self._clock()
                await self._write(self._waiting.pop(0))
                self.writing_since = None
                if self._full and not self._waiting:
                    self._full = False
                    if self.stream is not None:
                        self.stream.drained()
        except (grpc.RpcError, grpc.aio.BaseError) as error:
            self._failed = self._lost = True
            log.debug("xds write failed", reason=str(error))
        finally:
            self._writer = None
