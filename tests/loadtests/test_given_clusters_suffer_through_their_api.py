"""What faults do to given clusters, on a real API server: it happens, it is undone, and it is seen to bite.

Nobody makes pods here, so the test is the Deployments' controller.
"""

from __future__ import annotations

import asyncio
import os
import string
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from isthmus.api import kinds, meta
from isthmus.api.meta import Kind, ObjectKey
from isthmus.demo.processes import Processes
from isthmus.errors import NotFound, PlatformError
from isthmus.fleet.heartbeat import LEASE_NAME, heartbeat_lease
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.kube.raw import raw
from isthmus.model.names import ClusterId
from loadtests.load.crowd import Crowd
from loadtests.load.faults.hub import HubLost
from loadtests.load.faults.rolling import RollingRestart
from loadtests.load.given import hub, namespace, shop
from loadtests.load.given.bed import GivenBed
from loadtests.load.marks import Trace

if TYPE_CHECKING:
    from control_plane import ControlPlanes

pytestmark = pytest.mark.realapi

RBAC = Path(__file__).resolve().parents[2] / "deploy" / "rbac"
AGENT = "system:serviceaccount:isthmus-a:isthmus-agent"
REVIEW = raw(
    Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", False, meta.Object)
)
SECONDS = 180.0


@asynccontextmanager
async def given(folder: Path, control_planes: ControlPlanes) -> AsyncIterator[GivenBed]:
    """A bed of one cluster, which is the hub too."""
    (folder / "kubeconfig").write_text(control_planes.kubeconfig("given"))
    async with (
        Client(load_access(folder / "kubeconfig")) as client,
        Processes(folder, os.environ) as processes,
    ):
        yield GivenBed(
            clusters=["a"],
            namespace=shop.NAMESPACE,
            clients={"a": client, "hub": client},
            policies=[],
            processes=processes,
            crowd=Crowd(processes, folder, [], shop.NAMESPACE),
            consoles={},
        )


async def apply(client: Client, body: dict[str, Any]) -> None:
    group, _, version = body["apiVersion"].rpartition("/")
    plural = f"{body['kind'].lower()}s"
    namespaced = "namespace" in body["metadata"]
    kind = Kind(group, version, body["kind"], plural, namespaced, meta.Object)
    await client.apply(kind, body, manager="test")


def pod(number: int, service: str) -> dict[str, Any]:
    metadata = {"name": f"{service}-{number}", "namespace": shop.NAMESPACE, "labels": {"app": service}}
    spec = {"containers": [{"name": "any", "image": "any"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def seen(trace: Trace, replaced: float) -> None:
    async with asyncio.timeout(SECONDS):
        while trace.counts.get("pods replaced") != replaced:
            await asyncio.sleep(0.05)


async def let(client: Client, *, beat: bool) -> None:
    """Waits until the API server lets the agent of `a` renew its heartbeat, or lets it no more."""
    asked = {
        "group": "coordination.k8s.io",
        "resource": "leases",
        "verb": "patch",
        "namespace": "isthmus-a",
        "name": LEASE_NAME,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"user": AGENT, "resourceAttributes": asked},
    }
    async with asyncio.timeout(SECONDS):
        while (await client.create(REVIEW, body))["status"]["allowed"] is not beat:
            await asyncio.sleep(0.05)


async def furnished(client: Client) -> None:
    """The shop's namespace with its Deployments, and pods of `front` as their controller makes them."""
    await namespace.claim(client)
    for kind, body in shop.objects("a", "any", 6.5):
        if kind is not shop.EXPORTS:  # this server does not know them
            await client.apply(kind, body, manager="test")
    for number in range(shop.SIZES["front"]):
        await client.create(shop.PODS, pod(number, "front"))


async def test_a_restart_has_bitten_when_every_old_pod_is_gone(
    tmp_path: Path, control_planes: ControlPlanes
) -> None:
    async with given(tmp_path, control_planes) as made:
        client, fault = made.clients["a"], RollingRestart(cluster="a", services=("front",))
        await furnished(client)
        before = await made.deployment("a", "front")
        async with made.happens(fault) as trace:
            after = await made.deployment("a", "front")
            assert before["metadata"]["generation"] < after["metadata"]["generation"]
            await client.create(shop.PODS, pod(7, "front"))
            await client.delete(shop.PODS, ObjectKey(shop.NAMESPACE, "front-0"))
            await seen(trace, 1)
            await client.delete(shop.PODS, ObjectKey(shop.NAMESPACE, "front-1"))
            await seen(trace, 2)
        assert trace.evidence == "all 2 pods of front in a replaced"
        async with made.happens(fault) as trace:
            await seen(trace, 0)
        assert trace.evidence == ""
        await namespace.remove_from(made.clients)
        with pytest.raises(NotFound):
            await client.get(shop.NAMESPACES, ObjectKey("", shop.NAMESPACE))


async def test_a_namespace_of_somebody_else_is_left_alone(
    tmp_path: Path, control_planes: ControlPlanes
) -> None:
    async with given(tmp_path, control_planes) as made:
        client = made.clients["a"]
        theirs = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shop.NAMESPACE}}
        await client.create(shop.NAMESPACES, theirs)
        with pytest.raises(PlatformError, match="a namespace isthmus-load that is not ours"):
            await namespace.claim(client)
        await namespace.remove_from(made.clients)
        found = await client.get(shop.NAMESPACES, ObjectKey("", shop.NAMESPACE))
        assert found.metadata.deletion_timestamp is None
        await client.delete(shop.NAMESPACES, ObjectKey("", shop.NAMESPACE))
        await namespace.gone(client)


async def test_a_lost_hub_takes_no_heartbeat_until_it_is_back(
    tmp_path: Path, control_planes: ControlPlanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(hub, "TELLING_SECONDS", 0.0)
    values = {"CLUSTER": "a", "NAMESPACE": "isthmus-a"}
    async with given(tmp_path, control_planes) as made:
        client = made.hub
        for file in ("hub.yaml", "hub-agent.yaml"):
            text = string.Template((RBAC / file).read_text()).substitute(values)
            for body in yaml.safe_load_all(text):
                await apply(client, body)

        async def beat(wall: float) -> None:
            lease = heartbeat_lease(cluster=ClusterId("a"), namespace="isthmus-a", wall=wall)
            await client.apply(kinds.LEASE, lease, manager="test")

        await beat(1.0)
        await let(client, beat=True)
        async with made.happens(HubLost()) as trace:
            await let(client, beat=False)
        await let(client, beat=True)
        assert trace.evidence.startswith("the hub took no heartbeat of a in")
        async with made.happens(HubLost()) as trace:
            await beat(2.0)
        assert trace.evidence == ""
        # One binding that is gone meanwhile costs no other one its subjects.
        lost, *others = hub.bindings_of("a")
        with pytest.raises(ExceptionGroup) as failed:
            async with made.happens(HubLost()):
                await client.delete(*lost)
        assert [type(error) for error in failed.value.exceptions] == [NotFound]
        for kind, key in others:
            assert (await client.get(kind, key))["subjects"], key


async def test_a_hub_that_does_not_know_a_cluster_is_told_in_one_line(
    tmp_path: Path, control_planes: ControlPlanes
) -> None:
    (tmp_path / "kubeconfig").write_text(control_planes.kubeconfig("given"))
    here = {"kubeconfig": "kubeconfig", "dns": "127.0.0.1:1", "xds": "127.0.0.1:1", "console": "127.0.0.1:1"}
    clusters = [
        {**here, "name": "a", "plays": ["eu-1"], "pods": []},
        {**here, "name": "b", "plays": ["eu-2", "us-1"], "pods": []},
    ]
    file = tmp_path / "clusters.yaml"
    file.write_text(yaml.safe_dump({"hub": {"kubeconfig": "kubeconfig"}, "clusters": clusters}))
    words = ("drain", "--clusters", str(file), "--envoy", "/bin/true", "--out", str(tmp_path / "out"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.load.run", *words),
        cwd=RBAC.parents[1],
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 3
    assert "load: the hub (given) knows no cluster 'a'" in " ".join(said.decode().split())
    assert b"Traceback" not in said
