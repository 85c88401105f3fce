"""Contract: what people do with kubectl works."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from apicontract import DEADLINE, Api, Object, Routes
from control_plane_binaries import binaries

pytestmark = pytest.mark.realapi("kubectl")


class Said(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


class Kubectl:
    """kubectl with a home and a namespace of its own."""

    def __init__(self, kubeconfig: Path, home: Path, namespace: str) -> None:
        self._command = [binaries("kubectl")["kubectl"], f"--kubeconfig={kubeconfig}", f"-n={namespace}"]
        self._environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}

    @asynccontextmanager
    async def started(self, *arguments: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment | more,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def run(self, *arguments: str, give: Any = None, **more: str) -> Said:
        async with asyncio.timeout(2 * DEADLINE), self.started(*arguments, **more) as process:
            given = json.dumps(give).encode() if give is not None else None
            out, err = await process.communicate(given)
            assert process.returncode is not None
            return Said(process.returncode, out.decode(), err.decode())

    async def __call__(self, *arguments: str, give: Any = None, **more: str) -> str:
        said = await self.run(*arguments, give=give, **more)
        assert said.code == 0, said.err
        return said.out

    async def read(self, *arguments: str) -> Any:
        return json.loads(await self("get", "-o", "json", *arguments))


@pytest.fixture
def kubectl(kubeconfig: str, tmp_path: Path, namespace: str) -> Kubectl:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig)
    return Kubectl(path, tmp_path, namespace)


def config(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def service(**labels: str) -> Object:
    meta = {"name": "shop", "labels": labels}
    ports = [{"name": "http", "port": 80}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": ports}}


async def test_server_side_apply_creates_changes_and_meets_conflicts(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    assert "configmap/a serverside-applied" in await kubectl(*apply, give=config(x="1", y="1"))
    await kubectl(*apply, give=config(x="2"))
    assert (await kubectl.read("configmap", "a"))["data"] == {"x": "2"}
    refused = await kubectl.run(*apply, "--field-manager=other", give=config(x="3"))
    assert refused.code == 1
    assert 'conflict with "kubectl": .data.x' in refused.err
    await kubectl(*apply, "--field-manager=other", "--force-conflicts", give=config(x="3"))
    assert (await kubectl.read("configmap", "a"))["data"] == {"x": "3"}


async def test_client_side_apply_removes_what_is_no_longer_said(kubectl: Kubectl) -> None:
    apply = ("apply", "-f", "-")
    assert await kubectl(*apply, give=service(tier="web", old="yes")) == "service/shop created\n"
    assert await kubectl(*apply, give=service(tier="web", old="yes")) == "service/shop unchanged\n"
    assert await kubectl(*apply, give=service(tier="db")) == "service/shop configured\n"
    assert (await kubectl.read("service", "shop"))["metadata"]["labels"] == {"tier": "db"}


async def test_what_was_made_is_got_described_and_named(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", give=service(tier="web"))
    assert await kubectl("get", "services", "-l", "tier=web", "-o", "name") == "service/shop\n"
    assert await kubectl("get", "services", "-l", "tier=db", "-o", "name") == ""
    listed = await kubectl("get", "services")
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "shop"]
    described = await kubectl("describe", "service", "shop")
    address = (await kubectl.read("service", "shop"))["spec"]["clusterIP"]
    assert address in described
    assert "tier=web" in described
    missing = await kubectl.run("get", "service", "none")
    assert missing.code == 1
    assert missing.err == 'Error from server (NotFound): services "none" not found\n'


async def test_an_edit_is_saved(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", give=config(x="before"))
    done = await kubectl("edit", "configmap", "a", KUBE_EDITOR="sed -i s/before/after/")
    assert done == "configmap/a edited\n"
    assert (await kubectl.read("configmap", "a"))["data"] == {"x": "after"}


async def test_labels_annotations_and_patches_are_written(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", give=service())
    await kubectl("label", "service", "shop", "tier=web")
    await kubectl("annotate", "service", "shop", "note=read")
    await kubectl("patch", "service", "shop", "-p", '{"spec":{"ports":[{"port":80,"targetPort":8080}]}}')
    found = await kubectl.read("service", "shop")
    assert found["metadata"]["labels"] == {"tier": "web"}
    assert found["metadata"]["annotations"] == {"note": "read"}
    assert [(port["name"], port["targetPort"]) for port in found["spec"]["ports"]] == [("http", 8080)]


async def test_a_watch_shows_what_comes_and_changes(kubectl: Kubectl, api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    watch = ("get", "configmaps", "-l", "seen=yes", "--watch", "--output-watch-events")
    async with kubectl.started(*watch) as process, asyncio.timeout(2 * DEADLINE):
        assert process.stdout is not None
        body = config(x="1")
        body["metadata"]["labels"] = {"seen": "yes"}
        await api.post(path, body)
        lines = [await process.stdout.readline() for _ in range(2)]
        await api.merge(f"{path}/a", {"data": {"x": "2"}})
        lines += [await process.stdout.readline()]
        await api.delete(f"{path}/a")
        lines += [await process.stdout.readline()]
    words = [line.split() for line in lines]
    assert words[0][:2] == [b"EVENT", b"NAME"]
    assert [row[0] for row in words[1:]] == [b"ADDED", b"MODIFIED", b"DELETED"]


async def test_a_delete_waits_for_finalizers(kubectl: Kubectl, api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = config()
    body["metadata"]["finalizers"] = ["contract.test/hold"]
    await api.post(path, body)
    async with kubectl.started("delete", "configmap", "a") as process, asyncio.timeout(2 * DEADLINE):
        await api.until(f"{path}/a", lambda answer: "deletionTimestamp" in answer.body["metadata"])
        assert process.returncode is None
        await api.merge(f"{path}/a", {"metadata": {"finalizers": None}})
        assert await process.wait() == 0
    assert (await api.get(f"{path}/a")).code == 404


async def test_a_namespace_is_made_and_deleted_with_all_in_it(kubectl: Kubectl, api: Api) -> None:
    made = await api.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}})
    name = made.body["metadata"]["name"]
    await kubectl("create", "-n", name, "-f", "-", give=config())
    await kubectl("delete", "namespace", name)
    assert (await api.get(f"/api/v1/namespaces/{name}")).code == 404


async def test_custom_resources_are_applied_checked_and_waited_for(
    kubectl: Kubectl, api: Api, routes: Routes
) -> None:
    definition = routes.definition.rpartition("/")[2]
    await kubectl("wait", "--for=condition=Established", f"crd/{definition}")
    await api.until("/openapi/v3", lambda answer: f"apis/{routes.api_version}" in answer.body["paths"])
    kind = definition.replace(".", ".v1.", 1)
    await kubectl("apply", "--server-side", "-f", "-", give=routes.route("a", replicas=2))
    assert (await kubectl.read(kind, "a"))["spec"]["replicas"] == 2
    wrong = await kubectl.run("apply", "-f", "-", give=routes.route("b", replica=2))
    assert wrong.code == 1
    assert 'unknown field "spec.replica"' in wrong.err
    over = await kubectl.run("apply", "-f", "-", give=routes.route("b", replicas=11))
    assert over.code == 1
    assert "spec.replicas" in over.err
    await kubectl(
        "patch", kind, "a", "--subresource=status", "--type=merge", "-p", '{"status":{"ready":true}}'
    )
    assert await kubectl("get", kind, "a", "-o", "jsonpath={.status.ready}") == "true"
    await kubectl("wait", "--for=jsonpath={.status.ready}=true", f"{kind}/a")
