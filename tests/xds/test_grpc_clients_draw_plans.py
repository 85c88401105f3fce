"""A stock grpcio client with an `xds:///` target draws the shares of the plan, and moves with it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from authority import Authority
from drawing import within_bound
from grpc_parts import Caller, GrpcBackend, caller, grpc_backends
from http_load import until
from xds_harness import GRPC_CLASS, Rows, Shares, identity_of, plan_of, served

from isthmus.model.policy import CircuitBreaker, DoorSettings, Retry, SessionAffinity
from isthmus.model.service import Port, Protocol
from isthmus.xds.proxies import described
from isthmus.xds.rows import ResourceType

ROOT = Path(__file__).parents[2]
NAME = "web.shop.svc.clusterset.local"


@asynccontextmanager
async def client(folder: Path, rows: Rows) -> AsyncIterator[Caller]:
    async with served(rows) as door, caller(folder, door.address, GRPC_CLASS) as found:
        yield found
        assert sum(door.ads.counts.rejections.values()) == 0


def share(rows: Rows, **shares: tuple[int, list[GrpcBackend]]) -> None:
    """Gives these basis points; a cluster with none is a standby, in order."""
    groups = {f"{name.replace('_', '-')}/r/z": found for name, found in shares.items()}
    rows.plan(
        plan_of(
            Shares(
                shares={place: found for place, found in groups.items() if found[0]},
                standby=[{place: found[1]} for place, found in groups.items() if not found[0]],
            )
        )
    )


async def test_the_shares_are_drawn_whatever_the_numbers_of_endpoints(tmp_path: Path) -> None:
    async with grpc_backends("a", "a", "a", "b", "c", "c") as found:
        rows = Rows()
        rows.for_grpc()
        share(rows, a=(1972, found[:3]), b=(5915, found[3:4]), c=(2113, found[4:]))
        async with client(tmp_path, rows) as calls:
            seen = await calls.call(6000, f"{NAME}:80", together=50)
    within_bound(seen, {"a": 1972, "b": 5915, "c": 2113})


async def test_traffic_moves_with_the_plan_and_no_call_fails(tmp_path: Path) -> None:
    async with grpc_backends("a", "b") as (a, b):
        rows = Rows()
        rows.for_grpc()
        share(rows, a=(10000, [a]), b=(0, [b]))
        async with client(tmp_path, rows) as calls:
            assert await calls.call(50, f"{NAME}:80") == {"a": 50}
            for name, shares in (("b", (0, 10000)), ("a", (10000, 0))):
                share(rows, a=(shares[0], [a]), b=(shares[1], [b]))
                moved = await calls.ask(target=f"{NAME}:80", until=name)
                assert not moved["late"]
                assert set(moved["seen"]) <= {"a", "b"}


async def test_a_refusing_tier_is_left_for_the_next_one_and_no_call_fails(tmp_path: Path) -> None:
    async with grpc_backends("a", "b") as (a, b):
        rows = Rows()
        rows.for_grpc(doors=DoorSettings(retry=Retry(asked=True)))
        share(rows, a=(10000, [a]), b=(0, [b]))
        async with client(tmp_path, rows) as calls:
            assert await calls.call(50, f"{NAME}:80") == {"a": 50}
            await a.stop()
            moved = await calls.ask(target=f"{NAME}:80", until="b")
            assert not moved["late"]
            assert set(moved["seen"]) == {"b"}


async def test_each_call_that_may_be_repeated_is_repeated(tmp_path: Path) -> None:
    """By the default back-off of a policy half of them were not, and waited for their deadlines."""
    reluctant = GrpcBackend("a", reluctant=True)
    await reluctant.start()
    try:
        rows = Rows()
        rows.for_grpc(doors=DoorSettings(retry=Retry(asked=True)))
        share(rows, a=(10000, [reluctant]))
        async with client(tmp_path, rows) as calls:
            assert await calls.call(20, f"{NAME}:80") == {"a": 20}
    finally:
        await reluctant.stop()


async def test_a_silent_tier_costs_at_most_the_call_that_was_on_its_way(
    own_network: list[str], tmp_path: Path
) -> None:
    """Calls one after another. gRPC takes no call off a connection: that one may wait for its deadline."""
    script = str(Path(__file__).with_name("grpc_silence.py"))
    process = await asyncio.create_subprocess_exec(
        *(*own_network, sys.executable, script, str(tmp_path)),
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    report = json.loads(output.splitlines()[-1])
    assert set(report) == {"told", "told, keepalive", "alone, keepalive"}
    for case, found in report.items():
        seen = found["seen"]
        assert not found["late"], (case, found)
        assert seen.pop("victim") > 0, case
        assert seen.pop("other") >= 20, case
        assert sum(seen.values()) <= 1, (case, found)
        assert all(answer.startswith("DEADLINE_EXCEEDED") for answer in seen), (case, found)


async def test_a_name_without_a_port_means_the_port_that_speaks_grpc(tmp_path: Path) -> None:
    ports = (
        Port(name="http", protocol=Protocol.TCP, port=80),
        Port(name="grpc", protocol=Protocol.TCP, port=9000),
    )
    async with grpc_backends("on-80", "on-9000") as (plain, speaking):
        rows = Rows()
        rows.for_grpc(ports=ports)
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, [plain])}), port=ports[0]))
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, [speaking])}), port=ports[1]))
        async with client(tmp_path, rows) as calls:
            assert await calls.call(5, NAME) == {"on-9000": 5}
            assert await calls.call(5, f"{NAME}:9000") == {"on-9000": 5}
            assert await calls.call(5, f"{NAME}:80") == {"on-80": 5}


async def test_an_empty_plan_and_an_unknown_service_are_unavailable(tmp_path: Path) -> None:
    rows = Rows()
    rows.for_grpc()
    rows.plan(plan_of(Shares()))
    async with client(tmp_path, rows) as calls:
        for target in (f"{NAME}:80", "nobody.shop.svc.clusterset.local:80"):
            (answer,) = await calls.call(1, target, timeout=20)
            assert answer.startswith("UNAVAILABLE"), answer


async def test_a_header_keeps_calls_together_and_limits_are_taken(tmp_path: Path) -> None:
    doors = DoorSettings(
        affinity=SessionAffinity(header="x-user"),
        circuit_breaker=CircuitBreaker(max_requests=100, max_connections=10),
        timeout=5.0,
    )
    async with grpc_backends("a", "b", "c") as found:
        rows = Rows()
        rows.for_grpc(doors=doors)
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, found)}), doors=doors))
        async with client(tmp_path, rows) as calls:
            seen = [await calls.call(4, f"{NAME}:80", headers={"x-user": str(user)}) for user in range(20)]
    assert all(len(one) == 1 for one in seen), seen
    assert {name for one in seen for name in one} == {"a", "b", "c"}


async def test_every_worked_case_is_accepted(tmp_path: Path, worked_cases: list[Any]) -> None:
    first = worked_cases[0].plan()
    service, port = first.key.service, first.port
    rows = Rows()
    rows.for_grpc(service, (port,))
    rows.plan(plan_of(Shares(), service, port))
    target = f"{service.name}.{service.namespace}.svc.clusterset.local:{port.port}"
    async with served(rows) as door, caller(tmp_path, door.address, GRPC_CLASS) as calls:
        (answer,) = await calls.call(1, target)
        assert answer.startswith("UNAVAILABLE")
        counts = door.ads.counts
        for number, case in enumerate(worked_cases):
            before = counts.acceptances[ResourceType.EDS]
            rows.plan(case.plan())

            async def answered(goal: int = before + 1) -> bool:
                assert sum(counts.rejections.values()) == 0
                return counts.acceptances[ResourceType.EDS] >= goal

            await until(answered, f"case {number}, {case.name}")


async def test_a_client_shows_the_certificate_that_its_bootstrap_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = authority.files("server", authority.sign(names=("localhost",)))
    client = authority.files("client", authority.sign(names=("test-client",)))
    async with grpc_backends("a") as found:
        rows = Rows()
        rows.for_grpc()
        share(rows, a=(10000, found))
        async with (
            served(rows, "localhost:0", tls=server) as door,
            caller(tmp_path, door.address, GRPC_CLASS, identity_of(client)) as calls,
        ):
            assert await calls.call(3, f"{NAME}:80") == {"a": 3}
            assert [told["identity"] for told in described(door.ads, 0.0)] == ["test-client"]
