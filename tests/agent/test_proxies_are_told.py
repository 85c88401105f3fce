"""Control asks its xDS workers about their clients, and gets what they know."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "xds"))

import grpc
from ads_client import CDS, CLASS, TYPE_URLS, node
from envoy.service.discovery.v3 import discovery_pb2
from http_load import until
from xds_harness import CLUSTER, Rows

from isthmus.agent import proxies as agent_proxies
from isthmus.agent.proxies import Proxies
from isthmus.flow.replica import Publisher
from isthmus.flow.table import Table
from isthmus.xds import proxies, worker
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ResourceType, Row
from isthmus.xds.server import METHOD
from loadtests.ports import free_port


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_a_look_shows_every_client_of_every_worker_and_what_it_rejected(tmp_path: Path) -> None:
    rows, told, wants = Rows(), Proxies(), Table[str, bytes]("wants")
    rows.writer.put(str(Row(ResourceType.CDS, EVERYBODY, "a")), b"a")
    rows.writer.put(str(Row(ResourceType.LDS, str(CLASS), EXPLICIT)), b"listener")
    publisher = Publisher(
        tmp_path / "link",
        {worker.TABLE: rows.table, proxies.LOOKS: told.looks},
        {worker.WANTS: wants, proxies.PROXIES: told.told},
    )
    ports = [free_port(), free_port()]
    async with AsyncExitStack() as stack:
        running = asyncio.create_task(publisher.run())
        stack.push_async_callback(_cancelled, running)
        for number, port in enumerate(ports):
            options = worker.Options(name=f"xds-{number}", cluster=CLUSTER, listen=f"127.0.0.1:{port}")
            serving = asyncio.create_task(worker.run(options, tmp_path / "link"))
            stack.push_async_callback(_cancelled, serving)
        for number, port in enumerate(ports):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            call = channel.stream_stream(METHOD)(wait_for_ready=True)
            stack.callback(call.cancel)
            asked = discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[CDS], node=node())
            asked.node.id = f"web-{number}.shop"
            await call.write(asked.SerializeToString())
            async with asyncio.timeout(60):
                found = discovery_pb2.DiscoveryResponse.FromString(await call.read())
            asked.response_nonce = found.nonce
            if number:
                asked.error_detail.message = "no, thank you"
            await call.write(asked.SerializeToString())

        async def seen() -> bool:
            items, silent = await told.look(lambda: publisher.workers)
            states = {
                (one["node"], one["worker"]): (one["types"]["cds"]["state"], one["types"]["cds"]["rejected"])
                for one in items
            }
            return not silent and states == {
                ("web-0.shop", "xds-0"): ("accepted", ""),
                ("web-1.shop", "xds-1"): ("rejected", "no, thank you"),
            }

        await until(seen, "both clients in their states")


async def test_a_worker_that_does_not_answer_is_named(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(agent_proxies, "SECONDS", 0.1)
    assert await Proxies().look(lambda: ["xds-0"]) == ([], ["xds-0"])
