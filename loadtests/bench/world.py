"""What a large world costs one agent: start, memory, one changed endpoint, stalls of its loop, restarts.

For each size: a hub and a member (embedded API servers in one process beside the agent), the real agent
(`isthmus run agent`: control, a DNS and an xDS worker), and pods that take connections, all in a network
namespace of its own. CPU seconds of control are the figures, wall clock stands beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from largeworld.agent import PROCESSES, Agent, Door, percentile, worst_by_second
from largeworld.layout import Layout
from largeworld.remote import Servers, servers
from rich.console import Console
from rich.table import Table

from isthmus.demo import namespace

SIZES = (10, 30, 100)
QUIET_SECONDS = 12.0
RESTARTED_SECONDS = 25.0
"""How long a restart is watched once it is quiet. Reports are looked through every ten seconds."""
INSIDE = "LARGEWORLD_INSIDE"


Figures = dict[str, Any]


async def cold(layout: Layout, folder: Path) -> Figures:
    """The figures of a cold start alone."""
    agent = Agent(folder, folder / "kubeconfig")
    async with servers(layout, folder / "kubeconfig") as world:
        try:
            return _size(layout) | await _cold(agent, world)
        finally:
            await agent.stop()


def _size(layout: Layout) -> Figures:
    return {
        "clusters": layout.clusters,
        "services": layout.services,
        "exports": len(layout.exports),
        "endpoints": sum(export.endpoints for export in layout.exports),
    }


async def measure(layout: Layout, folder: Path, rounds: int, changes: int, join: bool) -> Figures:
    """All figures of one size."""
    figures = _size(layout)
    agent = Agent(folder, folder / "kubeconfig")
    if join:
        async with servers(layout, folder / "kubeconfig", joined=False) as world:
            figures |= await _join(agent, world)
    began = time.monotonic()
    async with servers(layout, folder / "kubeconfig") as world:
        _say(f"{layout.clusters} clusters: servers filled in {time.monotonic() - began:.1f} s")
        try:
            figures |= await _cold(agent, world)
            figures |= await _steady(agent, world, rounds, changes, "written_")
            await _written(world)  # what is still owed would be written by the next start
            await agent.stop()
            figures |= await _restart(agent, world)
            await agent.stop()
            await world.ask(do="lease")
            await agent.start(fresh=False)
            await agent.until_ready()
            await agent.until_quiet()
            figures |= await _steady(agent, world, rounds, changes, "")
        finally:
            await agent.stop()
    return figures


async def _written(world: Servers) -> int:
    """Waits until nothing is written any more; the number of changes so far."""
    before = -1
    while True:
        if (now := (await world.writes()).total()) == before:
            return now
        before = now
        await asyncio.sleep(QUIET_SECONDS)


async def _join(agent: Agent, world: Servers) -> Figures:
    """The first start in a cluster that has imported nothing yet: everything is written."""
    try:
        await agent.start(fresh=True)
        await agent.until_ready()
        written = await _written(world)
        found = {
            "join_s": time.time() - agent.began - QUIET_SECONDS,
            "join_writes": written,
            "join_cpu_s": agent.cpu(),
        }
    finally:
        await agent.stop()
    _say(f"join: {_brief(found)}")
    return found


async def _cold(agent: Agent, world: Servers) -> Figures:
    """A start without last-good rows where everything is written already."""
    before = await world.writes()
    await agent.start(fresh=True)
    began = time.monotonic()
    plans = await agent.until_logged("first plans")
    ready = await agent.until_ready()
    cpu = sum(agent.cpu(name) for name in PROCESSES)
    quiet = await agent.until_quiet()
    turns = agent.turns(0.0, began + quiet)
    memory = {name: agent.memory(name) for name in PROCESSES}
    found = {
        "start_plans_s": plans["after"],
        "start_ready_s": ready,
        "start_ready_cpu_s": cpu,
        "start_all_s": quiet,
        "start_all_cpu_s": agent.cpu(),
        "start_stall_cpu_ms": max((cpu for _, _, cpu in turns), default=0.0),
        "start_stall_wall_ms": max((wall for _, wall, _ in turns), default=0.0),
        "start_writes": dict(await world.writes() - before),
        "control_pss_mb": memory["control"]["pss"],
        "control_peak_mb": memory["control"]["peak"],
        "dns_pss_mb": memory["dns-0"]["pss"],
        "xds_pss_mb": memory["xds-0"]["pss"],
    }
    _say(f"cold start: {_brief(found)}")
    _blame(agent, 0.0, float("inf"))
    return found


async def _steady(agent: Agent, world: Servers, rounds: int, changes: int, prefix: str) -> Figures:
    """CPU of one changed endpoint beyond what idleness costs, its delay to the doors, the loop's stalls."""
    costs, idles, walls, cpus, delays = [], [], [], [], []
    seconds = changes / 20
    async with Door(agent) as door:
        idle = await _spent(agent, seconds)
        for _ in range(rounds):
            since, before = time.monotonic(), agent.cpu()
            answer = await world.ask(do="change", times=changes, seconds=seconds, crowd=False)
            until = time.monotonic()
            await asyncio.sleep(1.0)
            lasted = time.monotonic() - since
            spent = agent.cpu() - before
            # Idleness costs too, above all its checks: the same time before and after is what it costs now.
            later = await _spent(agent, seconds)
            idles.append((idle + later) / 2 / seconds)
            costs.append((spent - idles[-1] * lasted) / changes * 1000)
            idle = later
            turns = agent.turns(since, until)
            _blame(agent, since, until)
            walls.append(percentile(worst_by_second(turns, since, until, 1), 99))
            cpus.append(percentile(worst_by_second(turns, since, until, 2), 99))
            delays += door.delays(answer["changed"])
    found = {
        f"{prefix}change_cpu_ms": statistics.median(costs),
        f"{prefix}change_cpu_ms_spread": [min(costs), max(costs)],
        f"{prefix}idle_cpu_percent": statistics.median(idles) * 100,
        f"{prefix}idle_cpu_percent_spread": [min(idles) * 100, max(idles) * 100],
        f"{prefix}stall_cpu_p99_ms": statistics.median(cpus),
        f"{prefix}stall_cpu_p99_ms_spread": [min(cpus), max(cpus)],
        f"{prefix}stall_wall_p99_ms": statistics.median(walls),
        f"{prefix}delay_p50_ms": percentile(delays, 50),
        f"{prefix}delay_p99_ms": percentile(delays, 99),
    }
    _say(f"changes: {_brief(found)}")
    return found


async def _spent(agent: Agent, seconds: float) -> float:
    before = agent.cpu()
    await asyncio.sleep(seconds)
    return agent.cpu() - before


async def _restart(agent: Agent, world: Servers) -> Figures:
    """A start with its state directory while nothing has changed: nothing is written but that it lives."""
    before, asked, beats = await world.writes(), await world.requests(), await world.beats()
    await agent.start(fresh=False)
    ready = await agent.until_ready()
    await agent.until_quiet()
    await asyncio.sleep(RESTARTED_SECONDS)
    found = {
        "restart_ready_s": ready,
        "restart_leases": await world.beats() - beats,
        "restart_writes": dict(await world.writes() - before),
        "restart_requests": dict(await world.requests() - asked),
    }
    _say(f"restart: {_brief(found)}")
    return found


def _blame(agent: Agent, since: float, until: float) -> None:
    """Says what ran in the longest turns, where that is watched (LARGEWORLD_WHO)."""
    if "LARGEWORLD_WHO" in os.environ:
        for line in agent.culprits(since, until):
            _say(f"  {line}")


def _brief(found: Figures) -> str:
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in found.items()
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def passed_cold(sizes: list[Figures]) -> dict[str, bool]:
    """The targets that a cold start alone can meet, at every size."""
    return {
        "start_ready_cpu_s < 60": all(one["start_ready_cpu_s"] < 60 for one in sizes),
        "control and dns, pss_mb < 400": all(
            one["control_pss_mb"] + one["dns_pss_mb"] < 400 for one in sizes
        ),
    }


def passed(sizes: list[Figures]) -> dict[str, bool]:
    """The targets, at every size; memory may grow by a third faster than the world and no more."""

    def slope(small: Figures, large: Figures) -> float:
        grown: float = large["control_pss_mb"] - small["control_pss_mb"]
        return grown / (large["endpoints"] - small["endpoints"])

    slopes = [slope(small, large) for small, large in pairwise(sizes)]
    return {
        "start_ready_cpu_s < 60": all(one["start_ready_cpu_s"] < 60 for one in sizes),
        "control_peak_mb < 1000": all(one["control_peak_mb"] < 1000 for one in sizes),
        # Noise may hide what a change costs; a cost below nothing proves nothing.
        "change_cpu_ms < 5": all(0 < one["change_cpu_ms"] < 5 for one in sizes),
        "stall_cpu_p99_ms < 20": all(one["stall_cpu_p99_ms"] < 20 for one in sizes),
        "restart_writes none": not any(one["restart_writes"] or one["restart_requests"] for one in sizes),
        "memory linear": all(later < 4 / 3 * before for before, later in pairwise(slopes)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, nargs="*", default=list(SIZES), help="sizes of the world")
    parser.add_argument("--services", type=int, help="service names, default 100 for each cluster")
    parser.add_argument("--endpoints", type=int, help="default 20 for each service name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--changes", type=int, default=100, help="changed endpoints in a round")
    parser.add_argument("--join", action="store_true", help="also the first start, which writes everything")
    parser.add_argument("--cold", action="store_true", help="a cold start and its memory, nothing else")
    given = parser.parse_args()
    if INSIDE not in os.environ:
        command = [*namespace.enter_command(), "--mount-proc", sys.executable, *sys.argv]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    namespace.furnish()
    found = []
    for clusters in given.clusters:
        layout = Layout.of(clusters, given.services, given.endpoints)
        with tempfile.TemporaryDirectory(prefix="world-") as folder:
            if given.cold:
                found.append(asyncio.run(cold(layout, Path(folder))))
                continue
            found.append(asyncio.run(measure(layout, Path(folder), given.rounds, given.changes, given.join)))
    table = Table("figure", *(f"{one['clusters']} clusters" for one in found), title="A large world")
    for name in found[0]:
        table.add_row(name, *(_cell(one[name]) for one in found))
    Console().print(table)
    targets = passed_cold(found) if given.cold else passed(found)
    report = {"bench": "world", "figures": found, "targets": targets, "passed": all(targets.values())}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["passed"] else 1


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return " to ".join(map(_cell, value))
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
