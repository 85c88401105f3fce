"""A client of a scripted API server, and waiting for a condition."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Script, access_to, scripted

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from appliersite import Site

from isthmus.api import kinds
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted() as made:
        yield made


@pytest.fixture
async def client(script: Script) -> AsyncIterator[Client]:
    async with Client(access_to(script.url), timeout=30.0) as made:
        yield made


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[None]]:
    """Waits until a condition is true, for at most a minute."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def running() -> Callable[[Awaitable[None]], Any]:
    """`async with running(thing.run()):` runs it meanwhile; it must not end by itself."""

    @asynccontextmanager
    async def run(work: Any) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(work)
        try:
            yield task
            assert not task.done(), f"ended by itself: {task}"
        finally:
            task.cancel()
            await asyncio.wait([task])

    return run


@pytest.fixture
async def site(running: Any, until: Any) -> AsyncIterator[Site]:
    async with ApiServer([ClusterConfig(name="eu-1")]) as server:
        access = Access(name="eu-1", server=server.url("eu-1"), source=Files(where="eu-1", encrypted=False))
        async with Client(access) as client:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
            await client.create(kinds.NAMESPACE, namespace)
            made = Site(server, client, running, until)
            async with running(made.reflector.run()):
                yield made
