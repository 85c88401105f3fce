"""What becomes of a cluster's exports when it is silent, drained, leaves, is forgotten, or was away."""

from __future__ import annotations

import asyncio
import shutil
import sys

import aiohttp
from clusterset import AMS, FRA, NYC, Embedded, Space, Spine, addresses, clusters_of, conditions, pod

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId


async def isthmus(world: Spine, *arguments: str) -> str:
    """Runs `isthmus clusters …` against the hub; gives what it printed."""
    hub = ["--hub-kubeconfig", str(world.root / "kubeconfig"), "--hub-context", "hub"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "isthmus", "clusters", *arguments, *hub),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed


async def on_hub(space: Space, cluster: str) -> list[str]:
    """What a cluster exports of this namespace, by name."""
    key = hub_namespace(ClusterId(cluster))
    found = await space.world.everything("hub", kinds.EXPORTED_SERVICE)
    names = [one["metadata"]["name"] for one in found if one["metadata"]["namespace"] == key]
    return [name for name in names if name.endswith(f".{space.name}")]


async def member_again(space: Space, cluster: str) -> None:
    """Lets a cluster that has left join again, and waits until it has."""
    world = space.world
    await world.apply(
        "hub",
        kinds.CLUSTER,
        {"apiVersion": "hub.isthmus.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": cluster}},
    )
    key = ObjectKey("", "cluster.clusterset.k8s.io")
    mark = {"metadata": {"annotations": {"isthmus.dev/left": None}}}
    await world.clients[cluster].patch(kinds.CLUSTER_PROPERTY, key, mark)

    async def joined() -> bool:
        found = await world.get(cluster, kinds.CLUSTER_PROPERTY, "clusterset.k8s.io", "")
        entry = await world.get("hub", kinds.CLUSTER, cluster, "")
        return found is not None and bool(entry and entry["spec"].get("uid"))

    await space.settles(joined, f"{cluster} is a member again")


async def test_a_member_is_recorded_as_what_it_joined_as(world: Spine, space: Space) -> None:
    """Rules: E1. Specs: -.

    ClusterProperty (KEP-2149) in the member, and its uid on the hub.
    """
    for cluster in (AMS, FRA, NYC):

        async def recorded(cluster: str = cluster) -> bool:
            found = await world.everything(cluster, kinds.CLUSTER_PROPERTY)
            said = {one["metadata"]["name"]: one["spec"]["value"] for one in found}
            system = await world.get(cluster, kinds.NAMESPACE, "kube-system", "")
            entry = await world.get("hub", kinds.CLUSTER, cluster, "")
            assert system is not None
            holder = (entry or {}).get("spec", {}).get("uid")
            names = {"cluster.clusterset.k8s.io": cluster, "clusterset.k8s.io": "default"}
            return said == names and holder == system["metadata"]["uid"]

        await space.settles(recorded, f"who {cluster} is")


async def test_a_cluster_that_was_away_makes_good_what_it_missed(world: Spine, space: Space) -> None:
    """Rules: R4, E2. Specs: -.

    Exports deleted, Services changed and namespaces ended while the agent was down; and a late joiner, for it
    comes back with an empty state directory.
    """
    await space.offer(NYC, "old")
    await space.offer(NYC, "kept")
    await space.imported(AMS, "old")
    await world.agents[NYC].stop()
    shutil.rmtree(world.agents[NYC].state_dir)
    await space.unexport(NYC, "old")
    await space.delete(NYC, kinds.SERVICE, "kept")
    await space.offer(AMS, "new")
    await world.start(NYC)
    await space.gone(kinds.SERVICE_IMPORT, "old")
    await space.gone(kinds.SERVICE_IMPORT, "kept")
    await space.imported(NYC, "new", lambda found: clusters_of(found) == [AMS])
    assert await on_hub(space, NYC) == []


async def test_a_namespace_comes_back_and_so_do_its_exports(world: Spine, space: Space) -> None:
    """Rules: E1, R4. Specs: -."""
    await space.offer(AMS)
    await space.imported(FRA)
    await space.close(AMS)
    await space.gone(kinds.NAMESPACE, space.name, [AMS])
    await space.gone(kinds.SERVICE_IMPORT, "web", [FRA, NYC])
    await space.open(AMS)
    await space.offer(AMS)
    await space.imported(FRA, good=lambda found: clusters_of(found) == [AMS])


async def test_a_namespace_with_an_export_ends_while_the_hub_is_away(world: Spine, space: Space) -> None:
    """Rules: E1, R4. Specs: -.

    No finalizer of ours holds it, and the hub converges when it is back.
    """
    await space.offer(AMS)
    await space.imported(FRA)
    world.servers.silence("hub")
    try:
        await space.close(AMS)
        await space.gone(kinds.NAMESPACE, space.name, [AMS])
        assert await space.get(FRA, kinds.SERVICE_IMPORT) is not None
    finally:
        world.servers.revive("hub")
    await space.gone(kinds.SERVICE_IMPORT, "web", [FRA, NYC])
    assert await on_hub(space, AMS) == []


async def test_a_drained_cluster_gets_no_new_sessions_and_loses_nothing(world: Spine, space: Space) -> None:
    """Rules: C4. Specs: -."""
    await space.offer(AMS)
    await space.offer(NYC)
    both = sorted(pod(cluster, number) for cluster in (AMS, NYC) for number in (1, 2))
    await space.derived_slices(FRA, lambda found: addresses(found) == both)
    assert "undrain" in await isthmus(world, "drain", NYC)
    await space.derived_slices(FRA, lambda found: addresses(found) == [pod(AMS, 1), pod(AMS, 2)])
    assert clusters_of(await space.imported(FRA)) == [AMS, NYC]
    await space.slices(FRA, lambda found: addresses(found) == both)
    await isthmus(world, "undrain", NYC)
    await space.derived_slices(FRA, lambda found: addresses(found) == both)


async def test_a_silent_cluster_is_unknown_and_nothing_of_it_is_removed(world: Spine, space: Space) -> None:
    """Rules: E2. Specs: -.

    Where the KEP recommends to delete the slices of a cluster whose lease has expired, we do not: silence is
    not death.
    """
    await space.offer(NYC)
    await space.imported(FRA, good=lambda found: found["spec"]["ips"])
    await space.slices(FRA, lambda found: addresses(found) == [pod(NYC, 1), pod(NYC, 2)])
    before = [(await space.read(FRA, kinds.SERVICE_IMPORT))["spec"], addresses(await space.slices(FRA))]
    await world.agents[NYC].stop()

    async def unknown() -> bool:
        entry = await world.get("hub", kinds.CLUSTER, NYC, "")
        return (entry or {}).get("status", {}).get("state") == "Unknown"

    await space.settles(unknown, "NYC is unknown")
    after = [(await space.read(FRA, kinds.SERVICE_IMPORT))["spec"], addresses(await space.slices(FRA))]
    assert after == before
    await world.start(NYC)

    async def back() -> bool:
        entry = await world.get("hub", kinds.CLUSTER, NYC, "")
        return (entry or {}).get("status", {}).get("state") == "Ready"

    await space.settles(back, "NYC is ready again")


async def test_a_cluster_that_leaves_withdraws_first_and_imports_nothing_after(
    world: Spine, space: Space
) -> None:
    """Rules: E1, R4. Specs: -."""
    await space.offer(AMS)
    await space.offer(NYC)
    both = sorted(pod(cluster, number) for cluster in (AMS, NYC) for number in (1, 2))
    await space.slices(FRA, lambda found: addresses(found) == both)
    uid = (await space.read(FRA, kinds.SERVICE_IMPORT))["metadata"]["uid"]
    if isinstance(world.servers, Embedded):
        assert "has left" in await isthmus(world, "leave", NYC, "--yes")
        assert await world.get("hub", kinds.NAMESPACE, hub_namespace(ClusterId(NYC)), "") is None
    else:  # the command also deletes the namespace, and with it the account that NYC needs to join again
        await world.clients["hub"].patch(kinds.CLUSTER, ObjectKey("", NYC), {"spec": {"leave": True}})

    async def left() -> bool:
        assert await world.get("hub", kinds.CLUSTER, NYC, "") is not None or not await on_hub(space, NYC)
        found = await world.everything(NYC, kinds.CLUSTER_PROPERTY)
        return [one["metadata"]["name"] for one in found] == ["cluster.clusterset.k8s.io"]

    await space.settles(left, "NYC has left")
    assert await world.get("hub", kinds.CLUSTER, NYC, "") is None
    lease = await world.get("hub", kinds.LEASE, "heartbeat", hub_namespace(ClusterId(NYC)))
    assert lease is None
    await space.gone(kinds.SERVICE_IMPORT, "web", [NYC])
    await space.slices(FRA, lambda found: addresses(found) == [pod(AMS, 1), pod(AMS, 2)])
    kept = await space.imported(FRA, good=lambda found: clusters_of(found) == [AMS])
    assert kept["metadata"]["uid"] == uid

    async def told() -> bool:
        """First it is told that the cluster leaves."""
        found = conditions(await space.get(NYC, kinds.SERVICE_EXPORT)).get("Ready", {})
        return found.get("status") == "False" and "left" in found["message"]

    await space.settles(told, "that NYC has left")
    # A restart does not make it a member again; its people do.
    await world.agents[NYC].stop()
    await world.start(NYC)
    await space.settles(lambda: _phase(world, NYC, "Left"), "NYC has still left")
    assert await world.get("hub", kinds.CLUSTER, NYC, "") is None
    await member_again(space, NYC)
    await space.slices(FRA, lambda found: addresses(found) == both)
    await space.imported(NYC, good=lambda found: clusters_of(found) == [AMS, NYC])


async def _phase(world: Spine, cluster: str, wanted: str) -> bool:
    url = f"http://127.0.0.1:{world.agents[cluster].console_port}/v1/status"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return bool((await answer.json())["membership"]["phase"] == wanted)
    except aiohttp.ClientError:
        return False


async def test_what_lies_in_a_namespace_speaks_for_its_cluster_alone(world: Spine, space: Space) -> None:
    """Rules: E1. Specs: -.

    An export that claims to be another cluster's is refused; one in the namespace of a cluster that is no
    member counts for nothing, until it is one.
    """
    spec = {
        "service": {"namespace": space.name, "name": "web"},
        "algorithm": 1,
        "exportedAt": "2026-01-01T00:00:00.000000Z",
        "type": "ClusterSetIP",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "ipFamilies": ["IPv4"],
    }
    ghost = "isthmus-ghost"
    await world.apply(
        "hub", kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ghost}}
    )
    for namespace, claimed in ((hub_namespace(ClusterId(AMS)), FRA), (ghost, "ghost"), (ghost, FRA)):
        name = f"web.{space.name}" if claimed == "ghost" or namespace != ghost else f"forged.{space.name}"
        body = {
            "apiVersion": "hub.isthmus.dev/v1alpha1",
            "kind": "ExportedService",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"cluster": claimed, **spec},
        }
        await world.apply("hub", kinds.EXPORTED_SERVICE, body)
    # What comes later was read later: by then, the forged ones were judged.
    await space.offer(NYC, "later")
    await space.imported(AMS, "later")
    assert await space.get(AMS, kinds.SERVICE_IMPORT) is None
    entry = {"apiVersion": "hub.isthmus.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "ghost"}}
    await world.apply("hub", kinds.CLUSTER, entry)
    await space.imported(AMS, good=lambda found: clusters_of(found) == ["ghost"])
    assert "forgotten" in await isthmus(world, "forget", "ghost", "--yes")
    await space.gone(kinds.SERVICE_IMPORT)


async def test_a_forgotten_cluster_is_dropped_by_everybody(world: Spine, space: Space) -> None:
    """Rules: E2, R4. Specs: -.

    And comes back with everything, where it may register.
    """
    await space.offer(FRA)
    await space.imported(AMS)
    await world.agents[FRA].stop()
    printed = await isthmus(world, "forget", FRA, "--yes", "--force")
    assert "forgotten" in printed
    await space.gone(kinds.SERVICE_IMPORT, "web", [AMS, NYC])
    assert await on_hub(space, FRA) == []
    assert await world.get("hub", kinds.CLUSTER, FRA, "") is None
    if not isinstance(world.servers, Embedded):
        return  # its account was in the namespace that is gone: it has to be admitted again
    await world.start(FRA)
    await space.imported(AMS, good=lambda found: clusters_of(found) == [FRA])
