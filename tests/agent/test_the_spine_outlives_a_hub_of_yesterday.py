"""A hub that is restored from an old backup: what it lacks and what it has too much of are made good.

Nothing of what was exported since is lost meanwhile, not even to an agent that starts in just that time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine, thing
from spineservers import Real, settles

from isthmus.api import kinds
from isthmus.api.meta import Kind, Object, ObjectKey
from isthmus.kube.raw import RawObject

if TYPE_CHECKING:
    from control_plane import ControlPlanes

HUB = "hub-of-yesterday"
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", True, Object)
WRITES = 300
"""What happens on a hub in a day; a start of the API server writes a few dozen objects, too."""
MISTRUST_SECONDS = 240.0
"""An agent mistrusts a silent watch after some 75 s, and reads anew over up to 30 s."""


class Apart(Real):
    """The hub is a cluster with a store of its own."""

    def __init__(self, planes: ControlPlanes) -> None:
        super().__init__(planes)
        (self._clusters["hub"],) = planes.clusters(HUB, own_store=True)
        self._read["hub"] = self._clusters["hub"].audit.stat().st_size

    def save(self) -> None:
        self._planes.saved(HUB)

    def restore(self) -> None:
        self._planes.restored(HUB)


@pytest.mark.realapi
async def test_what_was_exported_since_the_backup_stays_imported(
    tmp_path: Path, control_planes: ControlPlanes
) -> None:
    servers = Apart(control_planes)
    async with Spine(tmp_path, servers) as spine:
        agent = spine.agents["eu-1"]

        async def imported(name: str) -> RawObject | None:
            found = await spine.get("eu-1", kinds.SERVICE_IMPORT, name)
            return found if found is not None and found["spec"].get("ips") else None

        async def gone() -> bool:
            return await spine.get("eu-1", kinds.SERVICE_IMPORT, "old") is None

        async def on_hub() -> list[str]:
            return [one["metadata"]["name"] for one in await spine.everything("hub", kinds.EXPORTED_SERVICE)]

        await spine.serve("eu-2", "old")
        await spine.start("eu-1", "eu-2")
        await settles(lambda: imported("old"), "an import of what is old", agent.log)
        servers.save()
        for number in range(WRITES):
            day = thing(CONFIG_MAP, "default", "day", data={"number": str(number)})
            await spine.apply("hub", CONFIG_MAP, day)
        await spine.clients["eu-2"].delete(kinds.SERVICE_EXPORT, ObjectKey("shop", "old"))
        await spine.serve("eu-2", "new")
        before = await settles(lambda: imported("new"), "an import of what is new", agent.log)
        await settles(gone, "no import of what is old", agent.log)
        await agent.stop()
        servers.restore()
        assert await on_hub() == ["old.shop"]
        await agent.start()

        async def made_good() -> bool:
            found = await spine.get("eu-1", kinds.SERVICE_IMPORT, "new")
            assert found is not None, f"it is there all the time; log:\n{agent.log.read_text()[-4000:]}"
            assert found["metadata"]["uid"] == before["metadata"]["uid"]
            assert found["spec"] == before["spec"]
            return await on_hub() == ["new.shop"]

        log = spine.agents["eu-2"].log
        await settles(made_good, "eu-2 has told the hub how things are", log, seconds=MISTRUST_SECONDS)
        await settles(gone, "no import of what is old, again", agent.log)
        assert await made_good()
