"""Real parts for the tests of the xDS door: an Envoy, backends, a worker in this process, a load of requests.

Also imported by the scripts that run in a network namespace of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.flow.table import Table, Writer
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port, Protocol
from isthmus.xds import envoy, worker
from isthmus.xds.ads import Ads
from isthmus.xds.bootstrap import envoy_bootstrap
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ProxyClass, ResourceType, Row, resource_name, split_listen
from isthmus.xds.server import Limits

DEADLINE = 20.0
DEFAULT_LIMITS = Limits()
CLUSTER = ClusterId("eu-1")
VANTAGE = Vantage("eu", "eu-1a", CLUSTER)
WEB = ServiceKey("shop", "web")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)


def find_envoy() -> str | None:
    """ISTHMUS_ENVOY, then PATH, then the newest in the cache folder."""
    found = os.environ.get("ISTHMUS_ENVOY") or shutil.which("envoy")
    cached = sorted(Path.home().glob(".cache/isthmus/envoy-*/envoy/_bin/envoy"))
    return found or (str(cached[-1]) if cached else None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline: float = DEADLINE) -> None:
    """Waits until the condition holds; fails with `what` after the deadline."""
    try:
        async with asyncio.timeout(deadline):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {deadline:g} s: {what}") from None


class HttpBackend:
    """An HTTP/1.1 server that answers every request with the name of its cluster; it can hang or delay."""

    def __init__(self, cluster: str, address: str = "127.0.0.1") -> None:
        self.cluster, self.address, self.port = cluster, address, 0
        self.hanging = False
        self.delay = 0.0
        self.served = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Transport] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuses from now on; open connections are reset."""
        if self._server is not None:
            self._server.close()
            for transport in list(self._open):
                transport.abort()
            await self._server.wait_closed()
            self._server = None


class _Connection(asyncio.Protocol):
    def __init__(self, backend: HttpBackend) -> None:
        self._backend = backend
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            _, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if not self._backend.hanging:
                asyncio.get_running_loop().call_later(self._backend.delay, self._answer)

    def _answer(self) -> None:
        if self._backend.hanging or self._transport.is_closing():
            return
        self._backend.served += 1
        body = self._backend.cluster.encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


@dataclass
class Shares:
    """A plan in short: groups as {locality text: (basis points, backends)}, in ladder order."""

    shares: Mapping[str, tuple[int, list[HttpBackend]]] = field(default_factory=dict)
    standby: list[Mapping[str, list[HttpBackend]]] = field(default_factory=list)
    unhealthy: Mapping[str, list[HttpBackend]] = field(default_factory=dict)


def locality(text: str) -> Locality:
    cluster, region, zone = text.split("/")
    return Locality(ClusterId(cluster), region, zone)


def plan_of(shares: Shares, service: ServiceKey = WEB, port: Port = HTTP, **more: Any) -> Plan:
    def group(place: str, step: int, points: int, backends: Iterable[HttpBackend]) -> PlanGroup:
        return PlanGroup(
            locality=locality(place),
            step=step,
            basis_points=points,
            backends=tuple(
                Backend(
                    id=EndpointId(f"{b.address}:{b.port}"),
                    cluster=ClusterId(b.cluster),
                    addresses=(b.address,),
                    port=b.port,
                )
                for b in backends
            ),
        )

    return Plan(
        key=PlanKey(service, port_id(port), VANTAGE),
        port=port,
        shares=tuple(group(place, 0, points, bs) for place, (points, bs) in shares.shares.items()),
        standby=tuple(
            group(place, step, 0, bs)
            for step, groups in enumerate(shares.standby, 1)
            for place, bs in groups.items()
        ),
        unhealthy=tuple(group(place, 99, 0, bs) for place, bs in shares.unhealthy.items()),
        **more,
    )


class Rows:
    """What control would render, by hand."""

    def __init__(self) -> None:
        self.table: Table[str, bytes] = Table(worker.TABLE)
        self.wants: Table[str, bytes] = Table(worker.WANTS)
        self.writer: Writer[str, bytes] = self.table.partition("control")
        self.writer.replace({})
        self._hosts: dict[ServiceKey, bytes] = {}
        self.proxy_class: ProxyClass | None = None

    def listen(self, listen: str) -> None:
        """Renders what belongs to the class of proxies that listen there."""
        self.proxy_class = ProxyClass(VANTAGE, "envoy", listen)
        self.put_routes()
        place = split_listen(listen)
        assert place is not None
        self.writer.put(str(Row(ResourceType.LDS, str(self.proxy_class), EXPLICIT)), envoy.listener(*place))

    def put_routes(self) -> None:
        row = Row(ResourceType.RDS, str(self.proxy_class), EXPLICIT)
        self.writer.put(str(row), envoy.route_configuration(self._hosts.values()))

    def service(
        self, service: ServiceKey = WEB, ports: tuple[Port, ...] = (HTTP,), doors: DoorSettings | None = None
    ) -> None:
        doors = doors or DoorSettings()
        for port in ports:
            row = Row(ResourceType.CDS, EVERYBODY, resource_name(service, port.port))
            self.writer.put(str(row), envoy.cluster(service, port, doors))
        self._hosts[service] = envoy.virtual_host(service, ports, doors)
        self.put_routes()

    def remove(self, service: ServiceKey, port: Port = HTTP) -> None:
        name = resource_name(service, port.port)
        self.writer.drop(str(Row(ResourceType.CDS, EVERYBODY, name)))
        self.writer.drop(str(Row(ResourceType.EDS, str(VANTAGE), name)))
        del self._hosts[service]
        self.put_routes()

    def plan(self, plan: Plan) -> None:
        assert plan.port is not None
        name = resource_name(plan.key.service, plan.port.port)
        self.writer.put(str(Row(ResourceType.EDS, str(VANTAGE), name)), envoy.load_assignment(plan))


@dataclass
class Door:
    """A served worker."""

    rows: Rows
    address: str
    ads: Ads


@asynccontextmanager
async def served(
    rows: Rows, listen: str = "127.0.0.1:0", name: str = "xds-0", limits: Limits = DEFAULT_LIMITS
) -> AsyncIterator[Door]:
    """A worker in this process, serving these rows."""
    started: asyncio.Future[tuple[str, Ads]] = asyncio.get_running_loop().create_future()
    options = worker.Options(name=name, cluster=CLUSTER, listen=listen, limits=limits)
    task = asyncio.create_task(
        worker.serve(
            options, rows.table, rows.wants, listening=lambda address, ads: started.set_result((address, ads))
        ),
        name="worker",
    )
    try:
        await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        address, ads = started.result()
        yield Door(rows, address, ads)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Sidecar:
    """A real Envoy."""

    def __init__(self, listen: str, admin: str) -> None:
        self.listen, self.admin = listen, admin

    async def stats(self, pattern: str) -> dict[str, int]:
        text = await fetch(self.admin, f"/stats?filter={pattern}")
        pairs = (line.rpartition(": ") for line in text.splitlines() if ": " in line)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    async def rejected(self) -> int:
        """Updates that it refused, of all types."""
        return sum((await self.stats("update_rejected")).values())

    async def get(self, authority: str = "web.shop", method: str = "GET") -> tuple[int, str]:
        """One request on a connection of its own."""
        return await request(self.listen, authority, method=method)

    async def serving(self, authority: str = "web.shop") -> None:
        async def answers() -> bool:
            try:
                return (await self.get(authority))[0] == 200
            except (OSError, asyncio.IncompleteReadError):
                return False

        await until(answers, f"{authority} answered through the proxy")


@asynccontextmanager
async def sidecar(
    binary: str, folder: Path, xds: str, listen: str | None = None, vantage: Vantage = VANTAGE
) -> AsyncIterator[Sidecar]:
    listen = listen or f"127.0.0.1:{free_port()}"
    proxy = Sidecar(listen, f"127.0.0.1:{free_port()}")
    config = envoy_bootstrap("test-sidecar", vantage, xds, proxy.admin, listen)
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(binary, "-c", str(path), "--concurrency", "1", "-l", "warning", "--use-dynamic-base-id"),
            stdout=log,
            stderr=log,
        )

    async def up() -> bool:
        assert process.returncode is None, (folder / "envoy.log").read_text()
        try:
            return bool(await fetch(proxy.admin, "/server_info"))
        except (OSError, asyncio.IncompleteReadError):
            return False

    try:
        await until(up, "the proxy's admin page")
        yield proxy
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def request(
    address: str, authority: str, path: str = "/", method: str = "GET", timeout: float = 15.0
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            return await exchange(reader, writer, authority, path, method)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, path: str, method: str
) -> tuple[int, str]:
    """One request on a kept connection."""
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: 0\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    if "transfer-encoding: chunked" in head:
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return status, body.decode()
    length = next((line for line in head.split("\r\n") if line.startswith("content-length:")), ":0")
    return status, (await reader.readexactly(int(length.partition(":")[2]))).decode()


async def fetch(address: str, path: str) -> str:
    return (await request(address, address, path))[1]


@dataclass
class Load:
    """An open loop of requests on kept connections: what was answered when, and by whom."""

    address: str
    authority: str = "web.shop"
    rate: float = 200.0
    method: str = "GET"
    answers: list[tuple[float, float, int, str]] = field(default_factory=list)
    """(seconds since the start of the load, latency in seconds, status, body)"""
    errors: list[str] = field(default_factory=list)
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _started: float = 0.0

    @property
    def failed(self) -> list[Any]:
        return [*self.errors, *(a for a in self.answers if a[2] != 200)]

    def by(self, since: float = 0.0) -> Counter[str]:
        return Counter(body for at, _, status, body in self.answers if at >= since and status == 200)

    def percentile(self, q: float, since: float = 0.0) -> float:
        found = sorted(latency for at, latency, _, _ in self.answers if at >= since)
        return found[min(len(found) - 1, int(len(found) * q))]

    @property
    def now(self) -> float:
        return time.monotonic() - self._started

    async def run(self, stop: asyncio.Event) -> None:
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            number = 0
            while not stop.is_set():
                number += 1
                group.create_task(self._one(), name="request")
                await asyncio.sleep(max(0.0, number / self.rate - self.now))
        for _, writer in self._idle:
            writer.close()

    async def _one(self) -> None:
        at = self.now
        try:
            async with asyncio.timeout(15):
                if self._idle:
                    reader, writer = self._idle.pop()
                else:
                    host, _, port = self.address.rpartition(":")
                    reader, writer = await asyncio.open_connection(host, int(port))
                status, body = await exchange(reader, writer, self.authority, "/", self.method)
            self._idle.append((reader, writer))
            self.answers.append((at, self.now - at, status, body))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.errors.append(f"{at:.2f} {type(error).__name__} {error}")


@asynccontextmanager
async def loaded(load: Load) -> AsyncIterator[Load]:
    """The load runs while the context is open; at its end every request has had its answer."""
    stop = asyncio.Event()
    task = asyncio.create_task(load.run(stop), name="load")
    try:
        yield load
    finally:
        stop.set()
        await task
