"""One scenario inside the demo's namespaces: `python -m loadtests.load.inside`, the first process there.

It reads its order from stdin and stops when stdin ends. When it ends, by whatever cause, the kernel ends all
others of its pid namespace and drops the network. Progress goes to stdout, a line each.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec

from isthmus import __version__
from isthmus.demo import namespace
from isthmus.demo.bidding import bidden, obey
from isthmus.demo.board import Tone
from isthmus.demo.stage import Say
from loadtests.load import bed
from loadtests.load.clusterset import Clusterset
from loadtests.load.expect import judge
from loadtests.load.given import bed as given_bed
from loadtests.load.given.clusters import read_clusters
from loadtests.load.given.scenario import recast
from loadtests.load.machine import ticks
from loadtests.load.order import EXIT_FAILED, EXIT_PASSED, EXIT_STOPPED, Order
from loadtests.load.peers import PEERS
from loadtests.load.play import play, rates_with
from loadtests.load.result import Surroundings, result
from loadtests.load.scenario import Scenario, read

_LIBRARIES = ("grpcio", "locust", "dnspython")


async def perform(order: Order) -> int:
    """Play the scenario, judge it, write the result; the exit code says how it went."""
    scenario, started = read(Path(order.scenario)), time.monotonic()
    given = read_clusters(Path(order.clusters)) if order.clusters else None
    if given is not None:
        scenario = recast(scenario, given.plays)
    surroundings = describe(order)

    def say(text: str, tone: Tone = "plain") -> None:
        sys.stdout.write(f"{time.monotonic() - started:6.1f} s  {text}\n")
        sys.stdout.flush()

    missing = {name: PEERS[name].missing() for name in scenario.peers}
    peers = [name for name, why in missing.items() if not why]
    rates = rates_with(scenario.rates, peers)
    place: AbstractAsyncContextManager[Clusterset]
    if given is None:
        place = _demos(order, scenario, missing, rates, say)
    else:
        place = given_bed.made(given, order, [event.fault for event in scenario.events], rates, say)
    async with place as made:
        before = ticks()
        seen = await made.processes.unbroken(play(made, scenario, rates, say), "play")
    surroundings = msgspec.structs.replace(surroundings, withheld=round(ticks().part(before), 3))
    findings = judge(scenario.expect, seen, by_chance=scenario.by_chance)
    told = result(scenario, seen, findings, made.clusters, surroundings, missing)
    await asyncio.to_thread(Path(order.out).write_bytes, msgspec.json.encode(told))
    return EXIT_PASSED if told.passed else EXIT_FAILED


@asynccontextmanager
async def _demos(
    order: Order, scenario: Scenario, missing: Mapping[str, str], rates: Mapping[str, float], say: Say
) -> AsyncIterator[bed.Bed]:
    """The demo's clusterset, in the namespaces that this process stands in; peers beside it."""
    namespace.furnish()
    faults = [event.fault for event in scenario.events]
    async with bed.made(order.envoy, Path(order.folder), rates, faults, say) as made:
        for name, why in missing.items():
            if why:
                say(f"the peer {name} is left out: {why}", "bad")
            else:
                await PEERS[name].start(made.stage)
        yield made


def describe(order: Order) -> Surroundings:
    """The machine and what runs on it, before anything was started."""
    said = subprocess.run([order.envoy, "--version"], capture_output=True, text=True, check=False).stdout
    envoy = re.search(r"/(\d+\.\d+\.\d+)", said)
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions |= {
        "isthmus": __version__,
        "envoy": envoy[1] if envoy else "unknown",
        "python": platform.python_version(),
    }
    return Surroundings(
        command=order.command,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)),
        load_average=round(os.getloadavg()[0], 1),
        versions=versions,
    )


async def _main() -> int:
    order, reader = await bidden(Order)
    performing = asyncio.create_task(perform(order), name="perform")
    code = await obey(performing, asyncio.create_task(reader.read(), name="stdin"), "load")
    if code is not None:
        return code
    return EXIT_STOPPED if performing.cancelled() else performing.result()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
