"""Real gRPC and HTTPS backends of two clusters, probed by real agents.

To be run as `python probedbackends.py FOLDER PROTOCOL ENVOY` in a network namespace of its own: pods need
addresses that are not loopback's. Says as JSON what the doors of eu-1 drew from while everybody was well,
while eu-2's said that they were not, and after.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Agent, Spine, endpoints, pods, thing
from spineservers import Embedded, settles
from test_the_spine_reaches_envoy import envoy

from isthmus.api import kinds
from isthmus.demo import namespace
from isthmus.demo.selfsigned import context

PORT = 8080
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HEALTH = {
    "GRPC": {"protocol": "GRPC"},
    "HTTPS": {"protocol": "HTTPS", "path": "/healthz"},
}
Tell = Callable[[bool], Any]


async def rpc(stack: AsyncExitStack, address: str) -> Tell:
    """A gRPC server with the health service; what is returned says whether it is well."""
    servicer, server = health.aio.HealthServicer(), grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"{address}:{PORT}")
    await server.start()
    stack.push_async_callback(server.stop, None)

    def tell(well: bool) -> Any:
        return servicer.set("", SERVING if well else NOT_SERVING)

    await tell(True)
    return tell


async def web(stack: AsyncExitStack, address: str, certificate: ssl.SSLContext) -> Tell:
    """An HTTPS server that answers /healthz by 200 or 503."""
    state = {"well": True}

    async def answer(_request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=200 if state["well"] else 503)

    app = aiohttp.web.Application()
    app.router.add_get("/healthz", answer)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await aiohttp.web.TCPSite(runner, address, PORT, ssl_context=certificate).start()

    async def tell(well: bool) -> None:
        state["well"] = well

    return tell


async def json_of(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


async def by_priority(admin: int) -> list[list[str]]:
    """Addresses that Envoy knows of the service, the first priority first."""
    found: dict[int, list[str]] = {}
    try:
        statuses = await json_of(f"http://127.0.0.1:{admin}/clusters?format=json")
    except (aiohttp.ClientError, OSError):
        return []
    for cluster in statuses.get("cluster_statuses", ()):
        if "web.shop" in cluster["name"]:
            for host in cluster.get("host_statuses", ()):
                address = host["address"]["socket_address"]["address"]
                found.setdefault(host.get("priority", 0), []).append(address)
    return [sorted(found[priority]) for priority in sorted(found)]


async def verdicts(agent: Agent) -> dict[str, Any]:
    """Whether eu-1 calls each endpoint of eu-2 up, and why not."""
    rows = (await json_of(f"http://127.0.0.1:{agent.console_port}/v1/health?service=shop/web"))["items"]
    return {row["endpoint"]: [row["up"], row["reason"]] for row in rows if row["cluster"] == "eu-2"}


async def play(root: Path, protocol: str, program: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        spine = await stack.enter_async_context(Spine(root, Embedded()))
        certificate = context()
        tells: dict[str, list[Tell]] = {}
        for cluster in ("eu-1", "eu-2"):
            for address in pods(cluster):
                made = rpc(stack, address) if protocol == "GRPC" else web(stack, address, certificate)
                tells.setdefault(cluster, []).append(await made)
            await spine.serve(cluster, "web")
            await spine.apply(cluster, kinds.ENDPOINT_SLICE, endpoints(cluster, "web"))
        spec = {"strategy": "ActiveActive", "dns": {"answer": "Endpoints"}, "health": HEALTH[protocol]}
        await spine.apply("eu-1", kinds.POLICY, thing(kinds.POLICY, "shop", "web", spec=spec))
        await spine.start("eu-1", "eu-2")
        agent = spine.agents["eu-1"]
        admin = await stack.enter_async_context(envoy(program, root, agent.xds_port))
        everybody = sorted([*pods("eu-1"), *pods("eu-2")])
        for well in (True, False, True):
            for tell in tells["eu-2"]:
                await tell(well)
            wanted = everybody if well else pods("eu-1")

            async def drawn(wanted: list[str] = wanted, well: bool = well) -> dict[str, Any] | None:
                answered = await agent.addresses("web.shop.svc.clusterset.local")
                envoys = await by_priority(admin)
                found = await verdicts(agent) if answered else {}
                drawn = answered == sorted(wanted) and envoys[:1] == [sorted(wanted)]
                if not drawn or {up for up, _ in found.values()} != {well}:
                    return None
                return {"dns": answered, "envoy": envoys, "verdicts": found}

            told.append(await settles(drawn, f"the doors draw from {wanted}", agent.log))
    return told


if __name__ == "__main__":
    namespace.furnish()
    print(json.dumps(asyncio.run(play(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))))  # noqa: T201
