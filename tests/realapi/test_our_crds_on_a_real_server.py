"""Every CRD that Isthmus installs is accepted by a real API server, and its CEL rules hold there."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from control_plane import ControlPlanes, RealCluster

from isthmus.api.crds import all_crds

pytestmark = pytest.mark.realapi

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
POLICIES = "/apis/traffic.isthmus.dev/v1alpha1/namespaces/default/globaltrafficpolicies"
DEADLINE = 60.0
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


VALID: Object = {
    "targetRefs": [{"name": "cart"}],
    "strategy": "FailOver",
    "targets": [{"cluster": "eu-1", "priority": 1}, {"cluster": "eu-2", "priority": 2}],
}


def policy(name: str, spec: Object) -> Object:
    return {
        "apiVersion": "traffic.isthmus.dev/v1alpha1",
        "kind": "GlobalTrafficPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


async def test_a_good_policy_is_accepted(server: Server) -> None:
    code, answer = await server.call("POST", POLICIES, policy("good", copy.deepcopy(VALID)))
    assert code == 201, answer
    await server.call("DELETE", f"{POLICIES}/good")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selector": {"matchLabels": {"a": "b"}}}, "targetRefs and selector exclude each other"),
        ({"strategy": "Locality"}, "priority is for FailOver only"),
        ({"strategy": None, "targets": [{"cluster": "a"}]}, "targets need a strategy"),
        ({"targets": [{"cluster": "a", "priority": 1}, {"cluster": "b"}]}, "priority must be on all targets"),
        ({"targets": [{"cluster": "a", "region": "b"}]}, "exactly one of cluster and region must be set"),
        ({"targetRefs": None, "selector": {}}, "an empty selector is not allowed"),
        ({"timeout": "0s"}, "must be between 1ms and 24h"),
        ({"health": {"interval": "1h"}}, "must be between 100ms and 5m"),
    ],
)
async def test_the_rules_of_policies_refuse_what_they_forbid(
    server: Server, change: Object, message: str
) -> None:
    spec = {key: value for key, value in (copy.deepcopy(VALID) | change).items() if value is not None}
    code, answer = await server.call("POST", POLICIES, policy("bad", spec))
    assert code == 422, answer
    assert message in answer["message"]
