"""Every worked case of policy and health, drawn by a real Envoy and by a real gRPC client (property 8)."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from grpc_parts import GrpcBackend, caller
from http_load import HttpBackend, exchange, free_port, until
from xds_harness import GRPC_CLASS, VANTAGE, Door, Rows, served, sidecar

from isthmus.model.plan import Plan, PlanGroup
from isthmus.xds.rows import ResourceType

DRAWS = 2_000
CONNECTIONS = 8


@asynccontextmanager
async def servers(kind: type[Any], cases: list[Any]) -> AsyncIterator[dict[str, Any]]:
    """One server for each locality of any case, on every loopback address; it answers with its locality."""
    places = sorted({str(group.locality) for case in cases for group in _groups(case.plan())})
    found = {place: kind(place, "0.0.0.0") for place in places}
    for server in found.values():
        await server.start()
    try:
        yield found
    finally:
        for server in found.values():
            await server.stop()


def _groups(plan: Plan) -> list[PlanGroup]:
    return [*plan.shares, *plan.standby, *plan.unhealthy, *plan.draining]


def really(plan: Plan, found: Mapping[str, Any]) -> Plan:
    """The same plan with addresses that answer: one of its own for each endpoint, a port a locality."""

    def moved(groups: tuple[PlanGroup, ...]) -> tuple[PlanGroup, ...]:
        return tuple(
            dataclasses.replace(
                group,
                backends=tuple(
                    msgspec.structs.replace(
                        backend,
                        addresses=tuple("127" + address[2:] for address in backend.addresses),
                        port=found[str(group.locality)].port,
                    )
                    for backend in group.backends
                ),
            )
            for group in groups
        )

    return dataclasses.replace(
        plan,
        key=plan.key._replace(vantage=VANTAGE),
        shares=moved(plan.shares),
        standby=moved(plan.standby),
        unhealthy=moved(plan.unhealthy),
        draining=moved(plan.draining),
    )


def within_bound(seen: Mapping[str, int], shares: Mapping[str, int], case: str) -> None:
    """Property 8 of traffic-semantics, section 6."""
    count = sum(seen.values())
    assert set(seen) <= set(shares), (case, seen)
    for place, points in shares.items():
        p = points / 10_000
        bound = 5 * math.sqrt(p * (1 - p) / count) + 0.002
        assert abs(seen.get(place, 0) / count - p) <= bound, (case, place, seen, shares)


async def applied(door: Door, rows: Rows, plan: Plan, case: str) -> None:
    """Gives the plan and waits until the client has accepted it."""
    counts = door.ads.counts
    before = counts.acceptances[ResourceType.EDS]
    rows.plan(plan)

    async def accepted() -> bool:
        assert sum(counts.rejections.values()) == 0, case
        return counts.acceptances[ResourceType.EDS] > before

    await until(accepted, f"{case}: accepted")


@pytest.mark.envoy
async def test_an_envoy_draws_every_worked_case(
    envoy_binary: str, tmp_path: Path, worked_cases: list[Any]
) -> None:
    assert len(worked_cases) >= 12
    first = worked_cases[0].plan()
    listen = f"127.0.0.1:{free_port()}"
    rows = Rows()
    rows.listen(listen)
    rows.service(first.key.service)
    async with servers(HttpBackend, worked_cases) as found:
        rows.plan(really(worked_cases[-1].plan(), found))
        async with (
            served(rows) as door,
            sidecar(envoy_binary, tmp_path, door.address, listen) as proxy,
        ):
            await proxy.serving("checkout.shop")
            for case in worked_cases:
                plan = really(case.plan(), found)
                await applied(door, rows, plan, case.name)
                within_bound(await _drawn(listen), case.shares, case.name)


async def _drawn(address: str) -> Counter[str]:
    answers: Counter[str] = Counter()

    async def asking() -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(DRAWS // CONNECTIONS):
            status, body = await exchange(reader, writer, "checkout.shop", "/", "GET")
            answers[body if status == 200 else str(status)] += 1
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(asking(), name="caller")
    return answers


async def test_a_grpc_client_draws_every_worked_case(tmp_path: Path, worked_cases: list[Any]) -> None:
    first = worked_cases[0].plan()
    rows = Rows()
    rows.for_grpc(first.key.service)
    target = "checkout.shop.svc.clusterset.local:80"
    async with servers(GrpcBackend, worked_cases) as found:
        rows.plan(really(worked_cases[-1].plan(), found))
        async with served(rows) as door, caller(tmp_path, door.address, GRPC_CLASS) as calls:
            await calls.call(1, target)
            for case in worked_cases:
                plan = really(case.plan(), found)
                await applied(door, rows, plan, case.name)
                settled = await calls.ask(target=target, connected=sorted(case.shares))
                assert not settled["late"], (case.name, settled)
                within_bound(await calls.call(DRAWS, target), case.shares, case.name)
