"""How long from a cause in one cluster until every cluster's objects say so, as the API servers show it.

A hub and three members (real kube-apiservers; `--embedded` for those of this process) with the agents as
their users start them. A round exports a Service with two endpoints, changes its port, makes a third endpoint
ready and unexports it. Each step is timed from the moment before the write to the moment when watches of all
members show what follows: conditions, imports with addresses, imported and derived slices. The upstream
conformance suite allows 20 s for imports and conditions and 60 s for slices.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "realapi"))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "conformance"))

import structlog
from clusterset import (
    AMS,
    DERIVED,
    HTTP,
    IMPORT_NAME,
    MEMBERS,
    SERVICE_NAME,
    Space,
    addresses,
    conditions,
    embedded,
    pod,
    ports_of,
    ready,
    real,
)
from control_plane import ControlPlanes
from rich.console import Console
from rich.table import Table as Shown
from spine import Spine

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.kube.raw import RawObject, raw
from isthmus.kube.reflector import Reflector

STEPS = ("export", "port", "endpoint", "unexport")
TARGET_SECONDS = 1.0
PATIENCE = 60.0
REST = 0.3


class Sight:
    """What watches of one member show of the namespace."""

    def __init__(self, space: Space, cluster: str, changed: asyncio.Event) -> None:
        self.tables: dict[str, Table[ObjectKey, RawObject]] = {}
        self.reflectors = []
        for kind in (kinds.SERVICE_EXPORT, kinds.SERVICE_IMPORT, kinds.SERVICE, kinds.ENDPOINT_SLICE):
            table: Table[ObjectKey, RawObject] = Table(f"{cluster}/{kind.plural}")
            table.observe(lambda _key, _old, _new: changed.set())
            self.tables[kind.kind] = table
            self.reflectors.append(
                Reflector(
                    space.world.clients[cluster], raw(kind), table.partition("watch"), namespace=space.name
                )
            )
        self._namespace = space.name

    def get(self, kind: str, name: str) -> Mapping[str, Any]:
        return self.tables[kind].get(ObjectKey(self._namespace, name)) or {}

    def slices(self, label: str, value: str) -> list[RawObject]:
        found = (one for _key, one in self.tables["EndpointSlice"].items())
        return [one for one in found if one["metadata"].get("labels", {}).get(label) == value]

    def imported(self, name: str, port: int, pods: list[str]) -> bool:
        """Whether import, derived Service and both kinds of slices say the same."""
        found = self.get("ServiceImport", name)
        if not found or not found["spec"].get("ips") or ports_of(found) != [("http", "TCP", port)]:
            return False
        if conditions(found).get("Ready", {}).get("status") != "True":
            return False
        derived = self.get("Service", found["metadata"].get("annotations", {}).get(DERIVED, ""))
        if not derived or ports_of(derived) != [("http", "TCP", port)]:
            return False
        own = self.slices(SERVICE_NAME, derived["metadata"]["name"])
        return (
            addresses(self.slices(IMPORT_NAME, name)) == pods
            and set(addresses(own)) <= set(pods)
            and bool(own)
        )

    def gone(self, name: str) -> bool:
        return not self.get("ServiceImport", name) and not self.slices(IMPORT_NAME, name)


class Clock:
    """Times steps by what all members show."""

    def __init__(self, sights: Mapping[str, Sight], changed: asyncio.Event) -> None:
        self._sights = sights
        self._changed = changed

    async def until(self, settled: Callable[[], bool]) -> float:
        """When it was so (monotonic seconds)."""
        async with asyncio.timeout(PATIENCE):
            while not settled():
                self._changed.clear()
                await self._changed.wait()
        return time.monotonic()

    def told(self, name: str) -> bool:
        """Whether the exporter's owner was told that all is well."""
        said = conditions(self._sights[AMS].get("ServiceExport", name))
        wanted = {"Valid": "True", "Ready": "True", "Conflict": "False"}
        return all(said.get(kind, {}).get("status") == status for kind, status in wanted.items())

    def everywhere(self, name: str, port: int, pods: list[str]) -> bool:
        return all(sight.imported(name, port, pods) for sight in self._sights.values())

    def nowhere(self, name: str) -> bool:
        return all(sight.gone(name) for sight in self._sights.values())


async def one_round(space: Space, clock: Clock, name: str) -> dict[str, float]:
    two, three = ([pod(AMS, number) for number in range(1, count)] for count in (3, 4))
    await space.service(AMS, name)
    await space.endpoints(AMS, name)
    took: dict[str, float] = {}

    async def step(what: str, cause: Any, settled: Callable[[], bool]) -> None:
        await asyncio.sleep(REST)
        began = time.monotonic()
        await cause
        took[what] = await clock.until(settled) - began

    await step(
        "export", space.export(AMS, name), lambda: clock.told(name) and clock.everywhere(name, 80, two)
    )
    changed = space.service(AMS, name, ports=[{**HTTP, "port": 81}])
    await step("port", changed, lambda: clock.everywhere(name, 81, two))
    grown = space.endpoints(AMS, name, [ready(address) for address in three])
    await step("endpoint", grown, lambda: clock.everywhere(name, 81, three))
    await step("unexport", space.unexport(AMS, name), lambda: clock.nowhere(name))
    await space.delete(AMS, kinds.SERVICE, name)
    await space.delete(AMS, kinds.ENDPOINT_SLICE, f"{name}-ipv4")
    return took


async def measure(rounds: int, planes: ControlPlanes | None) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in STEPS}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mcs-bench-"))
        servers = real(planes) if planes is not None else embedded()
        world = await stack.enter_async_context(Spine(Path(folder), servers))
        await world.start("hub", *MEMBERS)
        space = Space(world)
        await space.open()
        changed = asyncio.Event()
        sights = {cluster: Sight(space, cluster, changed) for cluster in MEMBERS}
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [
            group.create_task(reflector.run()) for sight in sights.values() for reflector in sight.reflectors
        ]
        clock = Clock(sights, changed)
        await one_round(space, clock, "warm")
        for number in range(rounds):
            for name, seconds in (await one_round(space, clock, f"web-{number}")).items():
                found[name].append(seconds)
        for task in tasks:
            task.cancel()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--embedded", action="store_true", help="servers of this process, not real ones")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    planes = None if given.embedded else ControlPlanes()
    try:
        found = asyncio.run(measure(given.rounds, planes))
    finally:
        if planes is not None:
            planes.close()
    kind = "embedded" if given.embedded else "real"
    title = (
        f"From a cause to the objects of {len(MEMBERS)} clusters ({kind} API servers, {given.rounds} rounds)"
    )
    table = Shown("step", "median", "min", "p99", "target", title=title)
    figures: dict[str, float] = {}
    for name, values in found.items():
        ordered = sorted(values)
        middle, late = statistics.median(ordered), ordered[math.ceil(0.99 * len(ordered)) - 1]
        figures |= {f"{name}_median_s": round(middle, 3), f"{name}_p99_s": round(late, 3)}
        table.add_row(name, f"{middle:.3f}", f"{ordered[0]:.3f}", f"{late:.3f}", f"< {TARGET_SECONDS:g}")
    Console().print(table)
    targets = {f"{name}_median_s": TARGET_SECONDS for name in STEPS}
    passed = all(figures[name] < limit for name, limit in targets.items())
    report = {"bench": "mcs", "servers": kind, "figures": figures, "targets": targets, "passed": passed}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
