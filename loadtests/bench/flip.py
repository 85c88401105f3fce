"""How long from a changed plan to moved traffic, of a real Envoy and of a stock gRPC client.

One service with an endpoint in each of two clusters, among many others. A round gives all to the other
cluster: its assignment is rendered, goes to the worker over its Unix socket, from there to the client, and is
timed until the first answer by the other cluster after which nobody else answers. Nothing is killed, so no
request may fail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "xds"))

import structlog
from grpc_parts import GrpcBackend, caller
from http_load import HttpBackend, exchange, until
from rich.console import Console
from rich.table import Table
from worker_process import worker
from xds_harness import GRPC_CLASS, Rows, Shares, find_envoy, plan_of, sidecar

from isthmus.model.names import ServiceKey
from loadtests.ports import free_port

TARGET_MS = 10.0
LONG_ENOUGH = 20
"""Answers in a row by the new cluster that end a round."""
Flip = Callable[[str], float]
"""Gives everything to the cluster of that name; says when, in monotonic seconds."""


def flipping(rows: Rows, backends: dict[str, Any]) -> Flip:
    def flip(name: str) -> float:
        plan = plan_of(
            Shares(
                shares={f"{name}/r/z": (10_000, [backends[name]])},
                standby=[{f"{other}/r/z": [backends[other]]} for other in backends if other != name],
            )
        )
        began = time.monotonic()
        rows.plan(plan)
        return began

    return flip


async def envoys(rounds: int, services: int, folder: Path) -> tuple[list[float], int]:
    """Milliseconds of each round, and how many requests failed."""
    binary = find_envoy()
    if binary is None:
        raise SystemExit("no Envoy: set ISTHMUS_ENVOY, or run `make envoy`")
    backends = {name: HttpBackend(name) for name in ("a", "b")}
    for backend in backends.values():
        await backend.start()
    rows, listen = Rows(), f"127.0.0.1:{free_port()}"
    rows.listen(listen)
    rows.service()
    for number in range(services):
        other = ServiceKey("shop", f"other-{number}")
        rows.service(other)
        rows.plan(plan_of(Shares(shares={"a/r/z": (10_000, [backends["a"]])}), other))
    flip = flipping(rows, backends)
    flip("a")
    async with worker(rows, folder) as address, sidecar(binary, folder, address, listen) as proxy:
        await proxy.serving()
        host, _, port = listen.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        failed = 0

        async def ask() -> str:
            nonlocal failed
            status, body = await exchange(reader, writer, "web.shop", "/", "GET")
            failed += status != 200
            return body

        async def turn(name: str) -> float:
            for _ in range(50):
                await ask()
            began = flip(name)
            return await _moved(ask, name) - began

        found = [await turn("ba"[number % 2]) for number in range(rounds + 2)]
        writer.close()
    for backend in backends.values():
        await backend.stop()
    return [seconds * 1e3 for seconds in found[2:]], failed


async def _moved(ask: Callable[[], Awaitable[str]], name: str) -> float:
    """When the first of so many answers in a row came that were all by that cluster."""
    row, since = 0, 0.0
    while row < LONG_ENOUGH:
        if await ask() == name:
            row += 1
            since = time.monotonic() if row == 1 else since
        else:
            row = 0
    return since


async def libraries(rounds: int, folder: Path) -> tuple[list[float], int]:
    """The same of a gRPC client in a process of its own; clocks are the machine's."""
    backends = {name: GrpcBackend(name) for name in ("a", "b")}
    for backend in backends.values():
        await backend.start()
    rows = Rows()
    rows.for_grpc()
    flip = flipping(rows, backends)
    flip("a")
    found, failed, target = [], 0, "web.shop.svc.clusterset.local:80"
    async with worker(rows, folder) as address, caller(folder, address, GRPC_CLASS) as calls:

        async def reached() -> bool:
            return await calls.call(1, target) == {"a": 1}

        await until(reached, "the service answers")
        for number in range(rounds + 2):
            name = "ba"[number % 2]
            asking = asyncio.create_task(calls.ask(target=target, until=name))
            await asyncio.sleep(0.05)
            began = flip(name)
            told = await asking
            found.append((told["turned"] - began) * 1e3)
            failed += sum(count for who, count in told["seen"].items() if who not in backends)
    for backend in backends.values():
        await backend.stop()
    return found[2:], failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--services", type=int, default=200)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    os.environ["GRPC_VERBOSITY"] = "NONE"
    folder = Path(tempfile.mkdtemp(prefix="isthmus-flip-"))
    try:
        (folder / "envoy").mkdir()
        (folder / "grpc").mkdir()
        measured = {
            "envoy": asyncio.run(envoys(given.rounds, given.services, folder / "envoy")),
            "grpc": asyncio.run(libraries(given.rounds, folder / "grpc")),
        }
    finally:
        shutil.rmtree(folder)
    table = Table(
        "client", "median", "p99", "min", "max", "failed", "target", title="Plan to moved traffic, ms"
    )
    figures: dict[str, float] = {}
    for name, (values, failed) in measured.items():
        worst = statistics.quantiles(values, n=100)[98]
        figures |= {
            f"{name}_median_ms": round(statistics.median(values), 2),
            f"{name}_p99_ms": round(worst, 2),
            f"{name}_failed": failed,
        }
        numbers = (statistics.median(values), worst, min(values), max(values))
        table.add_row(name, *(f"{n:.2f}" for n in numbers), str(failed), f"median < {TARGET_MS:g}, 0 failed")
    Console().print(table)
    passed = all(
        figures[f"{name}_median_ms"] < TARGET_MS and not figures[f"{name}_failed"] for name in measured
    )
    report = {
        "bench": "flip",
        "figures": figures,
        "rounds": given.rounds,
        "services": given.services,
        "targets": {"median_ms": TARGET_MS, "failed": 0},
        "passed": passed,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
