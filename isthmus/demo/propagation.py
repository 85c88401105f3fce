"""How long a changed endpoint takes from one cluster's API server to a connected Envoy of another."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from typing import Any

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo.httpcall import fetch
from isthmus.demo.population import Pod, Population, slice_endpoint
from isthmus.demo.reach import admin
from isthmus.demo.stage import NotReady, Stage
from isthmus.demo.world import Member

POLL_SECONDS = 0.004
PATIENCE_SECONDS = 15.0
PAUSE_SECONDS = 0.05


class Propagation:
    """Samples of it, taken whenever there is calm, from one pair of clusters after the other.

    `took` are milliseconds: a changed endpoint is seen by the Envoy of the cluster after its own.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        members = stage.world.members
        able = [m for m in members if _slice(stage, stage.populations[m.name])]
        pairs = [(origin, members[(origin.index + 1) % len(members)]) for origin in able]
        self._pairs = itertools.cycle(pairs)
        self.took: list[float] = []

    async def sample(self, rounds: int) -> None:
        """Twice `rounds` samples more, each round from another pair."""
        for _ in range(rounds):
            origin, seen_by = next(self._pairs)
            self.took += await propagation(self._stage, origin=origin, seen_by=seen_by, rounds=1)


async def propagation(stage: Stage, *, origin: Member, seen_by: Member, rounds: int) -> list[float]:
    """Milliseconds that `rounds` additions and as many removals of the spare endpoint took.

    Each counts from before its write. Raises NotReady when one is not seen within PATIENCE_SECONDS.
    """
    population = stage.populations[origin.name]
    body = _slice(stage, population)
    if body is None:
        raise NotReady(f"no exported HTTP service has an endpoint in {origin.name}")
    key = ObjectKey(body["metadata"]["namespace"], body["metadata"]["name"])
    first = body["endpoints"][0]
    spare = Pod(
        namespace=key.namespace,
        name="spare",
        address=population.spare,
        node=first["nodeName"],
        zone=first["zone"],
        hostname="",
        workload="",
    )
    shown = f"{population.spare}:{body['ports'][0]['port']}::".encode()
    took = []
    for endpoints in [[*body["endpoints"], slice_endpoint(spare)], body["endpoints"]] * rounds:
        wanted = len(endpoints) > len(body["endpoints"])
        began = time.monotonic()
        await stage.clients[origin.name].patch(kinds.ENDPOINT_SLICE, key, {"endpoints": endpoints})
        while (shown in (await fetch(*admin(seen_by), "/clusters")).body) != wanted:
            if time.monotonic() - began > PATIENCE_SECONDS:
                change = "new" if wanted else "removed"
                raise NotReady(f"{seen_by.name}'s Envoy did not hear of a {change} endpoint of {origin.name}")
            await asyncio.sleep(POLL_SECONDS)
        took.append((time.monotonic() - began) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    return took


def _slice(stage: Stage, population: Population) -> Mapping[str, Any] | None:
    """The slice that the spare pod can join: of the first service that callers reach through Envoy."""
    for service in stage.routed:
        for kind, body in population.objects:
            metadata = body["metadata"]
            if (
                kind == "EndpointSlice"
                and metadata["labels"]["kubernetes.io/service-name"] == service.name
                and metadata["namespace"] == service.namespace
            ):
                return body
    return None
