"""Real parts for the tests of the xDS door: an Envoy, backends, a worker in this process, a load of requests.

Also imported by the scripts that run in a network namespace of their own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from http_load import HttpBackend, fetch, request, until

from isthmus.flow.table import Table, Writer
from isthmus.model.names import ClusterId, EndpointId, Locality, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port, Protocol
from isthmus.tls import Files
from isthmus.xds import envoy, grpc, worker
from isthmus.xds.ads import Ads
from isthmus.xds.bootstrap import envoy_bootstrap
from isthmus.xds.rows import (
    EVERYBODY,
    EXPLICIT,
    ProxyClass,
    ResourceType,
    Row,
    ready_row,
    resource_name,
    scope_of,
    split_listen,
)
from isthmus.xds.secrets import Identity, secret_files
from isthmus.xds.server import Limits
from loadtests.ports import free_port

DEFAULT_LIMITS = Limits()
CLUSTER = ClusterId("eu-1")
VANTAGE = Vantage("eu", "eu-1a", CLUSTER)
WEB = ServiceKey("shop", "web")
GRPC_CLASS = ProxyClass(VANTAGE, "grpc")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)


def find_envoy() -> str | None:
    """ISTHMUS_ENVOY, then PATH, then the newest in the cache folder."""
    found = os.environ.get("ISTHMUS_ENVOY") or shutil.which("envoy")
    cached = sorted(Path.home().glob(".cache/isthmus/envoy-*/envoy/_bin/envoy"))
    return found or (str(cached[-1]) if cached else None)


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

    def listen(self, listen: str, *, log: bool = False) -> None:
        """Renders what belongs to the class of proxies that listen there."""
        self.proxy_class = ProxyClass(VANTAGE, "envoy", listen, access_log=log)
        self.put_routes()
        place = split_listen(listen)
        assert place is not None
        row = str(Row(ResourceType.LDS, str(self.proxy_class), EXPLICIT))
        self.writer.put(row, envoy.listener(*place, log=log))

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
        grpc_row = str(Row(ResourceType.EDS, scope_of(ResourceType.EDS, GRPC_CLASS), name))
        self.writer.put(grpc_row, grpc.load_assignment(plan))

    def for_grpc(
        self, service: ServiceKey = WEB, ports: tuple[Port, ...] = (HTTP,), doors: DoorSettings | None = None
    ) -> None:
        """Renders a service for gRPC clients."""
        doors = doors or DoorSettings()
        self.writer.put(str(ready_row(GRPC_CLASS)), b"")

        def put(kind: ResourceType, name: str, value: bytes) -> None:
            self.writer.put(str(Row(kind, scope_of(kind, GRPC_CLASS), name)), value)

        for name, port in grpc.names(service, ports).items():
            put(ResourceType.LDS, name, grpc.listener(name, service, port))
            own = resource_name(service, port.port)
            put(ResourceType.RDS, own, grpc.route_configuration(service, port, doors))
            put(ResourceType.CDS, own, grpc.cluster(service, port, doors))


@dataclass
class Door:
    """A served worker."""

    rows: Rows
    address: str
    ads: Ads


@asynccontextmanager
async def served(
    rows: Rows,
    listen: str = "127.0.0.1:0",
    name: str = "xds-0",
    limits: Limits = DEFAULT_LIMITS,
    **more: Any,
) -> AsyncIterator[Door]:
    """A worker in this process, serving these rows."""
    started: asyncio.Future[tuple[str, Ads]] = asyncio.get_running_loop().create_future()
    options = worker.Options(name=name, cluster=CLUSTER, listen=listen, limits=limits, **more)
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


def identity_of(files: Files) -> Identity:
    """How a client shows and checks certificates."""
    return Identity(
        ca=str(files.authorities), certificate=str(files.certificate), key=str(files.key), server="localhost"
    )


@asynccontextmanager
async def sidecar(
    binary: str,
    folder: Path,
    xds: str,
    listen: str | None = None,
    vantage: Vantage = VANTAGE,
    api: str = "GRPC",
    tls: Files | None = None,
    follow: bool = False,
    **settings: Any,
) -> AsyncIterator[Sidecar]:
    """`tls`: its certificate, which it follows when it is renewed where `follow` says so."""
    listen = listen or f"127.0.0.1:{free_port()}"
    proxy = Sidecar(listen, f"127.0.0.1:{free_port()}")
    identity = identity_of(tls) if tls is not None else None
    if identity is not None and follow:
        identity = dataclasses.replace(identity, secrets=str(folder))
        for name, content in secret_files(xds.rpartition(":")[0], identity).items():
            (folder / name).write_text(json.dumps(content))
    delta = api == "DELTA_GRPC"
    config = envoy_bootstrap(
        "test-sidecar", vantage, xds, proxy.admin, listen, identity=identity, delta=delta, **settings
    )
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(binary, "-c", str(path), "--concurrency", "1", "-l", "warning", "--disable-hot-restart"),
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


@asynccontextmanager
async def proxied(binary: str, folder: Path, rows: Rows, *, log: bool = False) -> AsyncIterator[Sidecar]:
    """A real Envoy that is given these rows."""
    listen = f"127.0.0.1:{free_port()}"
    rows.listen(listen, log=log)
    async with served(rows) as door, sidecar(binary, folder, door.address, listen, access_log=log) as proxy:
        yield proxy
