"""What a replica may delete when it begins to write: nothing that another wrote from newer knowledge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from fedtables import settles

from isthmus.agent import edges
from isthmus.agent.control import Control
from isthmus.agent.lastgood import LastGood
from isthmus.agent.settings import AgentSettings
from isthmus.api import crds, kinds, labels
from isthmus.api.meta import Kind, ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig, Fault
from isthmus.errors import Conflict
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files

LATE = ObjectKey("shop", "late")


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer([ClusterConfig(name="hub"), ClusterConfig(name="eu-1")]) as made:
        yield made


@pytest.fixture
async def core(server: ApiServer, tmp_path: Path) -> AsyncIterator[Control]:
    """A replica that has read both its servers while another one writes."""
    async with AsyncExitStack() as stack:
        clients = {}
        for name, definitions in (("hub", crds.hub_crds()), ("eu-1", crds.member_crds())):
            access = Access(name=name, server=server.url(name), source=Files(where=name, encrypted=False))
            clients[name] = await stack.enter_async_context(Client(access))
            for definition in definitions:
                await clients[name].apply(kinds.CRD, definition, manager="test")
        for namespace in ("kube-system", "isthmus-system", "shop"):
            with suppress(Conflict):
                await clients["eu-1"].create(kinds.NAMESPACE, thing(kinds.NAMESPACE, "", namespace))
        await clients["eu-1"].create(kinds.LEASE, writer("another"))
        store = await stack.enter_async_context(LastGood(tmp_path / "db"))
        settings = AgentSettings(cluster="eu-1", state_dir=tmp_path, console_listen="127.0.0.1:0")
        made = Control(settings, store, clients["eu-1"], clients["hub"], ())

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                made.start(group)
                edges.start(made, group)

        task = asyncio.create_task(run())
        try:
            await settles(lambda: task.done() or (made.everything_known and live(made)))
            yield made
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])


def live(core: Control) -> bool:
    return all(source.reflector.state.live for source in core.hub_sources)


def thing(kind: Kind[Any], namespace: str, name: str, **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **parts}


def writer(holder: str) -> dict[str, Any]:
    """The lease of who writes to a cluster, as that replica has it."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 60}
    return thing(kinds.LEASE, "isthmus-system", edges.WRITER_LEASE, spec=spec)


async def test_who_begins_to_write_without_the_hub_deletes_nothing_until_it_is_heard(
    core: Control, server: ApiServer
) -> None:
    """The replica that wrote before has heard of an export that this one has not."""
    faults = server.cluster("hub").faults
    faults.set(Fault(kind="cut"))
    await settles(lambda: not any(source.reflector.state.live for source in core.hub_sources))
    meta, spec = {"labels": {labels.MANAGED_BY: labels.MANAGER}}, {"type": "ClusterSetIP", "ports": []}
    body = thing(kinds.SERVICE_IMPORT, *LATE, metadata=meta, spec=spec)
    await core.member_client.create(kinds.SERVICE_IMPORT, body)
    with structlog.testing.capture_logs() as said:
        await core.member_client.apply(kinds.LEASE, writer(""), manager="test")
        await settles(lambda: any(one["event"] in ("deletions put off", "object deleted") for one in said))
    await core.member_client.get(kinds.SERVICE_IMPORT, LATE)  # it is there
    assert LATE in core.chain.member.imports
    faults.clear()
    await settles(lambda: core.everything_known)
    assert live(core)
    await settles(lambda: LATE not in core.chain.member.imports)


async def test_who_writes_already_goes_on_to_delete_while_the_hub_is_away(
    core: Control, server: ApiServer
) -> None:
    core.leads(True)
    server.cluster("hub").faults.set(Fault(kind="cut"))
    await settles(lambda: not any(source.reflector.state.live for source in core.hub_sources))
    assert core.everything_known
