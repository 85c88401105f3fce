"""`isthmus run hub`: a cluster that renews its lease is Ready; its word is a status, nothing more."""

from __future__ import annotations

import sys
from pathlib import Path

from isthmus.api import kinds

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine
from spineservers import Embedded, settles


async def test_clusters_that_beat_become_ready(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        await spine.start("eu-1", "eu-2", "hub")
        for cluster in ("eu-1", "eu-2"):

            async def ready(cluster: str = cluster) -> bool:
                found = await spine.get("hub", kinds.CLUSTER, cluster, namespace="")
                return (found or {}).get("status", {}).get("state") == "Ready"

            await settles(ready, f"{cluster} is Ready on the hub", spine.hub.log)
