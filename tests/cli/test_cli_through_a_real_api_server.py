"""The way through a real API server's pod proxy, and the permission that it takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from control_plane import ControlPlanes, RealCluster

from isthmus.cli.agents import CONSOLE_PORT

pytestmark = pytest.mark.realapi

NAMESPACE = "isthmus-system"
CORE = f"/api/v1/namespaces/{NAMESPACE}"
RBAC = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
DEADLINE = 180.0


def own_address() -> str:
    """An IPv4 address of this machine that is none of the loopback's, "" where there is none."""
    lines = Path("/proc/net/fib_trie").read_text().split("\n")
    local = {
        lines[n - 1].split()[-1] for n, line in enumerate(lines) if line.split() == ["/32", "host", "LOCAL"]
    }
    return min((address for address in local if not address.startswith(("127.", "169.254."))), default="")


async def call(cluster: RealCluster, method: str, path: str, body: Any = None) -> Any:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Authorization": f"Bearer {cluster.token}", "Content-Type": kind}
    connector = aiohttp.TCPConnector(ssl=cluster.tls())
    async with (
        asyncio.timeout(DEADLINE),
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.request(
            method, cluster.url + path, data=None if body is None else json.dumps(body)
        ) as answer,
    ):
        found = await answer.json()
        assert answer.status < 300 or answer.status == 409, found
        return found


def named(name: str, **parts: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **parts.pop("metadata", {})}, **parts}


async def put_pod(cluster: RealCluster, name: str, address: str) -> None:
    """A pod with the agents' label that is said to run at that address."""
    await call(cluster, "POST", "/api/v1/namespaces", named(NAMESPACE))
    await call(cluster, "POST", f"{CORE}/serviceaccounts", named("default"))
    labels = {"app.kubernetes.io/name": "isthmus-agent"}
    containers = [{"name": "agent", "image": "none"}]
    pod = named(name, metadata={"labels": labels}, spec={"containers": containers, "nodeName": "none"})
    await call(cluster, "POST", f"{CORE}/pods", pod)
    status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
    await call(cluster, "PATCH", f"{CORE}/pods/{name}/status", status)


async def kubeconfig_of(cluster: RealCluster, account: str) -> str:
    await call(cluster, "POST", f"{CORE}/serviceaccounts", named(account))
    token = await call(cluster, "POST", f"{CORE}/serviceaccounts/{account}/token", {"spec": {}})
    server = {"server": cluster.url, "certificate-authority": str(cluster.authority)}
    config = {
        "current-context": "eu-1",
        "clusters": [{"name": "eu-1", "cluster": server}],
        "users": [{"name": account, "user": {"token": token["status"]["token"]}}],
        "contexts": [{"name": "eu-1", "context": {"cluster": "eu-1", "user": account}}],
    }
    return str(yaml.safe_dump(config))


async def test_agents_answer_through_the_proxy_to_whoever_may_ask(
    isthmus: Callable[..., Awaitable[Any]],
    console: Callable[..., Awaitable[Any]],
    control_planes: ControlPlanes,
    tmp_path: Path,
) -> None:
    address = own_address()
    if not address:
        pytest.skip("no address beside the loopback, to which no API server forwards")
    (cluster,) = control_planes.clusters("cli")
    await console(host=address, port=CONSOLE_PORT)
    await put_pod(cluster, "agent-0", address)
    config = tmp_path / "kubeconfig"
    config.write_text(await kubeconfig_of(cluster, "reader"))

    ran = await isthmus("services", KUBECONFIG=str(config))
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert f"kubectl -n {NAMESPACE} create role isthmus-reader --verb=get,list" in ran.err

    rule = {"apiGroups": [""], "resources": ["pods", "pods/proxy"], "verbs": ["get", "list"]}
    await call(cluster, "POST", f"{RBAC}/roles", named("isthmus-reader", rules=[rule]))
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "isthmus-reader"}
    subjects = [{"kind": "ServiceAccount", "name": "reader", "namespace": NAMESPACE}]
    binding = named("isthmus-reader", roleRef=role, subjects=subjects)
    await call(cluster, "POST", f"{RBAC}/rolebindings", binding)
    async with asyncio.timeout(DEADLINE):
        while True:
            ran = await isthmus("explain", "shop/checkout:80", "--from", "eu-1/a", KUBECONFIG=str(config))
            if ran.code == 0:
                break
            assert "not allowed" in ran.err  # until the binding is in force
    assert "shop/checkout TCP/80 from eu-1/a" in ran.out
    ran = await isthmus("explain", "shop/checkoutt", KUBECONFIG=str(config))
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean shop/checkout?" in ran.err
    assert await gone_is_named(isthmus, cluster, config)


async def gone_is_named(isthmus: Callable[..., Awaitable[Any]], cluster: RealCluster, config: Path) -> bool:
    """A second pod is listed and nobody listens there."""
    await put_pod(cluster, "agent-1", "192.0.2.254")
    ran = await isthmus("status", "--timeout", "2", KUBECONFIG=str(config))
    assert ran.code == 0
    assert "eu-1/agent-0" in ran.out
    return "isthmus: eu-1/agent-1 is away: " in ran.err
