"""Whether something answers: a port, an API server, a service through an Envoy. "" or what is wrong."""

from __future__ import annotations

import asyncio

from isthmus.demo.dnscall import dns_caller
from isthmus.demo.httpcall import connect, fetch
from isthmus.demo.population import DemoService
from isthmus.demo.world import ADMIN_PORT, DNS_PORT, ENVOY_PORT, Member

QUERY_SECONDS = 1.0


async def accepts(address: str, port: int) -> str:
    try:
        async with asyncio.timeout(1.0):
            (await connect(address, port)).close()
    except OSError as error:
        return f"{address}:{port}: {error.strerror or 'no answer'}"
    return ""


async def answers(address: str, port: int, path: str) -> str:
    try:
        answer = await fetch(address, port, path, timeout=2.0)
    except OSError as error:
        return f"{address}:{port}{path}: {error.strerror or 'no answer'}"
    text = answer.body[:200].decode(errors="replace").strip()
    return "" if answer.status == 200 else f"{address}:{port}{path}: HTTP {answer.status}: {text}"


async def serves(member: Member, service: DemoService, port: int = ENVOY_PORT) -> str:
    try:
        async with asyncio.timeout(3.0):
            connection = await connect(member.envoy, port)
            try:
                answer = await connection.get(f"{service.authority}:{service.http_port}", "/")
            finally:
                connection.close()
    except OSError as error:
        return error.strerror or "no answer"
    return "" if answer.status == 200 else f"HTTP {answer.status}"


async def resolves(member: Member, service: DemoService, port: int = DNS_PORT) -> str:
    """Whether the agent's DNS gives addresses for the service's name."""
    caller = await dns_caller(member.agent, port)
    try:
        code, addresses = await caller.ask(service.authority, QUERY_SECONDS)
    except OSError as error:
        return error.strerror or "no answer"
    finally:
        await caller.close()
    return "" if addresses else f"response code {code}" if code else "no address"


def admin(member: Member) -> tuple[str, int]:
    """Where the member's Envoy tells about itself."""
    return member.envoy, ADMIN_PORT
