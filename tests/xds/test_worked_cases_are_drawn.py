"""Every worked case of policy and health, drawn by a real Envoy and by a real gRPC client (property 8)."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from drawing import DRAWS, drawn, within_bound
from grpc_parts import caller
from quick_backends import QuickGrpc, QuickHttp
from xds_harness import GRPC_CLASS, VANTAGE, Rows, proxied, served

from isthmus.model.names import ServiceKey
from isthmus.model.plan import Plan, PlanGroup


@asynccontextmanager
async def servers(kind: type[Any], cases: list[Any]) -> AsyncIterator[dict[str, Any]]:
    """One server for each locality of any case, on every loopback address; it answers with its locality."""
    places = sorted({str(group.locality) for case in cases for group in _groups(case.plan())})
    found = {place: kind(place) for place in places}
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


def given(rows: Rows, cases: list[Any], found: Mapping[str, Any]) -> dict[ServiceKey, Any]:
    """Renders each case as a service of its own, all of them at once."""
    services = {ServiceKey("shop", f"case-{number}"): case for number, case in enumerate(cases)}
    for service, case in services.items():
        plan = really(case.plan(), found)
        rows.plan(dataclasses.replace(plan, key=plan.key._replace(service=service)))
    return services


@pytest.mark.envoy
async def test_an_envoy_draws_every_worked_case(
    envoy_binary: str, tmp_path: Path, worked_cases: list[Any]
) -> None:
    assert len(worked_cases) >= 12
    async with servers(QuickHttp, worked_cases) as found:
        rows = Rows()
        services = given(rows, worked_cases, found)
        for service in services:
            rows.service(service)
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            for service, case in services.items():
                authority = f"{service.name}.shop"
                await proxy.serving(authority)
                within_bound(await drawn(proxy.listen, authority), case.shares, case.name)
            assert await proxy.rejected() == 0


async def test_a_grpc_client_draws_every_worked_case(tmp_path: Path, worked_cases: list[Any]) -> None:
    async with servers(QuickGrpc, worked_cases) as found:
        rows = Rows()
        services = given(rows, worked_cases, found)
        for service in services:
            rows.for_grpc(service)
        async with served(rows) as door, caller(tmp_path, door.address, GRPC_CLASS) as calls:
            for service, case in services.items():
                target = f"{service.name}.shop.svc.clusterset.local:80"
                settled = await calls.ask(target=target, connected=sorted(case.shares))
                assert not settled["late"], (case.name, settled)
                within_bound(await calls.call(DRAWS, target, together=100), case.shares, case.name)
            assert sum(door.ads.counts.rejections.values()) == 0
