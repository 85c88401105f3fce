"""Fixtures of the API server's contract.

The contract tests talk raw HTTP to `api`. By default that is an embedded server; with ISTHMUS_CONTRACT_URL
they run against any Kubernetes API server that asks for no credentials (`kubectl proxy` makes one of a real
cluster).
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from apicontract import CRDS, ROUTE_SPEC, ROUTE_STATUS, Api, Routes, definition, property_schema

from isthmus.apiserver import ApiServer, ClusterConfig


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """An embedded server with two clusters and an admin port."""
    clusters = [
        ClusterConfig(name="eu-1", history_events=64),
        ClusterConfig(name="eu-2", service_cidr="10.97.0.0/28,fd00:97::/112"),
    ]
    async with ApiServer(clusters, admin=("127.0.0.1", 0)) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture
async def api(server: ApiServer, session: aiohttp.ClientSession) -> Api:
    """The server under contract."""
    url = os.environ.get("ISTHMUS_CONTRACT_URL") or server.url("eu-1")
    return Api(session, url.rstrip("/"))


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    """A namespace of this test's own."""
    made = await api.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}})
    assert made.code == 201, made.body
    name = made.body["metadata"]["name"]
    yield name
    await api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
async def routes(api: Api, namespace: str) -> AsyncIterator[Routes]:
    """A custom resource with a status subresource, in a group of this test's own."""
    group = f"g{uuid.uuid4().hex[:8]}.contract.test"
    schema = property_schema(spec=ROUTE_SPEC, status=ROUTE_STATUS)
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    made = await api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(group, [version])
    )
    assert made.code == 201, made.body
    path = f"/apis/{group}/v1/namespaces/{namespace}/routes"
    await api.until(path, lambda answer: answer.code == 200)
    place = f"{CRDS}/routes.{group}"
    yield Routes(place, path, f"{group}/v1")
    await api.delete(place)
