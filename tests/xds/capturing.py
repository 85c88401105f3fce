"""Calls that the kernel brings to a real Envoy, in a network namespace of this process's own.

Usage: capturing.py ENVOY FOLDER. A peer beyond a cable is what is not to be captured. Prints a JSON object:
who answered where.
"""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

from http_load import HttpBackend, request, until
from xds_harness import VANTAGE, Rows, Shares, plan_of, served, sidecar

from isthmus.model.names import ServiceKey
from isthmus.model.policy import DoorSettings
from isthmus.model.service import Port, Protocol
from isthmus.xds import envoy
from isthmus.xds.redirect import Redirect, rules
from isthmus.xds.rows import EVERYBODY, Capture, ProxyClass, ResourceType, Row, ready_row, resource_name

GROUP = 1337
LISTEN = "127.0.0.1:15001"
WEB, CACHE = ServiceKey("shop", "web"), ServiceKey("shop", "cache")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
REDIS = Port(name="redis", protocol=Protocol.TCP, port=6379)
VIPS = {WEB: ("10.96.0.10", "fd00:96::10"), CACHE: ("10.96.0.11",)}
PEER = "10.99.0.2"
CABLE = f"""
ip link add near type veth peer name far
ip link set far netns {{pid}}
ip addr add 10.99.0.1/24 dev near
ip link set near up
ip route add 10.96.0.0/12 dev near
ip -6 route add fd00:96::/64 dev lo
nsenter -t {{pid}} -n ip addr add {PEER}/24 dev far
nsenter -t {{pid}} -n ip link set far up
"""
PEER_SERVER = """
import asyncio
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 4\\r\\nconnection: close\\r\\n\\r\\npeer")
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 8080)
    async with server:
        print("up", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A protocol in which the server speaks first."""
    writer.write(b"+hello")
    await writer.drain()
    writer.close()


async def run(script: str, *command: str) -> None:
    """Gives a program its input, and waits until it has done its work."""
    await asyncio.to_thread(subprocess.run, command, input=script.encode(), check=True)


async def greeting(address: str, port: int) -> str:
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(address, port)
        found = (await reader.read()).decode()
        writer.close()
        return found


def render(rows: Rows, captured: ProxyClass, backends: dict[ServiceKey, tuple[Port, HttpBackend]]) -> None:
    chains = []
    for service, (port, backend) in backends.items():
        rows.plan(plan_of(Shares({"eu-1/r/z": (10000, [backend])}), service=service, port=port))
        name = resource_name(service, port.port)
        doors = DoorSettings()
        cluster = str(Row(ResourceType.CDS, EVERYBODY, name))
        rows.writer.put(cluster, envoy.cluster(service, port, doors))
        if port is HTTP:
            routes = str(Row(ResourceType.RDS, EVERYBODY, name))
            rows.writer.put(routes, envoy.captured_routes(service, port, doors))
        chains.append(envoy.filter_chain(service, port, VIPS[service]))
    rows.writer.put(
        str(ready_row(captured)), envoy.captured_listener("127.0.0.1", 15001, chains, both_families=True)
    )


def as_group(binary: str, folder: Path) -> str:
    """A program that starts Envoy as a group of its own."""
    script = folder / "envoy.sh"
    script.write_text(f'#!/bin/sh\nexec setpriv --regid {GROUP} --clear-groups "{binary}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


async def main(binary: str, folder: Path) -> dict[str, object]:
    peer = await asyncio.create_subprocess_exec(
        *("unshare", "--net", sys.executable, "-c", PEER_SERVER), stdout=asyncio.subprocess.PIPE
    )
    assert peer.stdout is not None
    await peer.stdout.readline()
    web = HttpBackend("web", "127.0.1.1")
    await web.start()
    cache = await asyncio.start_server(greet, "127.0.1.2", 0)
    held = HttpBackend("cache", "127.0.1.2")
    held.port = cache.sockets[0].getsockname()[1]
    rows = Rows()
    captured = ProxyClass(VANTAGE, listen=LISTEN, capture=Capture.TRANSPARENT)
    render(rows, captured, {WEB: (HTTP, web), CACHE: (REDIS, held)})
    settings = {"capture": Capture.TRANSPARENT}
    try:
        await run(CABLE.format(pid=peer.pid), "sh", "-e")
        script = rules(Redirect(group=GROUP))
        async with (
            served(rows) as door,
            sidecar(as_group(binary, folder), folder, door.address, LISTEN, **settings) as proxy,
        ):

            async def listening() -> bool:
                stats = await proxy.stats("listener_manager.total_listeners_active")
                return sum(stats.values()) == 1

            await until(listening, "the listener")
            for _ in range(2):  # the second time changes nothing
                await run(script, "nft", "-f", "-")

            async def answers() -> bool:
                try:
                    return (await request("10.96.0.10:80", "any.name"))[0] == 200
                except (OSError, asyncio.IncompleteReadError):
                    return False

            await until(answers, "the web answers at its clusterset IP")
            found: dict[str, object] = {
                "by name": await request("10.96.0.10:80", "web.shop.svc.clusterset.local"),
                "by any name": await request("10.96.0.10:80", "www.example.com"),
                "over IPv6": await request("fd00:96::10:80", "web"),
                "tcp": await greeting("10.96.0.11", 6379),
                "elsewhere": await request(f"{PEER}:8080", "peer"),
                "itself": await greeting("127.0.0.1", 15001),
            }
            found["through the proxy"] = await proxy.stats(
                "cluster.(isthmus-passthrough|web|cache).*upstream_cx_total"
            )
            found["rejected"] = await proxy.rejected()
            return found
    finally:
        peer.kill()
        await peer.wait()
        await web.stop()
        cache.close()
        await cache.wait_closed()


if __name__ == "__main__":
    result = asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
    sys.stdout.write(json.dumps(result) + "\n")
