"""A cluster id belongs to one cluster: a second one is refused, loudly, and harms nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import aiohttp

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Agent, Spine, answers, pods
from spineservers import Embedded
from spinewaits import settles

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey

MEMBERS = ("eu-1", "eu-2", "eu-3")


async def status(agent: Agent) -> dict[str, Any]:
    """What the agent's console says, {} while nobody answers."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{agent.console_port}/v1/status") as response,
        ):
            found: dict[str, Any] = await response.json()
            return found
    except aiohttp.ClientError:
        return {}


async def phase(agent: Agent, wanted: str) -> str:
    """Waits until the agent says that its cluster stands so; gives the reason."""

    async def look() -> tuple[str] | None:
        found = (await status(agent)).get("membership", {})
        return (found["reason"],) if found.get("phase") == wanted else None

    return (await settles(look, f"{agent.name} is {wanted}", agent.log))[0]


async def holder(spine: Spine, cluster: str = "eu-1") -> str:
    """The uid that the Cluster object names."""
    found = await spine.get("hub", kinds.CLUSTER, cluster, "")
    return str((found or {}).get("spec", {}).get("uid", ""))


async def uid(spine: Spine, member: str) -> str:
    found = await spine.get(member, kinds.NAMESPACE, "kube-system", "")
    assert found is not None
    return str(found["metadata"]["uid"])


async def exported(spine: Spine, cluster: str = "eu-1") -> list[dict[str, Any]]:
    """Everything in a cluster's namespace on the hub, by content and version."""
    found = [
        one
        for kind in (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS)
        for one in await spine.everything("hub", kind)
        if one["metadata"]["namespace"] == f"isthmus-{cluster}"
    ]
    return sorted(found, key=lambda one: json.dumps(one["metadata"]["name"]))


async def test_a_second_cluster_of_the_same_id_exports_nothing_and_harms_nobody(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded(MEMBERS)) as spine:
        second = Agent("eu-2", tmp_path, named="eu-1")
        spine.agents["eu-2"] = second
        await spine.serve("eu-1", "web")
        await spine.serve("eu-2", "web")
        await spine.serve("eu-3", "other", headless=True)
        await spine.start("eu-1", "eu-3")

        async def there() -> bool:
            return len(await exported(spine)) == 2

        await settles(there, "eu-1 has exported", spine.agents["eu-1"].log)
        before = await exported(spine)
        await spine.start("eu-2")
        reason = await phase(second, "Taken")
        assert "isthmus clusters forget eu-1" in reason
        assert await uid(spine, "eu-2") in reason
        assert "Taken" in second.log.read_text()
        await answers(spine, "eu-2", pods("eu-3"), "other")  # it goes on serving what it reads
        assert await exported(spine) == before
        assert await holder(spine) == await uid(spine, "eu-1")
        # The operator says that the first is gone for good; it is, and the second takes its place.
        await spine.agents["eu-1"].stop()
        await spine.clients["hub"].delete(kinds.CLUSTER, ObjectKey("", "eu-1"))
        await phase(second, "Member")
        assert await holder(spine) == await uid(spine, "eu-2")

        async def replaced() -> bool:
            found = await exported(spine)
            return pods("eu-2") == sorted(
                address
                for one in found
                for entry in one["spec"].get("endpoints", ())
                for address in entry["addresses"]
            )

        await settles(replaced, "what the second offers is what is exported", second.log)
        # The first comes back, and learns that it has been replaced.
        after = await exported(spine)
        await spine.agents["eu-1"].start()
        await phase(spine.agents["eu-1"], "Taken")
        assert await exported(spine) == after


async def test_of_two_clusters_that_start_at_once_exactly_one_gets_the_id(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded(MEMBERS)) as spine:
        spine.agents = {name: Agent(name, tmp_path, named="eu-1") for name in MEMBERS}
        await spine.start(*MEMBERS)

        async def decided() -> list[str] | None:
            found = [(await status(one)).get("membership", {}).get("phase") for one in spine.agents.values()]
            return [str(one) for one in found] if set(found) <= {"Member", "Taken"} else None

        found = dict(zip(MEMBERS, await settles(decided, "all have decided"), strict=True))
        assert sorted(found.values()) == ["Member", "Taken", "Taken"]
        (winner,) = [name for name, one in found.items() if one == "Member"]
        assert await holder(spine) == await uid(spine, winner)


async def test_a_cluster_is_recorded_as_what_it_joined_as_and_runs_under_no_other_id(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded(MEMBERS)) as spine:
        await spine.serve("eu-1", "web")
        await spine.start("eu-1")

        async def recorded() -> bool:
            found = await spine.everything("eu-1", kinds.CLUSTER_PROPERTY)
            said = {one["metadata"]["name"]: one["spec"]["value"] for one in found}
            return said == {"cluster.clusterset.k8s.io": "eu-1", "clusterset.k8s.io": "default"}

        await settles(recorded, "the cluster's properties", spine.agents["eu-1"].log)
        await spine.agents["eu-1"].stop()
        before = [
            await spine.everything("eu-1", kind) for kind in (kinds.SERVICE_IMPORT, kinds.ENDPOINT_SLICE)
        ]
        renamed = Agent("eu-1", tmp_path, named="eu-9")
        spine.agents["eu-1"] = renamed
        await renamed.start()
        reason = await phase(renamed, "Misnamed")
        assert "--cluster eu-1" in reason
        assert await spine.get("hub", kinds.CLUSTER, "eu-9", "") is None
        after = [
            await spine.everything("eu-1", kind) for kind in (kinds.SERVICE_IMPORT, kinds.ENDPOINT_SLICE)
        ]
        assert after == before
