"""A real Envoy draws the shares that the plan computed, by every name and protocol that callers use."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from drawing import drawn, within_bound
from http_load import HttpBackend, Load, backends, loaded, request, until
from xds_harness import Rows, Shares, plan_of, proxied

from isthmus.model.names import ServiceKey
from isthmus.model.policy import DoorSettings, SessionAffinity
from isthmus.model.service import Port, Protocol

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize(
    "shares",
    [
        {"eu-1": 1972, "eu-2": 5915, "us-1": 2113},
        {"eu-1": 7000, "us-1": 3000},
        {"eu-1": 1, "us-1": 9999},
    ],
)
async def test_the_shares_are_drawn_whatever_the_numbers_of_endpoints(
    envoy_binary: str, tmp_path: Path, shares: dict[str, int]
) -> None:
    sizes = {"eu-1": 3, "eu-2": 1, "us-1": 2}
    async with backends(*(name for name in shares for _ in range(sizes[name])), "standby") as found:
        rows = Rows()
        rows.service()
        groups = {
            f"{name}/r/z": (points, [b for b in found if b.cluster == name])
            for name, points in shares.items()
        }
        rows.plan(plan_of(Shares(shares=groups, standby=[{"standby/r/z": [found[-1]]}])))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            within_bound(await drawn(proxy.listen), shares)
            assert await proxy.rejected() == 0


async def test_every_worked_case_is_accepted(
    envoy_binary: str, tmp_path: Path, worked_cases: list[Any]
) -> None:
    rows = Rows()
    rows.service(service=worked_cases[0].plan().key.service)
    rows.plan(worked_cases[0].plan())
    async with proxied(envoy_binary, tmp_path, rows) as proxy:
        for number, case in enumerate(worked_cases):
            rows.plan(case.plan())
            hosts = sum(len(group.backends) for groups in _groups(case.plan()) for group in groups)

            async def applied(expected: int = hosts) -> bool:
                stats = await proxy.stats("checkout.*membership_total")
                return list(stats.values()) == [expected]

            await until(applied, f"case {number}, {case.name}: {hosts} hosts")
        assert await proxy.rejected() == 0


def _groups(plan: Any) -> list[Any]:
    return [plan.shares, plan.standby, plan.unhealthy]


async def test_a_service_is_reached_by_all_its_names(envoy_binary: str, tmp_path: Path) -> None:
    ports = (
        Port(name="http", protocol=Protocol.TCP, port=80),
        Port(name="grpc", protocol=Protocol.TCP, port=9000),
        Port(name="redis", protocol=Protocol.TCP, port=6379),
    )
    async with backends("on-80", "on-9000") as (plain, grpc):
        rows = Rows()
        rows.service(ports=ports)
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, [plain])}), port=ports[0]))
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, [grpc])}), port=ports[1]))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            for base in ("web.shop", "web.shop.svc", "web.shop.svc.clusterset.local"):
                assert await proxy.get(base) == (200, "on-80")
                assert await proxy.get(f"{base}:80") == (200, "on-80")
                assert await proxy.get(f"{base}:9000") == (200, "on-9000")
                assert (await proxy.get(f"{base}:6379"))[0] == 404
            assert (await proxy.get("web"))[0] == 404
            assert (await proxy.get("other.shop"))[0] == 404


async def test_services_come_and_go_beside_a_busy_one(envoy_binary: str, tmp_path: Path) -> None:
    async with backends("busy", "guest") as (busy, guest):
        rows = Rows()
        rows.service()
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, [busy])})))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            async with loaded(Load(proxy.listen)) as load:
                for number in range(4):
                    service = ServiceKey("shop", f"guest-{number}")
                    rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, [guest])}), service=service))
                    rows.service(service)
                    await proxy.serving(f"guest-{number}.shop")
                    rows.remove(service)

                    async def gone(name: str = f"guest-{number}.shop") -> bool:
                        status, _ = await proxy.get(name)
                        assert status in (200, 404), "a route outlived its cluster"
                        return status == 404

                    await until(gone, "the service is gone")
            assert load.failed == []
            assert await proxy.rejected() == 0


async def test_what_may_not_be_repeated_is_sent_once(envoy_binary: str, tmp_path: Path) -> None:
    """A server that takes a request and drops the connection: GET goes elsewhere, POST fails."""
    taken: Counter[str] = Counter()

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken[(await reader.readuntil(b"\r\n\r\n")).split()[0].decode()] += 1
        writer.transport.abort()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server, backends("good") as (good,):
        bad = HttpBackend("bad")
        bad.port = server.sockets[0].getsockname()[1]
        rows = Rows()
        rows.service(doors=DoorSettings(outlier=None))
        rows.plan(
            plan_of(
                Shares(shares={"eu-1/r/z": (10000, [bad])}, standby=[{"us-1/r/z": [good]}]),
                doors=DoorSettings(outlier=None),
            )
        )
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            assert await proxy.get(method="GET") == (200, "good")
            assert await proxy.get(method="PUT") == (200, "good")
            assert (await proxy.get(method="POST"))[0] == 503
    assert taken["POST"] == 1
    assert taken["PUT"] == 1


async def test_affinity_by_cookie_outlives_draining(envoy_binary: str, tmp_path: Path) -> None:
    doors = DoorSettings(affinity=SessionAffinity(cookie="sid", ttl=60))
    async with backends("a", "b", "c") as found:
        rows = Rows()
        rows.service(doors=doors)
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, found)}), doors=doors))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            status, body, cookie = await _with_cookie(proxy.listen, "")
            assert status == 200
            for _ in range(12):
                assert (await _with_cookie(proxy.listen, cookie))[1] == body
            mine = next(b for b in found if b.cluster == body)
            rest = [b for b in found if b is not mine]
            plan = plan_of(Shares(shares={"eu-1/r/z": (10000, rest)}), doors=doors)
            draining = plan_of(Shares(shares={"eu-1/r/z": (10000, [mine])})).shares
            rows.plan(dataclasses.replace(plan, draining=draining))

            async def drained() -> bool:
                return body not in {(await proxy.get())[1] for _ in range(10)}

            await until(drained, "new sessions go elsewhere")
            assert (await _with_cookie(proxy.listen, cookie))[1] == body


async def _with_cookie(address: str, cookie: str) -> tuple[int, str, str]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    header = f"cookie: {cookie}\r\n" if cookie else ""
    writer.write(f"GET / HTTP/1.1\r\nhost: web.shop\r\n{header}connection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    lines = head.split("\r\n")
    given = next((line for line in lines if line.lower().startswith("set-cookie:")), "")
    return int(lines[0].split()[1]), body, given.partition(":")[2].partition(";")[0].strip()


async def test_affinity_by_header_stays_with_its_value(envoy_binary: str, tmp_path: Path) -> None:
    doors = DoorSettings(affinity=SessionAffinity(header="x-user"))
    async with backends("a", "b", "c") as found:
        rows = Rows()
        rows.service(doors=doors)
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, found)}), doors=doors))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            answers = {}
            for user in range(30):
                authority = f"web.shop\r\nx-user: {user}"
                answers[user] = {(await request(proxy.listen, authority))[1] for _ in range(3)}
    assert all(len(seen) == 1 for seen in answers.values())
    assert len({next(iter(seen)) for seen in answers.values()}) > 1
