"""A real Envoy keeps header sessions through a drain, uses both families, and logs who served."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from http_load import backends, until
from xds_harness import Rows, Shares, plan_of, proxied

from isthmus.model.policy import DoorSettings, SessionAffinity

pytestmark = pytest.mark.envoy


async def ask(address: str, headers: str = "", path: str = "/") -> tuple[str, dict[str, str]]:
    """The body and the headers of the answer."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: web.shop\r\n{headers}connection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    lines = [line.partition(":") for line in head.split("\r\n")[1:]]
    return body, {name.lower(): value.strip() for name, _, value in lines}


async def test_a_header_that_is_sent_back_outlives_draining(envoy_binary: str, tmp_path: Path) -> None:
    doors = DoorSettings(affinity=SessionAffinity(header="x-session"))
    async with backends("a", "b", "c") as found:
        rows = Rows()
        rows.service(doors=doors)
        rows.plan(plan_of(Shares(shares={"eu-1/r/z": (10000, found)}), doors=doors))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            body, headers = await ask(proxy.listen)
            mine = f"x-session: {headers['x-session']}\r\n"
            for _ in range(12):
                assert (await ask(proxy.listen, mine))[0] == body
            leaving = next(b for b in found if b.cluster == body)
            rest = [b for b in found if b is not leaving]
            plan = plan_of(Shares(shares={"eu-1/r/z": (10000, rest)}), doors=doors)
            drains = plan_of(Shares(shares={"eu-1/r/z": (10000, [leaving])})).shares
            rows.plan(dataclasses.replace(plan, draining=drains))

            async def drained() -> bool:
                return body not in {(await ask(proxy.listen))[0] for _ in range(10)}

            await until(drained, "new sessions go elsewhere")
            assert (await ask(proxy.listen, mine))[0] == body


async def test_the_second_family_serves_where_the_first_one_fails(envoy_binary: str, tmp_path: Path) -> None:
    """One endpoint of two addresses, of which only the IPv6 one can be reached."""
    async with backends("v6", address="::1") as (only,):
        rows = Rows()
        rows.service()
        plan = plan_of(Shares(shares={"eu-1/r/z": (10000, [only])}))
        (group,) = plan.shares
        (backend,) = group.backends
        both: Any = dataclasses.replace(
            group,
            backends=(
                type(backend)(
                    id=backend.id, cluster=backend.cluster, addresses=("127.0.0.1", "::1"), port=backend.port
                ),
            ),
        )
        rows.plan(dataclasses.replace(plan, shares=(both,)))
        async with proxied(envoy_binary, tmp_path, rows) as proxy:
            await proxy.serving()
            assert {(await proxy.get())[1] for _ in range(10)} == {"v6"}


async def test_the_access_log_names_the_cluster_and_the_tier_that_served(
    envoy_binary: str, tmp_path: Path
) -> None:
    async with backends("eu-2") as found:
        rows = Rows()
        rows.service()
        rows.plan(plan_of(Shares(standby=[{"eu-2/eu/b": found}])))
        async with proxied(envoy_binary, tmp_path, rows, log=True) as proxy:
            await proxy.serving()
            await ask(proxy.listen, path="/cart?secret=1")

            async def told() -> bool:
                return bool(_entries(tmp_path))

            await until(told, "a line for the request")
    entry = _entries(tmp_path)[-1]
    assert entry["cluster"] == "eu-2"
    assert int(float(entry["tier"])) == 1
    assert entry["service"] == "web.shop.svc.clusterset.local:80"
    assert entry["endpoint"] == f"127.0.0.1:{found[0].port}"
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/cart", 200)


def _entries(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "envoy.log").read_text().splitlines()
    return [
        entry for line in lines if line.startswith("{") and (entry := json.loads(line))["path"] == "/cart"
    ]
