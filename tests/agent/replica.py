"""One replica of an agent inside the test's process, without workers, between embedded API servers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from fedtables import settles
from spine import thing

from isthmus.agent import edges
from isthmus.agent.control import Control
from isthmus.agent.lastgood import LastGood
from isthmus.agent.settings import AgentSettings
from isthmus.api import crds, kinds
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.errors import Conflict
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files


@asynccontextmanager
async def replica(tmp_path: Path) -> AsyncIterator[tuple[Control, ApiServer]]:
    """A replica of eu-1's agent that has read both its servers, while another one writes (see `writes`)."""
    async with AsyncExitStack() as stack:
        names = (("hub", crds.hub_crds()), ("eu-1", crds.member_crds()))
        server = await stack.enter_async_context(ApiServer([ClusterConfig(name=name) for name, _ in names]))
        clients = {}
        for name, definitions in names:
            access = Access(name=name, server=server.url(name), source=Files(where=name, encrypted=False))
            clients[name] = await stack.enter_async_context(Client(access))
            for definition in definitions:
                await clients[name].apply(kinds.CRD, definition, manager="test")
        for namespace in ("kube-system", "isthmus-system", "shop"):
            with suppress(Conflict):
                await clients["eu-1"].create(kinds.NAMESPACE, thing(kinds.NAMESPACE, "", namespace))
        await clients["eu-1"].create(kinds.LEASE, _lease("another"))
        store = await stack.enter_async_context(LastGood(tmp_path / "db"))
        settings = AgentSettings(cluster="eu-1", state_dir=tmp_path, console_listen="127.0.0.1:0")
        core = Control(settings, store, clients["eu-1"], clients["hub"], ())

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                core.start(group)
                edges.start(core, group)

        task = asyncio.create_task(run())
        try:
            await settles(lambda: task.done() or (core.everything_known and hears_the_hub(core)))
            yield core, server
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def writes(core: Control) -> None:
    """The other replica gives its lease up, and this one begins to write."""
    await core.member_client.apply(kinds.LEASE, _lease(""), manager="test")


def hears_the_hub(core: Control) -> bool:
    """Whether all its watches are open."""
    return all(source.reflector.state.live for source in core.hub_sources)


def _lease(holder: str) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 60}
    return thing(kinds.LEASE, "isthmus-system", edges.WRITER_LEASE, spec=spec)
