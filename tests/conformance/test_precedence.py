"""Whose export is the oldest when clocks differ: KEP-1645, conflict resolution by creationTimestamp."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import AMS, CIDRS, FRA, Space, Spine, clusters_of
from spineservers import Embedded, Real

from isthmus.api import kinds, labels
from isthmus.api.meta import Kind
from isthmus.errors import KubeError
from isthmus.kube.raw import RawObject

HOUR = 3600.0


@asynccontextmanager
async def seen(space: Space, cluster: str, kind: Kind[Any]) -> AsyncIterator[list[RawObject]]:
    """Everything that ever stood in objects of a kind meanwhile."""
    found: list[RawObject] = []
    note = found.append  # each as it comes: the watch is cut off in the end

    async def follow() -> None:
        async with space.world.clients[cluster].watch(kind) as lines:
            async for line in lines:
                event = json.loads(line)
                if event["type"] != "BOOKMARK":
                    note(event["object"])

    task = asyncio.create_task(follow())
    try:
        yield found
    finally:
        task.cancel()
        with pytest.raises((asyncio.CancelledError, KubeError)):
            await task


async def recorded(space: Space, cluster: str) -> str:
    """The record of an export's age, once it is written: the time and the export's uid."""

    async def look() -> str | None:
        found = await space.read(cluster, kinds.SERVICE_EXPORT)
        return found["metadata"].get("annotations", {}).get(labels.EXPORTED_AT)

    return await space.settles(look, "the record of the export's age")


@pytest.mark.parametrize("ahead", [-HOUR, HOUR], ids=["an-hour-slow", "an-hour-fast"])
@pytest.mark.parametrize("servers", ["embedded", pytest.param("real", marks=pytest.mark.realapi)])
async def test_a_late_joiner_takes_nothing_over_whatever_its_clock_says(
    request: pytest.FixtureRequest, tmp_path: Path, servers: str, ahead: float
) -> None:
    """Rules: C1, C2. Specs: -. Its export, and its agent, come second; its API server's clock is wrong."""
    chosen: Embedded | Real
    if servers == "real":
        planes = request.getfixturevalue("control_planes")
        chosen = Real(planes, members=(AMS, FRA), cidrs=CIDRS, clocks={FRA: ahead})
    else:
        chosen = Embedded((AMS, FRA), clocks={FRA: ahead})
    async with Spine(tmp_path, chosen) as world:
        space = Space(world)
        await space.open(AMS, FRA)
        await world.start("hub", AMS)
        await space.offer(AMS)
        await space.service(FRA, headless=True, sessionAffinity="None")
        await space.export(FRA)
        early = (await space.read(AMS, kinds.SERVICE_EXPORT))["metadata"]["creationTimestamp"]
        late = (await space.read(FRA, kinds.SERVICE_EXPORT))["metadata"]["creationTimestamp"]
        assert (late < early) is (ahead < 0)
        async with (
            seen(space, AMS, kinds.SERVICE_IMPORT) as imports,
            seen(space, FRA, kinds.SERVICE_IMPORT) as theirs,
            seen(space, "hub", kinds.EXPORTED_SERVICE) as exports,
        ):
            await world.start(FRA)
            for cluster in (AMS, FRA):
                told = await space.told(cluster, "Conflict", "True", "TypeConflict")
                assert '"ClusterSetIP" from oldest service export in "ams-1"' in told["message"]
            for cluster in (AMS, FRA):
                await space.imported(cluster, good=lambda one: len(clusters_of(one)) == 2)
        assert imports
        assert theirs
        assert {one["spec"]["type"] for one in (*imports, *theirs)} == {"ClusterSetIP"}
        ages = {one["spec"]["cluster"]: one["spec"]["exportedAt"] for one in exports}
        assert ages[AMS] < ages[FRA]
        assert all(one["spec"]["exportedAt"] >= ages[AMS] for one in exports)

        async def kept() -> bool:
            age = (await recorded(space, FRA)).partition(" ")[0]
            on_hub = await world.everything("hub", kinds.EXPORTED_SERVICE)
            return [one["spec"]["exportedAt"] for one in on_hub if one["spec"]["cluster"] == FRA] == [age]

        await space.settles(kept, "the hub has the age that the export records")


async def test_a_recorded_age_is_kept_when_the_clock_is_corrected(tmp_path: Path) -> None:
    """Rules: C1. Specs: -. A restart with another offset, and the export's record, change no order."""
    servers = Embedded((AMS, FRA), clocks={FRA: -HOUR})
    async with Spine(tmp_path, servers) as world:
        space = Space(world)
        await space.open(AMS, FRA)
        await world.start("hub", AMS, FRA)
        await space.offer(AMS)
        await space.service(FRA, sessionAffinity="ClientIP")
        await space.export(FRA)
        await space.told(FRA, "Conflict", "True", "SessionAffinityConflict")
        before = await recorded(space, FRA)
        await world.agents[FRA].stop()
        await world.agents[FRA].start()
        await space.service(FRA, sessionAffinity="ClientIP", internalTrafficPolicy="Local")
        await space.told(AMS, "Conflict", "True", "SessionAffinityConflict,InternalTrafficPolicyConflict")
        assert await recorded(space, FRA) == before
