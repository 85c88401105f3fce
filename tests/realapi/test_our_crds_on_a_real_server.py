"""Every CRD that Isthmus installs is accepted by a real API server as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from control_plane import ControlPlanes, RealCluster

from isthmus.api.crds import all_crds

pytestmark = pytest.mark.realapi

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEADLINE = 180.0
Object = dict[str, Any]


class Server:
    """A raw client of one real cluster."""

    def __init__(self, session: aiohttp.ClientSession, cluster: RealCluster) -> None:
        self._session = session
        self._url = cluster.url

    async def call(self, method: str, path: str, body: Any = None, **params: str) -> tuple[int, Object]:
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind}
        async with (
            asyncio.timeout(DEADLINE),
            self._session.request(
                method, self._url + path, json=body, params=params, headers=headers
            ) as response,
        ):
            return response.status, await response.json()


def conditions(crd: Object) -> dict[str, str]:
    return {each["type"]: each["status"] for each in crd.get("status", {}).get("conditions") or ()}


@pytest.fixture
async def server(control_planes: ControlPlanes) -> AsyncIterator[Server]:
    """A cluster on which all CRDs are installed and established."""
    (cluster,) = control_planes.clusters("crds")
    connector = aiohttp.TCPConnector(ssl=cluster.tls())
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        server = Server(session, cluster)
        for crd in all_crds():
            path = f"{CRDS}/{crd['metadata']['name']}"
            code, answer = await server.call("PATCH", path, crd, fieldManager="isthmus", force="true")
            assert code in (200, 201), answer
            async with asyncio.timeout(DEADLINE):
                while conditions((await server.call("GET", path))[1]).get("Established") != "True":
                    await asyncio.sleep(0.05)
        yield server


async def test_all_our_crds_are_accepted_without_a_change_or_a_complaint(server: Server) -> None:
    for crd in all_crds():
        code, stored = await server.call("GET", f"{CRDS}/{crd['metadata']['name']}")
        assert code == 200
        assert conditions(stored)["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in conditions(stored)
        wanted = [each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"]]
        assert [each["schema"]["openAPIV3Schema"] for each in stored["spec"]["versions"]] == wanted
