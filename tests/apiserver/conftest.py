"""Fixtures of the API server's contract.

The contract tests (test_apiserver_contract_*.py) talk raw HTTP to `api` and run twice: against an embedded
server and against a real kube-apiserver, where this machine has one. Tests that take `server` are about the
embedded one alone.
"""

from __future__ import annotations

import ssl
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from apicontract import CRDS, ROUTE_SPEC, ROUTE_STATUS, Api, Routes, definition, property_schema

from isthmus.apiserver import ApiServer, ClusterConfig

if TYPE_CHECKING:
    from control_plane import ControlPlanes


SMALL_RANGES = "10.97.0.0/28,fd00:97::/112"


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """An embedded server with two clusters and an admin port."""
    clusters = [
        ClusterConfig(name="eu-1", history_events=64),
        ClusterConfig(name="eu-2", service_cidr=SMALL_RANGES),
    ]
    async with ApiServer(clusters, admin=("127.0.0.1", 0)) as running:
        yield running


class Door(NamedTuple):
    """How to reach the server under contract."""

    url: str
    headers: dict[str, str]
    tls: ssl.SSLContext | bool


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames or "door" not in metafunc.fixturenames:
        return
    if metafunc.module.__name__.rpartition(".")[2].startswith("test_apiserver_contract"):
        real = pytest.param("real", marks=pytest.mark.realapi)
        metafunc.parametrize("server_kind", ["embedded", real])


@pytest.fixture
def server_kind() -> str:
    """Which server is under contract: `embedded`, or `real` where a contract test is run a second time."""
    return "embedded"


@pytest.fixture
def door(server_kind: str, request: pytest.FixtureRequest) -> Door:
    if server_kind == "real":
        (cluster,) = request.getfixturevalue("control_planes").clusters("contract")
        return Door(cluster.url, {"Authorization": f"Bearer {cluster.token}"}, cluster.tls())
    return Door(request.getfixturevalue("server").url("eu-1"), {}, True)


@pytest.fixture
def small_door(door: Door, server_kind: str, request: pytest.FixtureRequest) -> Door:
    """Another cluster of the same server, with two small ranges of service addresses."""
    if server_kind == "real":
        planes: ControlPlanes = request.getfixturevalue("control_planes")
        (cluster,) = planes.clusters("small", service_cidr=SMALL_RANGES)
        return door._replace(url=cluster.url)
    return door._replace(url=request.getfixturevalue("server").url("eu-2"))


@pytest.fixture
def kubeconfig(server_kind: str, request: pytest.FixtureRequest) -> str:
    """A kubeconfig whose current context is the server under contract."""
    if server_kind == "real":
        found: str = request.getfixturevalue("control_planes").kubeconfig("contract")
        return found
    embedded: ApiServer = request.getfixturevalue("server")
    return embedded.kubeconfig()


@pytest.fixture
async def session(door: Door) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=door.tls)
    async with aiohttp.ClientSession(connector=connector, headers=door.headers) as client:
        yield client


@pytest.fixture
async def api(door: Door, session: aiohttp.ClientSession) -> Api:
    """The server under contract."""
    return Api(session, door.url)


@pytest.fixture
async def small(small_door: Door, session: aiohttp.ClientSession) -> Api:
    """A cluster with the service ranges of SMALL_RANGES."""
    return Api(session, small_door.url)


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
