"""What the derivations of one agent cost in a large world: CPU and memory, without sockets and API servers.

The objects of `largeworld` are decoded and put into the tables of one process, and everything follows from
them as in control: services, endpoints, plans, checks, desired objects, rows of the doors. Then endpoints
change one at a time, in slices of 100. CPU seconds of this process; `make bench NAME=world` has the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from largeworld import objects
from largeworld.layout import Layout
from largeworld.sizes import Sizes
from rich.console import Console
from rich.table import Table as Rows

from isthmus.agent.chain import Chain, Place
from isthmus.agent.doors import Doors
from isthmus.agent.inputs import COMPACT_ENDPOINTS, Hub, Member
from isthmus.agent.lean import lean
from isthmus.agent.outputs import Outputs
from isthmus.api import labels
from isthmus.flow import Graph, Priority, Table
from isthmus.kube.raw import head_of
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.service import AddressFamily

SIZES = (10, 30, 100)
CHANGES = 100
TO_THE_PLAN = ("heard endpoints", "endpoints", "contributions", "plans")
TARGET_MS = 5.0


def stored(layout: Layout) -> dict[str, list[bytes]]:
    """JSON of all objects that control reads, by kind: those of the layout and what was imported before."""
    found: dict[str, list[bytes]] = defaultdict(list)

    def store(obj: dict[str, Any]) -> None:
        kept = found[obj["kind"]]
        obj["metadata"] |= {
            "uid": f"{len(kept):08}-aaaa-4bbb-8ccc-0123456789ab",
            "resourceVersion": str(1_000_000 + len(kept)),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        kept.append(msgspec.json.encode(obj))

    for obj in (*objects.hub(layout), *objects.member(layout)):
        store(obj)
    for number in range(layout.services):
        key = ServiceKey(layout.namespace_of(number), layout.service_name(number))
        vip = f"10.96.{number >> 8}.{number & 255}"
        for kind, name, spec in (
            ("ServiceImport", key.name, {"type": "ClusterSetIP", "ips": [vip]}),
            ("Service", derived_name(key), {"clusterIPs": [vip], "ipFamilies": ["IPv4"]}),
        ):
            owned = {labels.MANAGED_BY: labels.MANAGER}
            store(
                {
                    "kind": kind,
                    "metadata": {"namespace": key.namespace, "name": name, "labels": owned},
                    "spec": spec,
                }
            )
    return found


async def derive(layout: Layout, rounds: int, *, sizes: bool) -> dict[str, Any]:
    held = stored(layout)
    gc.collect()
    gc.freeze()
    before, began = _rss(), time.process_time()
    hub, member = Hub(), Member()
    place = Place(cluster=ClusterId("c000"), region="r0", network="")
    chain = Chain(place, member, hub)
    callers = chain.vantages.partition("callers")
    outputs = Outputs(chain)
    doors = Doors(chain, outputs.vips, callers)
    graph = Graph([chain.plans, chain.service_checks, *outputs.tables, *doors.tables])
    for table in (chain.health, chain.membership, doors.wants, outputs.member_refused, outputs.hub_refused):
        table.partition("nothing").replace({})
    chain.session.partition("session").replace({"hub": True})
    callers.replace({place.vantage: 1})
    outputs.asked.partition("family").replace({"": (AddressFamily.IPV4,)})
    writers = {}
    for kind, table in (*hub.pairs(), *member.pairs()):
        decode = lean(kind).decode
        rows = {head_of(raw).metadata.key: decode(raw) for raw in held.get(kind.kind, ())}
        writers[kind.kind] = table.partition("reflector")
        writers[kind.kind].replace(rows)
    spent: Counter[str] = Counter()
    for table in graph.tables:
        _timed(table, spent)
    running = asyncio.create_task(graph.run())
    await _rest(graph)
    figures: dict[str, Any] = {
        "clusters": layout.clusters,
        "services": layout.services,
        "endpoints": sum(export.endpoints for export in layout.exports),
        "start_cpu_s": time.process_time() - began,
        "memory_mb": _rss() - before,
        "desired": len(outputs.member) + len(outputs.hub),
    }
    if sizes:
        inputs = [table for _kind, table in (*hub.pairs(), *member.pairs())]
        _tell_sizes([*inputs, *graph.tables, chain.checks, outputs.member, outputs.hub, doors.dns])
    gc.freeze()
    for name, chosen in (("change", layout.victims), ("crowd_change", layout.crowds)):
        totals, plans = [], []
        for turn in range(rounds):
            bodies = [_changed(layout, one, turn) for one in chosen[:CHANGES]]
            spent.clear()
            began = time.process_time()
            for body in bodies:
                heard = time.process_time()
                row = COMPACT_ENDPOINTS.decode(body)
                writers["ExportedEndpoints"].put(head_of(body).metadata.key, row)
                spent["heard endpoints"] += time.process_time() - heard
                await _rest(graph)
            if bodies:
                totals.append((time.process_time() - began) / len(bodies) * 1000)
                plans.append(sum(spent[table] for table in TO_THE_PLAN) / len(bodies) * 1000)
        if totals:
            figures |= {
                f"{name}_plan_ms": statistics.median(plans),
                f"{name}_all_ms": statistics.median(totals),
            }
    running.cancel()
    return figures


def _tell_sizes(tables: Sequence[Table[Any, Any]]) -> None:
    """What the rows of each table take that no table before has."""
    counted = Sizes()
    rows = Rows("table", "rows", "MB", "most of it", title="Memory by table")
    for table in tables:
        found = counted.of(dict(table.items()))
        if found.total() > 5e5:
            most = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in found.most_common(4))
            rows.add_row(table.name, str(len(table)), f"{found.total() / 1e6:.1f}", most)
    Console(stderr=True, width=120).print(rows)


def _changed(layout: Layout, export: Any, turn: int) -> bytes:
    obj = next(one for one in objects.offered(layout, export) if one["kind"] == "ExportedEndpoints")
    obj["spec"]["endpoints"][turn]["ready"] = False
    return msgspec.json.encode(obj)


def _timed(table: Any, spent: Counter[str]) -> None:
    step = table.step

    def timed(priority: Priority) -> None:
        began = time.process_time()
        step(priority)
        spent[table.name] += time.process_time() - began

    table.step = timed


async def _rest(graph: Graph) -> None:
    """Until nothing is left to compute."""
    await asyncio.sleep(0)
    while any(not table.synced or any(map(table.dirty, Priority)) for table in graph.tables):
        await asyncio.sleep(0)


def _rss() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def one(clusters: int, services: int | None, rounds: int, sizes: bool) -> dict[str, Any]:
    return asyncio.run(derive(Layout.of(clusters, services), rounds, sizes=sizes))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--services", type=int, help="service names, default 100 for each cluster")
    parser.add_argument("--sizes", action="store_true", help="also what each table takes, and no changes")
    given = parser.parse_args()
    found = []
    for clusters in given.clusters:  # each in a process of its own, for its memory
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rounds = 0 if given.sizes else given.rounds
            found.append(pool.apply(one, (clusters, given.services, rounds, given.sizes)))
    table = Rows("figure", *(f"{size['clusters']} clusters" for size in found), title="Derivations")
    for name in found[-1]:
        table.add_row(name, *(f"{size.get(name, 0):.2f}".removesuffix(".00") for size in found))
    Console().print(table)
    passed = all(size.get("change_plan_ms", 0) < TARGET_MS for size in found)
    report = {
        "bench": "derivations",
        "figures": found,
        "targets": {"change_plan_ms": TARGET_MS},
        "passed": passed,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
