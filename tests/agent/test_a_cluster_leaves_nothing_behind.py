"""A cluster that leaves in order: all it told on the hub goes first, then its place among the members."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine
from spineservers import Embedded, settles

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.apiserver.faults import Fault

SPACE = "isthmus-eu-2"
TOLD = (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS, kinds.HEALTH_REPORT)


async def test_a_cluster_is_a_member_until_its_last_report_is_gone(tmp_path: Path) -> None:
    servers = Embedded()
    async with Spine(tmp_path, servers) as spine:
        await spine.serve("eu-1", "web")
        await spine.serve("eu-2", "web")
        await spine.start("eu-1", "eu-2")

        async def told() -> list[str]:
            """What eu-2 has on the hub, by kind."""
            everything = [one for kind in TOLD for one in await spine.everything("hub", kind)]
            return sorted({one["kind"] for one in everything if one["metadata"]["namespace"] == SPACE})

        async def all_told() -> bool:
            return len(await told()) == len(TOLD)

        await settles(all_told, "exports and reports of eu-2", spine.agents["eu-2"].log)
        faults = servers.server.cluster("hub").faults
        faults.set(Fault(kind="error", verbs=frozenset({"delete"}), paths=(f"*/{SPACE}/healthreports/*",)))
        await spine.clients["hub"].patch(kinds.CLUSTER, ObjectKey("", "eu-2"), {"spec": {"leave": True}})

        async def reports_alone() -> bool:
            return await told() == [kinds.HEALTH_REPORT.kind]

        await settles(reports_alone, "eu-2 has withdrawn its exports", spine.agents["eu-2"].log)
        beats: set[str] = set()

        async def beaten() -> bool:
            """Whether the agent has looked at its membership several times more."""
            lease = await spine.get("hub", kinds.LEASE, "heartbeat", SPACE)
            assert lease is not None, "its place is kept while anything of it is there"
            assert await spine.get("hub", kinds.CLUSTER, "eu-2", "") is not None
            beats.add(lease["spec"]["renewTime"])
            return len(beats) > 3

        await settles(beaten, "heartbeats of eu-2", spine.agents["eu-2"].log)
        faults.clear()

        async def left() -> bool:
            return await spine.get("hub", kinds.CLUSTER, "eu-2", "") is None

        await settles(left, "eu-2 has left", spine.agents["eu-2"].log)
        assert await told() == []
        assert await spine.get("hub", kinds.LEASE, "heartbeat", SPACE) is None
