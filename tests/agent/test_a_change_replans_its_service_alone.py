"""Property 4 of traffic-semantics: a change to one service's objects plans and pushes that one only."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from fedtables import settles
from policyworld import ME, World

from isthmus.agent.doors import Doors
from isthmus.api import kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.flow import Graph, Priority
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.model.plan import PlanKey

NAMES = ("web", "cart", "pay")

edits = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["slice", "no slice", "policy", "no policy", "export", "no export", "up", "down"]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=6,
)


class Counted(World):
    """Three services, the doors, and a count of what is planned and what is pushed for whom."""

    def __init__(self) -> None:
        super().__init__()
        self.callers.replace({self.chain.place.vantage: 1})
        self.doors = Doors(self.chain, self.outputs.vips, self.callers)
        self.doors.wants.partition("test").replace({})
        self.graph = Graph([*self.outputs.tables, *self.doors.tables])
        self.planned: list[str] = []
        self.pushed: list[str] = []
        reckon = self.chain.reckon

        def counted(key: PlanKey) -> Any:
            self.planned.append(key.service.name)
            return reckon(key)

        self.chain.reckon = counted  # type: ignore[method-assign]
        for table in (self.doors.xds, self.doors.dns):
            table.observe(lambda key, _old, _new: self.pushed.append(key))
        self.outputs.member.observe(lambda ref, _old, _new: self.pushed.append(f"{ref.kind.kind} {ref.name}"))
        for name in NAMES:
            self.edit(name, "export", 1)
            self.edit(name, "policy", 1)
            self.edit(name, "slice", 1)

    def edit(self, name: str, what: str, number: int) -> None:
        key = ObjectKey("shop", name)
        slices = self.writers["member/endpointslices"]
        match what:
            case "slice":
                body = {
                    "metadata": {"name": name, "namespace": "shop", "labels": {labels.SERVICE_NAME: name}},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": 8080}],
                    "endpoints": [
                        {"addresses": [f"10.64.{NAMES.index(name)}.{n}"]} for n in range(1, number + 1)
                    ],
                }
                slices.put(key, msgspec.convert(body, kinds.ENDPOINT_SLICE.type))
            case "no slice":
                slices.drop(key)
            case "policy":
                spec = {"expectedEndpoints": number, "dns": {"answer": "Endpoints"}}
                self.policy("member", spec, name)
            case "no policy":
                self.writers["member/globaltrafficpolicies"].drop(key)
            case "export":
                ports = [{"port": 80, "name": "http"}]
                self.put("member", kinds.SERVICE, key, spec={"clusterIP": "10.0.0.1", "ports": ports})
                self.put("member", kinds.SERVICE_EXPORT, key)
            case "no export":
                self.writers["member/serviceexports"].drop(key)
            case _:
                endpoint = EndpointId(f"10-64-{NAMES.index(name)}-1")
                check = CheckKey(ServiceKey("shop", name), ME, endpoint, "TCP/80")
                self.health.put(check, Verdict(up=what == "up"))

    async def rest(self) -> None:
        """Waits until the graph has nothing to do."""
        await settles(lambda: not any(table.dirty(p) for table in self.graph.tables for p in Priority))


def concerned(row: str) -> set[str]:
    """The services that a pushed row names; the shared routes name none."""
    return {name for name in NAMES if f"{name}.shop" in row or f"shop/{name}" in row or f" {name}" in row}


async def one_after_another(changes: list[tuple[str, str, int]]) -> None:
    world = Counted()
    async with world.running():
        await settles(lambda: {key.service.name for key in world.chain.plans} == set(NAMES))
        await world.rest()
        for name, what, number in changes:
            world.planned.clear()
            world.pushed.clear()
            world.edit(name, what, number)
            await world.rest()
            assert set(world.planned) <= {name}
            # The whole and its port, once for what changed and once more for what follows from it.
            assert len(world.planned) <= 4
            assert set().union(*map(concerned, world.pushed)) <= {name}


@settings(max_examples=40, deadline=None)
@given(edits)
def test_what_one_services_objects_do_concerns_that_service_alone(
    changes: list[tuple[str, str, int]],
) -> None:
    asyncio.run(one_after_another(changes))


def test_a_change_that_matters_is_planned_and_pushed() -> None:
    async def run() -> None:
        world = Counted()
        async with world.running():
            await settles(lambda: len({key.service for key in world.chain.plans}) == len(NAMES))
            await world.rest()
            for what in ("slice", "down", "no slice", "no export"):
                world.planned.clear()
                world.pushed.clear()
                world.edit("web", what, 3)
                await world.rest()
                assert what == "no export" or set(world.planned) == {"web"}, what
                assert set().union(*map(concerned, world.pushed)) == {"web"}, what

    asyncio.run(run())
