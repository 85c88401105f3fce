"""What callers notice while a cluster leaves in order, and when its pods are then taken away.

The demo: three clusters with an Envoy and a DNS door each, requests and queries all the time. After a calm
while one cluster is told to leave (`spec.leave` on the hub); its own callers are moved away first, as
docs/clusters.md says. When it has left, and nobody has called it for a while, its pods are killed. No
request and no query of the others may fail, from the wish to the end; each round has a clusterset of its
own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from rich.console import Console
from rich.table import Table as Screen

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo import namespace
from isthmus.demo.board import Tone
from isthmus.demo.envoy import find_envoy
from isthmus.demo.inside import build
from isthmus.demo.order import Order
from isthmus.demo.world import world
from isthmus.errors import NotFound

ROOT = Path(__file__).parents[2]
CALM_SECONDS = 3.0
AFTER_SECONDS = 5.0
LEAVE_SECONDS = 60.0
FIGURES = ("requests", "failed", "queries", "unanswered", "left_s", "last_request_s", "last_name_s")


async def one_round(order: Order) -> dict[str, float]:
    """Inside the namespaces: a whole clusterset, and one cluster that leaves it."""
    clusters = world(order.clusters)
    _, stage = build(order, clusters, _say)
    namespace.furnish()
    leaver = clusters.members[1]
    async with stage:
        await stage.raise_curtain()
        await stage.start_load(order.rate)
        await asyncio.sleep(CALM_SECONDS)
        stage.callers_die(leaver)
        hub, key = stage.clients["hub"], ObjectKey("", leaver.name)
        began = time.monotonic()
        await hub.patch(kinds.CLUSTER, key, {"spec": {"leave": True}})
        async with asyncio.timeout(LEAVE_SECONDS):
            while True:
                try:
                    await hub.get(kinds.CLUSTER, key)
                except NotFound:
                    break
                await asyncio.sleep(0.05)
        left = time.monotonic() - began
        await asyncio.sleep(AFTER_SECONDS)
        await stage.processes.kill(f"pods-{leaver.name}")
        killed = time.monotonic()
        await asyncio.sleep(AFTER_SECONDS)
        await stage.stop_load()
        requests = [one for one in stage.requests if one.at >= began and one.caller != leaver.name]
        queries = [one for one in stage.queries if one.at >= began and one.caller != leaver.name]
        served = [one.at for one in requests if one.cluster == leaver.name]
        told = [one.at for one in queries if leaver.name in {clusters.owner(ip) for ip in one.addresses}]
        assert any(one.at > killed for one in requests), "callers went on to the end"
        return {
            "requests": len(requests),
            "failed": sum(one.status != 200 for one in requests),
            "queries": len(queries),
            "unanswered": sum(one.code != 0 or not one.addresses for one in queries),
            "left_s": left,
            "last_request_s": max(served, default=began) - began,
            "last_name_s": max(told, default=began) - began,
        }


def _say(text: str, tone: Tone = "plain") -> None:
    sys.stderr.write(f"{text}\n")


def rounds(count: int, rate: float) -> list[dict[str, float]]:
    """So many rounds, each in namespaces of its own."""
    envoy = find_envoy(None, os.environ, Path.home())
    found = []
    for _ in range(count):
        folder = Path(tempfile.mkdtemp(prefix="isthmus-leave-", dir="/tmp"))
        command = [*namespace.enter_command(), sys.executable, __file__, "--inside", str(folder)]
        command += ["--envoy", str(envoy), "--rate", str(rate)]
        log = folder / "round.log"
        with log.open("wb") as sink:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=sink, check=False)
        if done.returncode:
            raise SystemExit(f"a round failed, see {log}:\n{log.read_text()[-3000:]}")
        found.append(json.loads(done.stdout))
        shutil.rmtree(folder)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--envoy", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        order = Order(
            manifests=str(ROOT / "examples" / "shop"),
            policy="",
            clusters=3,
            rate=given.rate,
            duration=45.0,
            keep=False,
            json=True,
            view=False,
            interactive=False,
            envoy=given.envoy,
            export_all=False,
            lenient=False,
            folder=given.inside,
            began=time.monotonic(),
            doors=[],
        )
        sys.stdout.write(json.dumps(asyncio.run(one_round(order))) + "\n")
        return 0
    found = rounds(given.rounds, given.rate)
    table = Screen("figure", "median", "min", "max", title=f"A cluster leaves, {given.rounds} rounds")
    figures: dict[str, float] = {}
    for name in FIGURES:
        values = [one[name] for one in found]
        figures[name] = round(statistics.median(values), 2)
        table.add_row(name, *(f"{f(values):.2f}" for f in (statistics.median, min, max)))
    figures["failed_in_all"] = sum(one["failed"] + one["unanswered"] for one in found)
    figures["requests_in_all"] = sum(one["requests"] for one in found)
    Console().print(table)
    targets = {"failed_in_all": 0.0}
    passed = figures["failed_in_all"] == 0 and figures["requests_in_all"] > 0
    report = {"bench": "leave", "figures": figures, "targets": targets, "passed": passed}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
