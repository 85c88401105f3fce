"""The hub and the member of a large world as one process: `servers.py LAYOUT_JSON KUBECONFIG
joined|new`: whether the member's agent has been there before.

Objects are stored as they come, without the checks of a write, so that a world of 40,000 stands in seconds.
Every request that writes is counted. Orders come as JSON lines on stdin, answers go to stdout:
`{"do": "change", "times": N, "seconds": S, "crowd": false}` turns the readiness of one endpoint N times,
spread over S seconds; `{"do": "stir", "times": N, "seconds": S, "own": K}` does so all over the clusterset,
every K-th time in the member itself; `{"do": "writes"}` tells the requests that write and the objects that
changed so far.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from aiohttp import web

from isthmus.api import crds, kinds
from isthmus.apiserver.cluster import Cluster, Write
from isthmus.apiserver.deletion import Reaper
from isthmus.apiserver.faults import Faults
from isthmus.apiserver.http import Shell, WireOptions
from isthmus.apiserver.kubeconfig import kubeconfig
from isthmus.apiserver.resources import CRDS
from isthmus.apiserver.server import Listener
from isthmus.apiserver.store import Bucket, Entry
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from largeworld import objects
from largeworld.imports import Imports
from largeworld.layout import OWN, Export, Layout
from largeworld.store import put, resource_of

READS = frozenset({"GET", "HEAD"})
OWN_SECONDS = 3.0
FEW = 5
"""Exports with fewer endpoints are left alone: a service that loses its last one is another matter."""
HISTORY = {"history_events": 65_536, "history_bytes": 256 << 20}


class CountingShell(Shell):
    """Counts the requests that write, by method and resource."""

    writes: Counter[str]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in READS and "dryRun" not in request.query:
            parts = request.path.strip("/").split("/")
            parts = parts[3:] if parts[0] == "apis" else parts[2:]
            plural = parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]
            status = "/status" if parts[-1] == "status" else ""
            self.writes[f"{request.method} {plural}{status}"] += 1
        return await super().__call__(request)


class Server:
    """One API server."""

    def __init__(self) -> None:
        self.cluster = Cluster(**HISTORY)
        self.changes: Counter[str] = Counter()
        """Objects stored or removed, by resource."""
        self.watch: Callable[[Bucket, Any], None] = lambda _bucket, _obj: None
        self.cluster.store.put = self._counted(self.cluster.store.put)  # type: ignore[method-assign]
        self.cluster.store.drop = self._counted(self.cluster.store.drop)  # type: ignore[method-assign]
        faults = Faults(cut_all=lambda: None, wake=lambda: None)
        self.shell = CountingShell(self.cluster, faults, WireOptions())
        self.shell.writes = Counter()
        self.listener = Listener(self.shell, "127.0.0.1", 0, None)

    def _counted(self, store: Callable[[Bucket, Any], Entry]) -> Callable[[Bucket, Any], Entry]:
        def count(bucket: Bucket, obj: Any) -> Entry:
            self.changes[bucket.id.plural] += 1
            self.watch(bucket, obj)
            return store(bucket, obj)

        return count

    def install(self, definitions: list[dict[str, Any]]) -> None:
        for body in definitions:
            self.cluster.create(CRDS, "", body, Write())


class World:
    """Both servers and what can be done to them."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.hub, self.member = Server(), Server()
        self._turned = 0
        self._offered: list[tuple[str, float]] = []
        """Which service's endpoints the member's agent wrote on the hub, and when."""
        self.hub.watch = self._note

    def _note(self, bucket: Bucket, obj: Any) -> None:
        own = hub_namespace(ClusterId(self.layout.cluster_name(OWN)))
        if bucket.id.plural == kinds.EXPORTED_ENDPOINTS.plural and obj["metadata"]["namespace"] == own:
            service = obj["spec"]["service"]
            self._offered.append((f"{service['namespace']}/{service['name']}", time.monotonic()))

    def fill(self) -> None:
        self.hub.install(crds.hub_crds())
        self.member.install(crds.member_crds())
        for obj in objects.hub(self.layout):
            put(self.hub.cluster, obj)
        for obj in objects.member(self.layout):
            put(self.member.cluster, obj)

    def writes(self) -> dict[str, dict[str, int]]:
        servers = (("hub", self.hub), ("member", self.member))
        return {
            **{f"{name} requests": dict(one.shell.writes) for name, one in servers},
            **{f"{name} changes": dict(one.changes) for name, one in servers},
        }

    def give_lease(self) -> None:
        """Somebody else writes from now on: the agent plans and renders, and writes nothing."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        spec = {
            "holderIdentity": "somebody",
            "leaseDurationSeconds": 3600,
            "renewTime": now,
            "acquireTime": now,
        }
        resource = self.member.cluster.registry.find("coordination.k8s.io", "v1", "leases")
        assert resource is not None
        entry = self.member.cluster.entry(resource, "isthmus-system", "isthmus-agent")
        self.member.cluster.save(resource, entry, {**entry.object(), "spec": spec})

    async def change(self, times: int, seconds: float, crowd: bool) -> list[tuple[str, float]]:
        """Turns one endpoint's readiness, each time of another service; names with the moment."""
        chosen = self.layout.crowds if crowd else self.layout.victims
        told = []
        began = time.monotonic()
        for number in range(times):
            await asyncio.sleep(max(0.0, began + number * seconds / times - time.monotonic()))
            export = chosen[self._turned % len(chosen)]
            told.append(
                (self._turn(export, self._turned // len(chosen) % export.endpoints), time.monotonic())
            )
            self._turned += 1
        return told

    async def stir(self, times: int, seconds: float, own: int) -> dict[str, Any]:
        """Turns endpoints all over the clusterset, every `own`-th time one of the member's own.

        `others`: services with the moment of the write on the hub. `own`: services with the moment of the
        write in the member, and of what its agent wrote on the hub for it (null: nothing in OWN_SECONDS).
        """
        others = [
            e for e in self.layout.exports if e.cluster != OWN and not e.everybody and e.endpoints >= FEW
        ]
        mine = [e for e in self.layout.exports if e.cluster == OWN and e.endpoints >= FEW]
        found: list[tuple[str, float]] = []
        asked: list[tuple[str, float]] = []
        began = time.monotonic()
        self._offered.clear()
        for number in range(times):
            await asyncio.sleep(max(0.0, began + number * seconds / times - time.monotonic()))
            chosen = mine if number % own == 0 else others
            # A large stride: services that are changed one after the other have nothing in common.
            export = chosen[self._turned * 7919 % len(chosen)]
            at = self._turned // len(chosen) % export.endpoints
            self._turned += 1
            if number % own:
                found.append((self._turn(export, at), time.monotonic()))
            else:
                asked.append((self._turn_own(export, at), time.monotonic()))
        await asyncio.sleep(OWN_SECONDS)
        told = [
            (
                service,
                at,
                min((when for one, when in self._offered if one == service and when >= at), default=None),
            )
            for service, at in asked
        ]
        return {"others": found, "own": told}

    def _turn_own(self, export: Export, at: int) -> str:
        space, name = self.layout.namespace_of(export.service), self.layout.service_name(export.service)
        resource = self.member.cluster.registry.find("discovery.k8s.io", "v1", "endpointslices")
        assert resource is not None
        entry = self.member.cluster.entry(resource, space, f"{name}-abcde")
        obj = entry.object()
        conditions = obj["endpoints"][at]["conditions"]
        conditions["ready"] = conditions["serving"] = not conditions["ready"]
        obj["metadata"]["generation"] += 1
        self.member.cluster.save(resource, entry, obj)
        return f"{space}/{name}"

    def _turn(self, export: Export, at: int) -> str:
        whole = next(
            one for one in objects.offered(self.layout, export) if one["kind"] == "ExportedEndpoints"
        )
        resource = resource_of(self.hub.cluster, whole)
        space = hub_namespace(ClusterId(self.layout.cluster_name(export.cluster)))
        entry = self.hub.cluster.entry(resource, space, whole["metadata"]["name"])
        obj = entry.object()
        one = obj["spec"]["endpoints"][at]
        one["ready"] = one["serving"] = not one["ready"]
        obj["metadata"]["generation"] += 1
        self.hub.cluster.save(resource, entry, obj)
        return f"{self.layout.namespace_of(export.service)}/{self.layout.service_name(export.service)}"


async def serve(layout: Layout, config: Path, joined: bool) -> None:
    world = World(layout)
    world.fill()
    if joined:
        await Imports(layout.cluster_name(OWN), world.hub.cluster, world.member.cluster).write()
    # Looking through half a million objects again and again would be taken for a pause of the agent.
    gc.collect()
    gc.freeze()
    for one in (world.hub, world.member):
        await one.listener.start()
    reapers = [asyncio.create_task(Reaper(one.cluster).run()) for one in (world.hub, world.member)]
    config.write_text(  # noqa: ASYNC240 - nobody waits yet
        kubeconfig({"hub": world.hub.listener.url, "member": world.member.listener.url})
    )
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    _say({"ready": True})
    while line := await reader.readline():
        order = json.loads(line)
        match order["do"]:
            case "change":
                _say({"changed": await world.change(order["times"], order["seconds"], order["crowd"])})
            case "stir":
                _say(await world.stir(order["times"], order["seconds"], order["own"]))
            case "writes":
                _say(world.writes())
            case "lease":
                world.give_lease()
                _say({})
            case "count":
                buckets = world.member.cluster.store.buckets
                _say({bucket.plural: len(found.entries) for bucket, found in buckets.items()})
    for task in reapers:
        task.cancel()
    for one in (world.hub, world.member):
        await one.listener.stop()


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Layout(**json.loads(sys.argv[1])), Path(sys.argv[2]), sys.argv[3] == "joined"))
