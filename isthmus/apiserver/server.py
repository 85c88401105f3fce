"""Several Kubernetes API servers in one process, in memory, over real HTTP: for demos and tests.

Each cluster has its own port, state, clock offset and faults; an optional admin port switches the faults from
outside. Nothing survives the process.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import structlog
from aiohttp import web

from isthmus.apiserver.admin import Admin
from isthmus.apiserver.cluster import Cluster
from isthmus.apiserver.deletion import Reaper
from isthmus.apiserver.faults import Faults
from isthmus.apiserver.http import BODY_LIMIT, Shell, WireOptions, reset
from isthmus.apiserver.kubeconfig import kubeconfig

HISTORY_SECONDS = 300.0
"""Events are kept for so long, and twice as long at most: kube-apiserver has etcd compacted as often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """One cluster: where it listens and what it hands out."""

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    """0 for a free one."""
    sock: socket.socket | None = None
    """A bound socket to listen on instead of host and port."""
    service_cidr: str = "10.96.0.0/16"
    """Range of cluster IPs; two ranges of different families, separated by a comma, for dual stack."""
    clock_offset_seconds: float = 0.0
    """How far this server's clock is ahead of the machine's, in timestamps and the Date header."""
    history_events: int = 1024
    """Events kept per resource; a watch older than that gets 410."""
    bookmark_seconds: float = 60.0
    watch_seconds: float = 1800.0
    """How long a watch without timeoutSeconds lasts."""


class RunningCluster:
    """One cluster of a server: its state, its faults and its address."""

    def __init__(self, config: ClusterConfig) -> None:
        offset = config.clock_offset_seconds

        def clock() -> float:
            return time.time() + offset

        self.config = config
        self.state = Cluster(
            service_cidrs=[each.strip() for each in config.service_cidr.split(",")],
            history_events=config.history_events,
            clock=clock,
        )
        self.faults = Faults(cut_all=self._cut, wake=self._wake)
        wire = WireOptions(
            bookmark_seconds=config.bookmark_seconds,
            watch_seconds=config.watch_seconds,
            clock=clock if offset else None,
        )
        self._listener = Listener(Shell(self.state, self.faults, wire), config.host, config.port, config.sock)
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def url(self) -> str:
        """The server's URL, once started."""
        return self._listener.url

    async def start(self) -> None:
        await self._listener.start()
        self._tasks = (
            asyncio.create_task(Reaper(self.state).run(), name=f"apiserver-reaper-{self.config.name}"),
            asyncio.create_task(self._expire(), name=f"apiserver-history-{self.config.name}"),
        )
        for task in self._tasks:
            task.add_done_callback(self._report)

    async def stop(self) -> None:
        """Reset all connections and stop listening."""
        await self._listener.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def compact(self) -> None:
        """Forget all history, as etcd's compaction does: older watches and list tokens get 410."""
        for bucket in self.state.store.buckets.values():
            bucket.history.compact(self.state.store.revision)

    async def _expire(self) -> None:
        """Forgets what is older than HISTORY_SECONDS, again and again."""
        before = lately = 0
        while True:
            for bucket in self.state.store.buckets.values():
                bucket.history.expire(before)
            before, lately = lately, self.state.store.revision
            await asyncio.sleep(HISTORY_SECONDS)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log = structlog.get_logger()
            log.error("task failed", task=task.get_name(), exc_info=failure)

    def _cut(self) -> None:
        self._listener.cut()

    def _wake(self) -> None:
        for bucket in self.state.store.buckets.values():
            bucket.history.wake()


class Listener:
    """One listening socket with its request handler."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        host: str,
        port: int,
        sock: socket.socket | None,
    ) -> None:
        loop = asyncio.get_running_loop()

        def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT)

        self._server = web.Server(
            handler,
            request_factory=request,
            handler_cancellation=True,
            access_log=None,
        )
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)
        self._place = (host, port)
        self._sock = sock
        self.url = ""

    async def start(self) -> None:
        sock = self._sock or _bind(*self._place)
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        self.cut()
        await self._runner.cleanup()

    def cut(self) -> None:
        """Reset every open connection."""
        for connection in self._server.connections:
            reset(connection.transport)


class ApiServer:
    """The clusters of one process; make it inside a running event loop."""

    def __init__(self, clusters: Sequence[ClusterConfig], *, admin: tuple[str, int] | None = None) -> None:
        self.clusters = {config.name: RunningCluster(config) for config in clusters}
        if len(self.clusters) != len(clusters):
            raise ValueError("two clusters have the same name")
        faults = {name: cluster.faults for name, cluster in self.clusters.items()}
        self._admin = Listener(Admin(faults), *admin, None) if admin else None

    def cluster(self, name: str) -> RunningCluster:
        return self.clusters[name]

    def url(self, name: str) -> str:
        """Base URL of a cluster, without a slash at its end."""
        return self.clusters[name].url

    @property
    def admin_url(self) -> str:
        return self._admin.url if self._admin else ""

    def kubeconfig(self) -> str:
        """A kubeconfig in YAML: one context per cluster, named like it; the first is current."""
        return kubeconfig({name: cluster.url for name, cluster in self.clusters.items()})

    async def start(self) -> None:
        """Listen for every cluster, or for none: what was started is stopped again when one fails."""
        try:
            for cluster in self.clusters.values():
                await cluster.start()
            if self._admin:
                await self._admin.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Reset all connections and free the ports."""
        for cluster in self.clusters.values():
            await cluster.stop()
        if self._admin:
            await self._admin.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
