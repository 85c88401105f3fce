"""Clusterset IPs when an import and its derived Service go: what is asked for, whatever is told first."""

from __future__ import annotations

from typing import Any

import pytest
from fedtables import Fed, settles

from isthmus.agent.outputs import Outputs
from isthmus.api import kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.flow import Graph
from isthmus.flow.derive import Priority
from isthmus.kube.applier import ObjectRef
from isthmus.kube.raw import unpack
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ServiceKey

WEB, KEY = ObjectKey("shop", "web"), ServiceKey("shop", "web")
DERIVED = ObjectKey("shop", derived_name(KEY))
REF, IMPORT = ObjectRef(kinds.SERVICE, *DERIVED), ObjectRef(kinds.SERVICE_IMPORT, *WEB)
OURS = {labels.MANAGED_BY: labels.MANAGER}
IPS = ["10.0.0.7"]


class World(Fed):
    """A cluster that exports a service and has its import and its derived Service."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = Outputs(self.chain)
        for table in (self.outputs.asked, self.outputs.member_refused, self.outputs.hub_refused):
            self.feed(table)
        self.graph = Graph(self.outputs.tables)
        self.namespace()
        self.put("member", kinds.SERVICE, WEB, spec={"clusterIP": "10.0.0.1", "ports": [{"port": 80}]})
        self.put("member", kinds.SERVICE_EXPORT, WEB)
        self.imported()
        self.derived()

    def namespace(self, **metadata: Any) -> None:
        self.put("member", kinds.NAMESPACE, ObjectKey("", "shop"), metadata=metadata)

    def imported(self, uid: str = "u", ips: list[str] = IPS) -> None:
        meta = {"labels": OURS, "uid": uid}
        spec = {"type": "ClusterSetIP", "ports": [], "ips": ips}
        self.put("member", kinds.SERVICE_IMPORT, WEB, metadata=meta, spec=spec)

    def derived(self) -> None:
        owner = {
            "apiVersion": kinds.SERVICE_IMPORT.api_version,
            "kind": "ServiceImport",
            "name": "web",
            "uid": "u",
        }
        spec = {"clusterIP": IPS[0], "clusterIPs": IPS, "ports": [{"port": 80}]}
        self.put(
            "member", kinds.SERVICE, DERIVED, metadata={"labels": OURS, "ownerReferences": [owner]}, spec=spec
        )

    def lose(self, *objects: ObjectRef) -> None:
        for ref in objects:
            self.writers[f"member/{ref.kind.plural}"].drop(ref.key)

    async def rest(self) -> None:
        """Waits until all that follows from what was told is computed."""
        await settles(
            lambda: not any(table.dirty(urgency) for table in self.graph.tables for urgency in Priority)
        )

    def said_of_the_import(self) -> Any:
        row = self.outputs.member.get(IMPORT)
        return None if row is None else unpack(row)["spec"]["ips"]

    def asked(self) -> Any:
        """The addresses that are asked for where the derived Service has to be created now."""
        born = self.outputs.born(REF, unpack(self.outputs.member.get(REF)))
        return born["spec"].get("clusterIPs")


async def test_a_lost_service_gets_its_addresses_also_before_its_loss_was_heard_of() -> None:
    """The watch that tells who writes may be ahead of the one that tells who desires."""
    world = World()
    async with world.running():
        await settles(lambda: REF in world.outputs.member)
        assert world.asked() == IPS
        wanted = world.outputs.member.get(REF)
        world.lose(REF)
        await world.rest()
        assert world.asked() == IPS
        assert world.outputs.member.get(REF) == wanted, "so that it is written once"


@pytest.mark.parametrize("order", [(REF, IMPORT), (IMPORT, REF)])
async def test_an_import_that_was_deleted_comes_back_with_its_addresses(order: tuple[ObjectRef, ...]) -> None:
    """Its derived Service goes with it, and may be told of before the import is back."""
    world = World()
    async with world.running():
        await settles(lambda: world.said_of_the_import() == IPS)
        for ref in order:
            world.lose(ref)
            await world.rest()
            assert world.said_of_the_import() == IPS
        world.imported("v")
        await settles(lambda: REF in world.outputs.member)
        assert world.said_of_the_import() == IPS
        assert world.asked() == IPS


async def test_nobody_remembers_the_addresses_of_a_service_that_nobody_exports() -> None:
    world = World()
    async with world.running():
        await settles(lambda: KEY in world.outputs.vips)
        world.lose(REF, IMPORT, ObjectRef(kinds.SERVICE_EXPORT, *WEB))
        await settles(lambda: KEY not in world.outputs.vips)


async def test_nobody_remembers_the_addresses_of_a_namespace_that_ended() -> None:
    world = World()
    async with world.running():
        await settles(lambda: KEY in world.outputs.vips)
        world.lose(REF, IMPORT)
        world.namespace(deletionTimestamp="2026-01-01T00:00:00Z")
        await settles(lambda: KEY not in world.outputs.vips)
        assert KEY in world.chain.services, "other clusters may export it on"
