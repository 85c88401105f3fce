"""What callers of a real Envoy notice when endpoints, clusters or the control plane die: nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from http_load import HttpBackend, Load, fetch, loaded, until
from xds_harness import Door, Rows, Shares, Sidecar, plan_of, served, sidecar

from isthmus.model.names import ServiceKey
from isthmus.model.policy import CircuitBreaker, DoorSettings, OutlierDetection, Retry
from isthmus.xds.proxies import described
from loadtests.ports import free_port

pytestmark = pytest.mark.envoy
ROOT = Path(__file__).parents[2]
VARIANTS = pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])


@dataclass
class Stage:
    rows: Rows
    door: Door
    proxy: Sidecar
    eu: list[HttpBackend]
    us: list[HttpBackend]
    worker: AsyncExitStack

    def clusters(self) -> dict[str, Any]:
        """What is known of the proxy's clusters."""
        return dict(next(iter(described(self.door.ads, 0.0)))["types"]["cds"])

    def share(self, eu: int, us: int) -> None:
        """Gives these basis points; a cluster without any is the last resort."""
        groups = {"eu-1/eu/a": (eu, self.eu), "us-1/us/a": (us, self.us)}
        self.rows.plan(
            plan_of(
                Shares(
                    shares={place: found for place, found in groups.items() if found[0]},
                    unhealthy={place: found[1] for place, found in groups.items() if not found[0]},
                )
            )
        )


@asynccontextmanager
async def stage(binary: str, folder: Path, api: str = "GRPC") -> AsyncIterator[Stage]:
    """Two clusters of two endpoints behind one proxy that serves half from each.

    `api` is the variant of the protocol that the proxy speaks, in its own word.
    """
    eu, us = ([HttpBackend(name) for _ in range(2)] for name in ("eu-1", "us-1"))
    for backend in (*eu, *us):
        await backend.start()
    rows = Rows()
    listen = f"127.0.0.1:{free_port()}"
    rows.listen(listen)
    rows.service()
    try:
        async with AsyncExitStack() as worker:
            door = await worker.enter_async_context(served(rows, f"127.0.0.1:{free_port()}"))
            async with sidecar(binary, folder, door.address, listen, api=api) as proxy:
                found = Stage(rows, door, proxy, eu, us, worker)
                found.share(5000, 5000)
                await proxy.serving()
                yield found
    finally:
        for backend in (*eu, *us):
            await backend.stop()


async def answers(load: Load, more: int) -> None:
    """Waits for so many more answers."""
    goal = len(load.answers) + more

    async def reached() -> bool:
        return len(load.answers) >= goal

    await until(reached, f"{more} more answers")


async def only(load: Load, cluster: str) -> None:
    """Waits until the newest hundred requests were all answered by that cluster."""

    async def reached() -> bool:
        newest = sorted(load.answers)[-100:]
        return len(newest) == 100 and {body for *_, body in newest} == {cluster}

    await until(reached, f"all requests served by {cluster}")


@VARIANTS
async def test_a_plan_moves_traffic_and_nobody_sees_an_error(
    envoy_binary: str, tmp_path: Path, api: str
) -> None:
    async with stage(envoy_binary, tmp_path, api) as found, loaded(Load(found.proxy.listen)) as load:
        await answers(load, 100)
        found.share(10000, 0)
        await only(load, "eu-1")
        found.share(0, 10000)
        await only(load, "us-1")
    assert load.failed == []


async def test_refusing_endpoints_fail_no_request(envoy_binary: str, tmp_path: Path) -> None:
    async with stage(envoy_binary, tmp_path) as found, loaded(Load(found.proxy.listen)) as load:
        await answers(load, 100)
        for backend in found.eu:
            await backend.stop()
        await only(load, "us-1")
        for backend in found.eu:
            await backend.start()
        found.share(10000, 0)
        await only(load, "eu-1")
    assert load.failed == []


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_dead_first_tier_fails_no_idempotent_request(
    envoy_binary: str, tmp_path: Path, method: str
) -> None:
    """All of the first tier dies under load, and nobody tells the proxy; retries are on by default."""
    async with stage(envoy_binary, tmp_path) as found:
        own, other = {"eu-1/eu/a": (10_000, found.eu)}, {"us-1/us/a": found.us}
        found.rows.plan(plan_of(Shares(shares=own, standby=[other])))
        async with loaded(Load(found.proxy.listen, method=method)) as load:
            await only(load, "eu-1")
            for backend in found.eu:
                await backend.stop()
            await only(load, "us-1")
            await answers(load, 200)
    assert load.failed == []


async def test_all_that_were_on_their_way_to_a_tier_when_it_died_are_repeated(
    envoy_binary: str, tmp_path: Path
) -> None:
    """Hundreds of requests are reset in one moment: hundreds of retries are due, beside no other request."""
    count = 300
    async with stage(envoy_binary, tmp_path) as found:
        own, other = {"eu-1/eu/a": (10_000, found.eu)}, {"us-1/us/a": found.us}
        found.rows.plan(plan_of(Shares(shares=own, standby=[other])))
        for backend in found.eu:
            backend.hanging = True
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(found.proxy.get(method="PUT")) for _ in range(count)]

            async def underway() -> bool:
                return sum(backend.requests for backend in found.eu) >= count

            await until(underway, f"{count} requests wait for the first tier")
            for backend in found.eu:
                await backend.stop()
    assert {task.result() for task in tasks} == {(200, "us-1")}


async def test_endpoints_that_accept_and_never_answer_fail_no_request(
    envoy_binary: str, tmp_path: Path
) -> None:
    async with stage(envoy_binary, tmp_path) as found, loaded(Load(found.proxy.listen)) as load:
        await answers(load, 100)
        for backend in found.eu:
            backend.hanging = True
        await answers(load, 100)
        found.share(0, 10000)
        await only(load, "us-1")
    assert load.failed == []
    assert load.by()["eu-1"] > 0


async def test_a_burst_of_slow_requests_never_turns_into_an_outage(envoy_binary: str, tmp_path: Path) -> None:
    """All endpoints of all steps are slow at once: hedging ejects them, and is not to fail anything by it."""
    async with stage(envoy_binary, tmp_path) as found:
        groups = {"eu-1/eu/a": found.eu, "us-1/us/a": found.us}
        (own, near), (other, far) = groups.items()
        found.rows.plan(plan_of(Shares(shares={own: (10000, near)}, standby=[{other: far}])))
        for backend in (*near, *far):
            backend.delay = 3.0
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(found.proxy.get()) for _ in range(100)]
            for _ in range(10):
                await asyncio.sleep(0.25)
                tasks.append(group.create_task(found.proxy.get()))
        ejected = await found.proxy.stats("outlier_detection.ejections_enforced_total")
    assert {task.result()[0] for task in tasks} == {200}
    assert sum(ejected.values()) > 0


async def test_a_silent_cluster_fails_no_request(
    envoy_binary: str, own_network: list[str], tmp_path: Path
) -> None:
    script = str(Path(__file__).with_name("silence.py"))
    process = await asyncio.create_subprocess_exec(
        *(*own_network, sys.executable, script, envoy_binary, str(tmp_path)),
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    report = json.loads(output.splitlines()[-1])
    assert report["failed"] == []
    assert min(report["before"].values()) > 20
    assert "eu-2" not in report["after"]


@VARIANTS
async def test_a_changed_cluster_warms_without_an_error(envoy_binary: str, tmp_path: Path, api: str) -> None:
    async with stage(envoy_binary, tmp_path, api) as found, loaded(Load(found.proxy.listen)) as load:
        await answers(load, 50)
        for number in range(1, 11):
            doors = DoorSettings(
                circuit_breaker=CircuitBreaker(max_connections=10_000 + number),
                outlier=OutlierDetection(consecutive_failures=2 + number),
                retry=Retry(attempts=number),
                timeout=10.0 + number,
            )
            found.rows.service(doors=doors)

            async def warm(number: int = number) -> bool:
                stats = await found.proxy.stats("cluster_manager.(warming_clusters|cluster_modified)")
                return stats["cluster_manager.warming_clusters"] == 0 and (
                    stats["cluster_manager.cluster_modified"] >= number
                )

            await until(warm, f"edit {number} is there, and nothing warms")
            await answers(load, 10)
        fetches = await found.proxy.stats("init_fetch_timeout")
        assert sum(fetches.values()) == 0
    assert load.failed == []


@VARIANTS
async def test_the_control_planes_death_changes_nothing_and_a_new_one_is_found(
    envoy_binary: str, tmp_path: Path, api: str
) -> None:
    async with stage(envoy_binary, tmp_path, api) as found, loaded(Load(found.proxy.listen)) as load:
        await answers(load, 50)
        await found.worker.aclose()
        await answers(load, 200)
        found.share(0, 10000)
        async with served(found.rows, found.door.address, name="xds-1"):
            await only(load, "us-1")
        assert await found.proxy.rejected() == 0
    assert load.failed == []


@VARIANTS
async def test_a_rejected_cluster_is_named_and_the_others_go_on(
    envoy_binary: str, tmp_path: Path, api: str
) -> None:
    from envoy.config.cluster.v3 import cluster_pb2

    from isthmus.xds.rows import EVERYBODY, ResourceType, Row

    bad = cluster_pb2.Cluster(name="bad.shop.svc.clusterset.local:80")
    bad.connect_timeout.FromSeconds(-1)
    async with stage(envoy_binary, tmp_path, api) as found, loaded(Load(found.proxy.listen)) as load:
        row = str(Row(ResourceType.CDS, EVERYBODY, bad.name))
        found.rows.writer.put(row, bad.SerializeToString())

        async def told() -> bool:
            return bool(found.clusters()["rejected"])

        await until(told, "the rejection")
        assert list(found.clusters()["differs"]["heldBack"]) == [bad.name]
        found.rows.service(ServiceKey("shop", "sibling"))

        async def arrived() -> bool:
            return "sibling.shop" in await fetch(found.proxy.admin, "/clusters")

        await until(arrived, "a sibling of the bad cluster")
        found.share(0, 10000)
        await only(load, "us-1")
        found.rows.writer.drop(row)

        async def accepted() -> bool:
            return not found.clusters()["rejected"]

        await until(accepted, "clusters are accepted again")
    assert load.failed == []
