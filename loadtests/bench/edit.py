"""An edited policy under load: which requests fail, and how long a real Envoy's clusters warm.

One Envoy with a service under a steady load among many others. An edit changes settings that stand in the
cluster and in the routes (limits, outlier detection, timeout, retries); it goes to the worker over its Unix
socket, as control's rows do. Timed from the edit to the moment when Envoy has the changed cluster and none is
warming any more, as its admin page says. Then all services are edited at once, as a hub's policy may do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "xds"))

import structlog
from http_load import Load, backends, loaded
from rich.console import Console
from rich.table import Table
from worker_process import worker
from xds_harness import WEB, Rows, Shares, Sidecar, find_envoy, plan_of, sidecar

from isthmus.model.names import ServiceKey
from isthmus.model.policy import CircuitBreaker, DoorSettings, OutlierDetection, Retry
from loadtests.ports import free_port

TARGET_MS = 200.0
VARIANTS = {"sotw": "GRPC", "delta": "DELTA_GRPC"}
EDITS_OF_ALL = 5
STATS = "^cluster_manager\\.(cluster_modified|warming_clusters)$"


@dataclass
class Found:
    """Of one variant: milliseconds of each edit, and what went wrong."""

    one: list[float] = field(default_factory=list)
    all: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0
    p99_ms: float = 0.0
    gave_up: int = 0
    """Clusters that stopped waiting for their assignment."""


def doors(number: int) -> DoorSettings:
    """Settings of which each edit has others."""
    return DoorSettings(
        circuit_breaker=CircuitBreaker(max_connections=10_000 + number),
        outlier=OutlierDetection(consecutive_failures=3 + number % 5),
        retry=Retry(attempts=5 + number % 5),
        timeout=10.0 + number / 1000,
    )


async def settled(proxy: Sidecar, edit: Callable[[], None], clusters: int) -> float:
    """Seconds from the edit until so many clusters have changed and none is warming."""

    async def look() -> tuple[int, int]:
        stats = await proxy.stats(STATS)
        return stats["cluster_manager.cluster_modified"], stats["cluster_manager.warming_clusters"]

    before, _ = await look()
    began = time.monotonic()
    edit()
    async with asyncio.timeout(60):
        while True:
            modified, warming = await look()
            if modified >= before + clusters and not warming:
                return time.monotonic() - began
            await asyncio.sleep(0.002)


async def measure(variant: str, edits: int, services: int, rate: float, folder: Path) -> Found:
    binary = find_envoy()
    if binary is None:
        raise SystemExit("no Envoy: set ISTHMUS_ENVOY, or run `make envoy`")
    found, rows, listen = Found(), Rows(), f"127.0.0.1:{free_port()}"
    async with backends("eu-1", "us-1") as (near, far):
        rows.listen(listen)
        keys = [WEB, *(ServiceKey("shop", f"other-{number}") for number in range(services))]
        shares = Shares(shares={"eu-1/eu/a": (5000, [near]), "us-1/us/a": (5000, [far])})
        for key in keys:
            rows.service(key)
            rows.plan(plan_of(shares, key))
        async with (
            worker(rows, folder) as address,
            sidecar(binary, folder, address, listen, api=VARIANTS[variant]) as proxy,
        ):
            await proxy.serving()
            async with loaded(Load(listen, rate=rate)) as load:
                await asyncio.sleep(1)
                for number in range(edits):
                    took = await settled(proxy, lambda n=number: rows.service(WEB, doors=doors(n)), 1)
                    found.one.append(took * 1e3)
                    await asyncio.sleep(0.1)
                for number in range(EDITS_OF_ALL):

                    def edit(number: int = number) -> None:
                        for key in keys:
                            rows.service(key, doors=doors(edits + number))

                    found.all.append(await settled(proxy, edit, len(keys)) * 1e3)
                    await asyncio.sleep(0.5)
            found.requests, found.failed = len(load.answers) + len(load.errors), len(load.failed)
            found.p99_ms = load.percentile(0.99) * 1e3
            found.gave_up = sum((await proxy.stats("init_fetch_timeout")).values())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--rate", type=float, default=300.0)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    columns = ("variant", "edit of", "median ms", "max ms", "target", "failed requests", "p99 of requests ms")
    table = Table(*columns, title=f"{given.edits} edits under {given.rate:g} requests/s")
    figures: dict[str, float] = {}
    passed = True
    for variant in VARIANTS:
        folder = Path(tempfile.mkdtemp(prefix="isthmus-edit-"))
        try:
            found = asyncio.run(measure(variant, given.edits, given.services, given.rate, folder))
        finally:
            shutil.rmtree(folder)
        for what, values in (("one", found.one), ("all", found.all)):
            figures[f"{variant}_{what}_median_ms"] = round(statistics.median(values), 1)
            figures[f"{variant}_{what}_max_ms"] = round(max(values), 1)
            target = f"max < {TARGET_MS:g}, 0 failed" if what == "one" else ""
            failed = f"{found.failed} of {found.requests}" if what == "one" else ""
            of = "1 service" if what == "one" else f"{given.services + 1} services"
            numbers = (f"{statistics.median(values):.1f}", f"{max(values):.1f}")
            table.add_row(variant, of, *numbers, target, failed, f"{found.p99_ms:.1f}")
        figures |= {
            f"{variant}_requests": found.requests,
            f"{variant}_failed": found.failed,
            f"{variant}_gave_up": found.gave_up,
            f"{variant}_request_p99_ms": round(found.p99_ms, 1),
        }
        passed &= max(found.one) < TARGET_MS and not found.failed and not found.gave_up
    Console().print(table)
    answer = {
        "bench": "edit",
        "figures": figures,
        "edits": given.edits,
        "services": given.services,
        "targets": {"one_max_ms": TARGET_MS, "failed": 0, "gave_up": 0},
        "passed": passed,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
