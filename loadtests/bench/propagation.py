"""How long a change takes from one cluster to the doors of another, while the whole clusterset changes.

The world of `world`: a hub and a member (embedded API servers) with one real agent, 100 clusters, 100 changes
a second all over them. Nine in ten are written on the hub, as the agents of the other clusters would: timed
from there to the row of a door's worker. One in ten is written in the agent's own cluster: timed to its write
on the hub. A change takes both ways, in two clusters that are alike: the figure is the distribution of their
sums, each of the one with each of the other. Then the same hub with a naive controller instead of the agent:
the Kubernetes client, and everything built anew for each change; timed to the end of the build, with nothing
sent yet.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from largeworld.agent import Agent, Door, percentile
from largeworld.layout import Layout
from largeworld.remote import FOLDER, Servers, servers
from rich.console import Console
from rich.table import Table

from isthmus.demo import namespace

INSIDE = "LARGEWORLD_INSIDE"
TARGET_MS = 500.0
OWN_EVERY = 10
NAIVE_SECONDS = 120.0
QUIET_SECONDS = 120.0
Figures = dict[str, Any]


class Naive:
    """The naive controller and when each of its builds was done, by service."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}
        self.builds = 0

    async def follow(self, out: asyncio.StreamReader) -> None:
        async for line in out:
            now = time.monotonic()
            self.builds += 1
            for service in json.loads(line):
                self.seen.setdefault(service, []).append(now)


@contextlib.asynccontextmanager
async def naive(folder: Path) -> AsyncIterator[Naive]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FOLDER / "naive.py"), str(folder / "kubeconfig"),
        stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    assert process.stdout is not None
    found = Naive()
    try:
        async with asyncio.timeout(NAIVE_SECONDS):
            ready = (await process.stdout.readline()).decode().split()
        if ready[:1] != ["ready"]:
            raise RuntimeError("the naive controller ended before it was ready")
        _say(f"naive controller: {ready[1]} services built in {ready[2]} s")
        following = asyncio.create_task(found.follow(process.stdout))
        yield found
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def measure(layout: Layout, folder: Path, rate: float, seconds: float, rounds: int) -> Figures:
    """Milliseconds; each round's p99 is kept for the spread."""
    times = round(rate * seconds)
    arrivals: list[list[float]] = []
    offers: list[float] = []
    lost = 0
    cpus: list[float] = []
    stalls: list[tuple[float, float]] = []
    async with servers(layout, folder / "kubeconfig") as world:
        agent = Agent(folder, folder / "kubeconfig")
        try:
            await agent.start(fresh=True)
            await agent.until_ready()
            async with Door(agent) as door:
                # On a busy machine it never looks quiet; what is still to be compared, or planned for the
                # proxies that have just come, then goes on beside.
                with contextlib.suppress(TimeoutError):
                    await agent.until_quiet(QUIET_SECONDS)
                _say(f"{layout.clusters} clusters: the agent is ready")
                for _ in range(rounds):
                    began, before = time.monotonic(), agent.cpu()
                    answer = await world.ask(do="stir", times=times, seconds=seconds, own=OWN_EVERY)
                    took = time.monotonic() - began
                    found = door.delays(answer["others"])
                    arrivals.append(found)
                    offers += [(then - at) * 1000 for _, at, then in answer["own"] if then is not None]
                    lost += len(answer["others"]) - len(found) + sum(x[2] is None for x in answer["own"])
                    cpus.append(100 * (agent.cpu() - before) / took)
                    turns = agent.turns(began, began + took)
                    stalls.append(max(((wall, cpu) for _, wall, cpu in turns), default=(0.0, 0.0)))
                    _say(
                        f"p99 to the door {percentile(found, 99):.0f} ms, control {cpus[-1]:.0f} % of a core"
                    )
                    _say("longest turn of its loop: {:.0f} ms, {:.0f} ms of CPU".format(*stalls[-1]))
                    if "LARGEWORLD_WHO" in os.environ:
                        for line in agent.culprits(began, began + took):
                            _say(f"  {line}")
        finally:
            await agent.stop()
        late = await _naive(world, folder, times, seconds)
    return {
        "clusters": layout.clusters,
        "endpoints": sum(export.endpoints for export in layout.exports),
        "changes_per_second": rate,
        "changes": len(offers) + sum(map(len, arrivals)),
        "not_seen": lost,
        "control_cpu_percent": statistics.median(cpus),
        "longest_turn_ms": max(wall for wall, _ in stalls),
        "its_cpu_ms": max(stalls)[1],
        **_told("member_to_hub", offers),
        **_told("hub_to_door", [one for found in arrivals for one in found]),
        "hub_to_door_p99_ms_spread": [f(percentile(found, 99) for found in arrivals) for f in (min, max)],
        **_told("change_to_door", sums(offers, [one for found in arrivals for one in found])),
        **late,
    }


async def _naive(world: Servers, folder: Path, times: int, seconds: float) -> Figures:
    async with naive(folder) as controller:
        began = time.monotonic()
        answer = await world.ask(do="stir", times=times, seconds=seconds, own=times + 1)
        # Whoever is behind may catch up.
        while controller.builds and time.monotonic() - began < 3 * seconds and not _all(controller, answer):
            await asyncio.sleep(0.2)
        found = [
            (min(later) - at) * 1000
            for service, at in answer["others"]
            if (later := [when for when in controller.seen.get(service, ()) if when >= at])
        ]
    return {**_told("naive", found), "naive_builds_per_second": controller.builds / seconds}


def _all(controller: Naive, answer: dict[str, Any]) -> bool:
    return all(any(when >= at for when in controller.seen.get(one, ())) for one, at in answer["others"])


def sums(first: list[float], second: list[float]) -> list[float]:
    """Each of the one with each of the other, thinned evenly where there were millions of them."""
    first, second = sorted(first), sorted(second)
    first = first[:: max(1, len(first) // 500)]
    second = second[:: max(1, len(second) // 2000)]
    return [a + b for a in first for b in second]


def _told(name: str, values: list[float]) -> Figures:
    return {
        f"{name}_p50_ms": statistics.median(values) if values else None,
        f"{name}_p99_ms": percentile(values, 99) if values else None,
    }


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0, help="changes a second, all over the clusterset")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if INSIDE not in os.environ:
        command = [*namespace.enter_command(), "--mount-proc", sys.executable, *sys.argv]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    namespace.furnish()
    with tempfile.TemporaryDirectory(prefix="propagation-") as folder:
        found = asyncio.run(
            measure(Layout.of(given.clusters), Path(folder), given.rate, given.seconds, given.rounds)
        )
    table = Table("figure", "measured", title="From a change in one cluster to the doors of another")
    for name, value in found.items():
        cells = value if isinstance(value, list) else [value]
        table.add_row(name, " to ".join(f"{x:.1f}" if isinstance(x, float) else str(x) for x in cells))
    Console().print(table)
    p99 = found["change_to_door_p99_ms"]
    passed = p99 is not None and p99 < TARGET_MS and not found["not_seen"]
    report = {
        "bench": "propagation",
        "figures": found,
        "targets": {"change_to_door_p99_ms": TARGET_MS, "not_seen": 0},
        "passed": passed,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
