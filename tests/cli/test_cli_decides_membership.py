"""`isthmus clusters drain|leave|forget` against a hub that has many clusters, or is none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

sys.path.append(str(Path(__file__).parents[1] / "agent"))

from spineservers import settles

from isthmus.api import crds, kinds
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.kube.definition import install
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

Isthmus = Callable[..., Awaitable[Any]]
MANY = 510
"""More than the 500 that a page of a list has."""
LAST = f"c{MANY - 1:04}"
SPACE = hub_namespace(ClusterId(LAST))


class Hub(NamedTuple):
    """The hub, and what the command is told to find it."""

    client: Client
    said: tuple[str, ...]
    elsewhere: tuple[str, ...]
    """A server that is no hub."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with ApiServer([ClusterConfig(name="hub"), ClusterConfig(name="member")]) as server:
        path = tmp_path / "kubeconfig"
        path.write_text(server.kubeconfig())
        said = ("--hub-kubeconfig", str(path), "--hub-context")
        async with Client(load_access(path, "hub")) as client:
            await install(client, crds.hub_crds())
            await client.create(kinds.CLUSTER, thing(kinds.CLUSTER, "", LAST))
            await client.create(kinds.NAMESPACE, thing(kinds.NAMESPACE, "", SPACE))
            await client.create(kinds.LEASE, thing(kinds.LEASE, SPACE, "heartbeat"))
            yield Hub(client, (*said, "hub"), (*said, "member"))


def thing(kind: Any, namespace: str, name: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name} if namespace else {"name": name}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


async def state(hub: Hub, text: str) -> None:
    await hub.client.patch(
        kinds.CLUSTER, ObjectKey("", LAST), {"status": {"state": text}}, subresource="status"
    )


async def there(hub: Hub, kind: Any, name: str, namespace: str = "") -> bool:
    page = await hub.client.list_page(kind, namespace=namespace, limit=1000)
    return name in [kind.decode(item).metadata.name for item in page.items]


async def test_any_of_many_clusters_is_found_and_a_living_one_is_not_forgotten(
    isthmus: Isthmus, hub: Hub
) -> None:
    others = [thing(kinds.CLUSTER, "", f"c{number:04}") for number in range(MANY - 1)]
    await asyncio.gather(*(hub.client.create(kinds.CLUSTER, one) for one in others))
    for verb, drained in (("drain", True), ("undrain", False)):
        ran = await isthmus("clusters", verb, LAST, *hub.said)
        assert (ran.code, ran.err) == (0, "")
        assert (await hub.client.get(kinds.CLUSTER, ObjectKey("", LAST))).spec.drain is drained
    await state(hub, "Ready")
    ran = await isthmus("clusters", "forget", LAST, "--yes", *hub.said)
    assert ran.code == 2
    assert f"{LAST} is alive" in ran.err
    assert await there(hub, kinds.CLUSTER, LAST)
    assert await there(hub, kinds.LEASE, "heartbeat", SPACE)
    assert await there(hub, kinds.NAMESPACE, SPACE)
    await state(hub, "Unknown")
    ran = await isthmus("clusters", "forget", LAST, "--yes", *hub.said)
    assert (ran.code, ran.err) == (0, "")
    assert not await there(hub, kinds.CLUSTER, LAST)
    assert not await there(hub, kinds.NAMESPACE, SPACE)
    ran = await isthmus("clusters", "forget", LAST, "--yes", *hub.said)
    assert f"the hub knows nothing of a cluster '{LAST}'" in ran.err


async def test_a_cluster_that_does_not_leave_is_told_of_with_what_to_do(isthmus: Isthmus, hub: Hub) -> None:
    key = ObjectKey("", LAST)
    ran = await isthmus("clusters", "leave", LAST, "--yes", *hub.said)
    assert f"no agent has ever run for {LAST}: isthmus clusters forget {LAST}" in ran.err
    await hub.client.patch(kinds.CLUSTER, key, {"spec": {"uid": "u-1"}})
    ran = await isthmus("clusters", "leave", LAST, "--yes", "--wait", "0.1", *hub.said)
    assert ran.code != 0
    assert f"{LAST} is told to leave and has not left after 0.1 s" in ran.err
    assert (await hub.client.get(kinds.CLUSTER, key)).spec.leave
    assert await there(hub, kinds.NAMESPACE, SPACE)


async def test_a_cluster_has_left_when_the_command_ends(isthmus: Isthmus, hub: Hub) -> None:
    key = ObjectKey("", LAST)
    await hub.client.patch(kinds.CLUSTER, key, {"spec": {"uid": "u-1"}})
    leaving = asyncio.create_task(isthmus("clusters", "leave", LAST, "--yes", *hub.said))

    async def told() -> bool:
        return (await hub.client.get(kinds.CLUSTER, key)).spec.leave

    await settles(told, "the cluster is told to leave")
    assert not leaving.done()
    await hub.client.delete(kinds.CLUSTER, key)  # what its agent does last
    ran = await leaving
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{LAST} has left. Remove its agent")
    assert not await there(hub, kinds.NAMESPACE, SPACE)


@pytest.mark.parametrize("verb", ["drain", "undrain", "leave", "forget"])
async def test_a_wrong_name_or_server_is_one_line(isthmus: Isthmus, hub: Hub, verb: str) -> None:
    yes = ("--yes",) if verb in ("leave", "forget") else ()
    wanted = {
        (LAST, hub.elsewhere): "is not a hub (it knows no kind Cluster): say --hub-kubeconfig",
        ("..", hub.said): "'..' is not a cluster id",
        ("c9999", hub.said): "'c9999'",
    }
    for (name, server), text in wanted.items():
        ran = await isthmus("clusters", verb, name, *yes, *server)
        assert (ran.code, ran.out) == (2, "")
        assert text in ran.err
        assert "Traceback" not in ran.err
