"""Servers that say who they are over gRPC, and a stock client in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from isthmus.xds.bootstrap import grpc_bootstrap
from isthmus.xds.rows import ProxyClass
from isthmus.xds.secrets import Identity


class GrpcBackend:
    """Answers every call with the name of its cluster; has the fields that `plan_of` reads of a backend.

    One that is reluctant refuses the first attempt of each call as UNAVAILABLE.
    """

    def __init__(self, cluster: str, address: str = "127.0.0.1", *, reluctant: bool = False) -> None:
        self.cluster, self.address, self.port = cluster, address, 0
        self.reluctant = reluctant
        self.served = 0
        self._server: Any = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Any(self),))
        self.port = self._server.add_insecure_port(f"{self.address}:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None


class _Any(grpc.GenericRpcHandler):
    def __init__(self, backend: GrpcBackend) -> None:
        self._backend = backend

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _request: bytes, context: Any) -> bytes:
        attempts = dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts")
        if self._backend.reluctant and attempts is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "ask again")
        self._backend.served += 1
        return self._backend.cluster.encode()


@asynccontextmanager
async def grpc_backends(*names: str) -> AsyncIterator[list[GrpcBackend]]:
    found = [GrpcBackend(name) for name in names]
    for backend in found:
        await backend.start()
    try:
        yield found
    finally:
        for backend in found:
            await backend.stop()


class Caller:
    """See `grpc_calls`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, count: int, target: str, **more: Any) -> dict[str, int]:
        """Makes so many calls: how often each name answered."""
        answer: dict[str, int] = (await self.ask(target=target, count=count, **more))["seen"]
        return answer

    async def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command["target"] = f"xds:///{command['target']}"
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(180):
            line = await self._process.stdout.readline()
        assert line, "the client ended"
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def caller(
    folder: Path, xds: str, proxy_class: ProxyClass, identity: Identity | None = None
) -> AsyncIterator[Caller]:
    """A client whose control plane is at that address."""
    file = folder / "grpc.json"
    file.write_text(json.dumps(grpc_bootstrap("test-client", proxy_class.vantage, xds, identity=identity)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("grpc_calls.py"))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": str(file)},
    )
    assert process.stdin is not None
    try:
        yield Caller(process)
    finally:
        process.stdin.close()
        await process.wait()
