"""The naive controller that stands beside our doors: it follows what API servers say, and keeps it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.apiserver.server import ApiServer, ClusterConfig
from isthmus.demo.envoy import find_envoy
from isthmus.errors import PlatformError
from isthmus.kube.client import Client
from isthmus.kube.config import load_access

ROOT = Path(__file__).resolve().parents[2]
CLUSTERS = ("one", "two")
HOST = "front.shop.svc.clusterset.local"
KEY = ObjectKey("shop", "front-1")
SECONDS = 120.0
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}


def endpoints(*addresses: str) -> list[dict[str, Any]]:
    """The last one is not ready."""
    return [{"addresses": [a], "conditions": {"ready": a != addresses[-1]}} for a in addresses]


def slice_of(*addresses: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/service-name": "front",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": "front-1", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints(*addresses),
    }


@asynccontextmanager
async def controlled(folder: Path, access: Path) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "loadtests.load.peers.naive", str(access), str(folder)]
    process = await asyncio.create_subprocess_exec(*command, "127.0.0.1:1", "shop", *CLUSTERS, cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def served(folder: Path) -> dict[str, list[str]]:
    """Addresses by cluster, of the only service."""
    try:
        (one,) = json.loads((folder / f"eds-{HOST}.json").read_text())["resources"]
    except (FileNotFoundError, ValueError):
        return {}
    assert one["cluster_name"] == HOST
    return {
        place["locality"]["region"]: [
            e["endpoint"]["address"]["socket_address"]["address"] for e in place["lb_endpoints"]
        ]
        for place in one["endpoints"]
    }


async def becomes(folder: Path, wanted: dict[str, list[str]]) -> None:
    async with asyncio.timeout(SECONDS):
        while served(folder) != wanted:
            await asyncio.sleep(0.02)


async def test_endpoints_are_those_that_api_servers_call_ready(tmp_path: Path) -> None:
    async with ApiServer([ClusterConfig(name=name) for name in CLUSTERS]) as server:
        access = tmp_path / "kubeconfig"
        access.write_text(server.kubeconfig())
        for name, address in zip(CLUSTERS, ("10.0.0.1", "10.0.1.1"), strict=True):
            async with Client(load_access(access, name)) as api:
                await api.create(kinds.NAMESPACE, NAMESPACE)
                await api.create(kinds.ENDPOINT_SLICE, slice_of(address, "10.9.9.9"))
        async with controlled(tmp_path, access), Client(load_access(access, "two")) as two:
            await becomes(tmp_path, {"one": ["10.0.0.1"], "two": ["10.0.1.1"]})
            now = {"endpoints": endpoints("10.0.1.7", "10.0.1.8", "10.9.9.9")}
            await two.patch(kinds.ENDPOINT_SLICE, KEY, now)
            await becomes(tmp_path, {"one": ["10.0.0.1"], "two": ["10.0.1.7", "10.0.1.8"]})
            await asyncio.to_thread(loads_in_envoy, tmp_path)


def loads_in_envoy(folder: Path) -> None:
    try:
        envoy = find_envoy(None, os.environ, Path.home())
    except PlatformError as error:
        pytest.skip(str(error))
    static = {
        kind: [
            {k: v for k, v in one.items() if k != "@type"}
            for one in json.loads((folder / f"{name}.json").read_text())["resources"]
        ]
        for kind, name in (("listeners", "lds"), ("clusters", "cds"))
    }
    file = folder / "all.json"
    file.write_text(json.dumps({"static_resources": static, "node": {"id": "a", "cluster": "a"}}))
    done = subprocess.run(
        [str(envoy), "--mode", "validate", "-c", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
