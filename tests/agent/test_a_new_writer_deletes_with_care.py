"""What a replica may delete when it begins to write: nothing that another wrote from newer knowledge."""

from __future__ import annotations

from pathlib import Path

import structlog
from fedtables import settles
from replica import hears_the_hub, replica, writes
from spine import thing

from isthmus.api import kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import Fault

LATE = ObjectKey("shop", "late")
CUT = Fault(kind="cut")


async def test_who_begins_to_write_without_the_hub_deletes_nothing_until_it_is_heard(tmp_path: Path) -> None:
    """The replica that wrote before has heard of an export that this one has not."""
    async with replica(tmp_path) as (core, server):
        faults = server.cluster("hub").faults
        faults.set(CUT)
        await settles(lambda: not any(source.reflector.state.live for source in core.hub_sources))
        meta, spec = {"labels": {labels.MANAGED_BY: labels.MANAGER}}, {"type": "ClusterSetIP", "ports": []}
        late = thing(kinds.SERVICE_IMPORT, *LATE, metadata=meta, spec=spec)
        await core.member_client.create(kinds.SERVICE_IMPORT, late)
        with structlog.testing.capture_logs() as said:
            await writes(core)
            told = ("deletions put off", "object deleted")
            await settles(lambda: any(one["event"] in told for one in said))
        await core.member_client.get(kinds.SERVICE_IMPORT, LATE)  # it is there
        faults.clear()
        await settles(lambda: core.everything_known)
        assert hears_the_hub(core)
        await settles(lambda: LATE not in core.chain.member.imports)


async def test_who_writes_already_goes_on_to_delete_while_the_hub_is_away(tmp_path: Path) -> None:
    async with replica(tmp_path) as (core, server):
        core.leads(True)
        server.cluster("hub").faults.set(CUT)
        await settles(lambda: not any(source.reflector.state.live for source in core.hub_sources))
        assert core.everything_known
