"""Agents' consoles as the command meets them, alone and behind an API server's pod proxy."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

sys.path.append(str(Path(__file__).parent))  # test folders are not packages
sys.path.append(str(Path(__file__).parents[1] / "console"))

from cli_scenes import ROOT, SECONDS, Console, PodProxy, Ran, environment
from console_tables import sources

from isthmus.console.events import Ring
from isthmus.console.http import application


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest.fixture
def console(stack: AsyncExitStack) -> Callable[..., Awaitable[Console]]:
    """Starts the console of an agent: `await console(cluster="eu-1", services=…)`, parts as for `sources`."""

    async def start(
        run: str = "run", host: str = "127.0.0.1", port: int | None = None, **parts: Any
    ) -> Console:
        ring = Ring(run)
        server = TestServer(application(sources(**parts), CollectorRegistry(), ring), host=host, port=port)
        await stack.enter_async_context(server)
        return Console(str(server.make_url("")).rstrip("/"), ring, server)

    return start


@pytest.fixture
async def pod_proxy(stack: AsyncExitStack, tmp_path: Path) -> PodProxy:
    """The API server that `kubeconfig` in tmp_path speaks of as context eu-1; context gone is nowhere."""
    made = PodProxy()
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods", made.list)
    app.router.add_get("/api/v1/namespaces/isthmus-system/pods/{pod}/proxy/{rest:.*}", made.forward)
    server = await stack.enter_async_context(TestServer(app))
    made.url = str(server.make_url("")).rstrip("/")
    servers = {"eu-1": made.url, "gone": "http://127.0.0.1:1"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "eu-1",
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
        "contexts": [{"name": name, "context": {"cluster": name}} for name in servers],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return made


@pytest.fixture
def isthmus(tmp_path: Path) -> Callable[..., Awaitable[Ran]]:
    """Runs the command: `await isthmus("status", "--agent", url, COLUMNS="60")`."""

    async def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "isthmus",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(tmp_path, **variables),
            cwd=ROOT,
        )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return run
