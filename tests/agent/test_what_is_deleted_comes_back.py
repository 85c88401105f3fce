"""Objects of a writing agent that somebody deletes: they come back as they were, with their addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedtables import settles
from replica import replica, writes
from spine import thing

from isthmus.agent.control import Control
from isthmus.api import kinds
from isthmus.api.meta import Kind, ObjectKey
from isthmus.flow import Table
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ServiceKey

WEB = ObjectKey("shop", "web")
DERIVED = ObjectKey("shop", derived_name(ServiceKey(*WEB)))
TIMES = 6


def ips(core: Control) -> list[str]:
    """The addresses of the import, [] while it and its derived Service do not agree."""
    imported, derived = core.chain.member.imports.get(WEB), core.chain.member.services.get(DERIVED)
    if imported is None or derived is None:
        return []
    (owner,) = derived.metadata.owner_references
    agree = owner.uid == imported.metadata.uid and list(imported.spec.ips) == list(derived.spec.cluster_ips)
    return list(imported.spec.ips) if agree else []


@pytest.mark.parametrize(("kind", "key"), [(kinds.SERVICE_IMPORT, WEB), (kinds.SERVICE, DERIVED)])
async def test_an_import_and_its_service_come_back_with_their_addresses(
    kind: Kind[Any], key: ObjectKey, tmp_path: Path
) -> None:
    """Who writes hears of the loss by another watch than those who desire, and the order is nobody's."""
    async with replica(tmp_path) as (core, _):
        await writes(core)
        client = core.member_client
        service = thing(kinds.SERVICE, *WEB, spec={"ports": [{"port": 80}]})
        await client.create(kinds.SERVICE, service)
        await client.create(kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, *WEB))
        await settles(lambda: bool(ips(core)))
        before = ips(core)
        member = core.chain.member
        source: Table[ObjectKey, Any] = member.services if key == DERIVED else member.imports
        for _ in range(TIMES):
            old = (await client.get(kind, key)).metadata.uid
            await client.delete(kind, key)
            await settles(
                lambda old=old: (
                    (found := source.get(key)) is not None and found.metadata.uid != old and bool(ips(core))
                )
            )
            assert ips(core) == before
