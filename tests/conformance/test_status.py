"""What owners of exports and callers of imports are told: conditions, generations, clusters, slices."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import AMS, FRA, HTTP, MEMBERS, NYC, Space, clusters_of, conditions, refusing

from isthmus.api import kinds


async def test_a_good_export_is_valid_ready_and_not_in_conflict(space: Space) -> None:
    """Rules: R1. Specs: -. Every condition says of which generation of the export it speaks."""
    await space.offer(AMS)
    await space.told(AMS, "Ready", "True", "Exported")
    found = await space.read(AMS, kinds.SERVICE_EXPORT)
    told = conditions(found)
    own = {name: one for name, one in told.items() if not name.startswith("isthmus.dev/")}
    assert {name: (one["status"], one["reason"]) for name, one in own.items()} == {
        "Valid": ("True", "Valid"),
        "Ready": ("True", "Exported"),
        "Conflict": ("False", "NoConflicts"),
    }
    assert all(one["message"] for one in own.values())
    assert all(one["lastTransitionTime"] for one in told.values())


async def test_conditions_follow_the_generation_and_keep_their_time(space: Space) -> None:
    """Rules: C2. Specs: -. lastTransitionTime moves with the status alone."""
    await space.offer(AMS)
    before = await space.told(AMS, "Valid", "True")
    await space.export(AMS, labels={"team": "blue"})
    generation = (await space.read(AMS, kinds.SERVICE_EXPORT))["metadata"]["generation"]
    assert generation > before["observedGeneration"]

    async def observed() -> bool:
        told = conditions(await space.get(AMS, kinds.SERVICE_EXPORT))
        return all(one["observedGeneration"] == generation for one in told.values())

    await space.settles(observed, f"all conditions speak of generation {generation}")
    after = await space.told(AMS, "Valid", "True")
    assert after["lastTransitionTime"] == before["lastTransitionTime"]


async def test_what_the_hub_refuses_is_told_until_it_takes_it(space: Space) -> None:
    """Rules: R1. Specs: -. Ready=False with reason Failed and the hub's own words; it heals by itself."""
    async with refusing(space.world, AMS):
        await space.service(AMS)
        await space.endpoints(AMS)
        await space.export(AMS)
        told = await space.told(AMS, "Ready", "False", "Failed")
        assert "403" in told["message"]
        await space.told(AMS, "Valid", "True", "Valid")
        assert await space.get(FRA, kinds.SERVICE_IMPORT) is None
        # Its own callers have it: this cluster needs no hub to know what it exports itself.
        await space.imported(AMS)
        await space.offer(FRA)
    await space.told(AMS, "Ready", "True", "Exported")
    for found in await space.everywhere(lambda one: len(clusters_of(one)) == 2):
        assert clusters_of(found) == [AMS, FRA]


async def test_an_import_names_its_clusters_and_says_that_slices_are_there(space: Space) -> None:
    """Rules: E1, R4. Specs: 17. As long as it stands, and for the clusters that export now."""
    await space.offer(AMS)
    await space.offer(NYC)
    for cluster in MEMBERS:
        found = await space.imported(cluster, good=lambda one: clusters_of(one) == [AMS, NYC])
        assert found["status"]["endpointSliceObjects"] == "Present"
        assert await space.slices(cluster, lambda found: len(found) == 2)
        told = await space.told(cluster, "Ready", "True", "Ready", kind=kinds.SERVICE_IMPORT)
        assert told["observedGeneration"] >= 1

    async def current() -> bool:
        found = await space.read(FRA, kinds.SERVICE_IMPORT)
        told = conditions(found)["Ready"]
        return bool(told["observedGeneration"] == found["metadata"]["generation"])

    await space.settles(current, "the condition speaks of the import as it is")
    await space.unexport(AMS)
    await space.everywhere(lambda one: clusters_of(one) == [NYC])


async def test_an_export_that_no_longer_fits_takes_its_import_away(space: Space) -> None:
    """Rules: R2, R4, C6. Specs: -. A Service that becomes ExternalName, and comes back."""
    await space.offer(AMS)
    await space.told(AMS, "Conflict", "False")
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.service(AMS, ports=(), type="ExternalName", externalName="example.org")
    await space.told(AMS, "Valid", "False", "InvalidServiceType")
    await space.gone(kinds.SERVICE_IMPORT)
    await space.no_conflict(AMS)
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.service(AMS, ports=[HTTP])
    await space.told(AMS, "Valid", "True", "Valid")
    await space.everywhere(lambda one: clusters_of(one) == [AMS])


async def test_conditions_that_ended_while_no_agent_ran_are_removed_by_the_next(space: Space) -> None:
    """Rules: C6. Specs: -."""
    await space.offer(AMS)
    await space.told(AMS, "Conflict", "False")
    agent = space.world.agents[AMS]
    await agent.stop()
    try:
        await space.delete(AMS, kinds.SERVICE, "web")
    finally:
        await agent.start()
    await space.told(AMS, "Valid", "False", "NoService")
    await space.no_conflict(AMS)
    await space.gone(kinds.SERVICE_IMPORT)
