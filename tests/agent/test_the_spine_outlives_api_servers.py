"""Accidents of API servers: nobody goes without answers, and what was missed is caught up with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine, answers, both_serve, endpoints, pods
from spineservers import settles

from isthmus.api import kinds

MOVED = ["10.65.0.9"]


@pytest.mark.parametrize("accident", ["crash", "silence"])
async def test_a_hub_that_was_away_costs_no_answers_and_is_caught_up_with(
    spine: Spine, accident: str
) -> None:
    await both_serve(spine)
    getattr(spine.servers, accident)("hub")
    # What happens in the cluster itself goes on to be heard.
    await spine.apply("eu-1", kinds.ENDPOINT_SLICE, endpoints("eu-1", "web", ["10.64.0.9"]))
    await answers(spine, "eu-1", ["10.64.0.9", *pods("eu-2")])
    await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", MOVED))
    spine.servers.revive("hub")
    await answers(spine, "eu-1", ["10.64.0.9", *MOVED])


@pytest.mark.parametrize("accident", ["crash", "silence"])
async def test_a_member_whose_api_server_was_away_serves_and_writes_again(
    spine: Spine, accident: str
) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]
    getattr(spine.servers, accident)("eu-1")
    # The hub is still heard, so the others' endpoints go on to move.
    await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", MOVED))
    await answers(spine, "eu-1", [*pods("eu-1"), *MOVED])
    spine.servers.revive("eu-1")

    async def written() -> bool:
        found = [
            address
            for one in await spine.everything("eu-1", kinds.ENDPOINT_SLICE)
            if one["metadata"]["labels"].get("multicluster.kubernetes.io/source-cluster") == "eu-2"
            for endpoint in one["endpoints"]
            for address in endpoint["addresses"]
        ]
        return found == MOVED

    await settles(written, "eu-2's new endpoint in eu-1's slices", agent.log)


async def test_an_agent_that_starts_before_its_api_server_follows_it(spine: Spine) -> None:
    for cluster in ("eu-1", "eu-2"):
        await spine.serve(cluster, "web")
    spine.servers.crash("eu-1")
    await spine.start("eu-1", "eu-2")

    async def exported() -> bool:
        found = await spine.everything("hub", kinds.EXPORTED_SERVICE)
        return [one["spec"]["cluster"] for one in found] == ["eu-2"]

    await settles(exported, "eu-2 exports, eu-1 knows nothing yet")
    spine.servers.revive("eu-1")

    async def imported() -> bool:
        found = await spine.get("eu-1", kinds.SERVICE_IMPORT, "web")
        return found is not None and len(found.get("status", {}).get("clusters", [])) == 2

    await settles(imported, "an import of both clusters in eu-1")
