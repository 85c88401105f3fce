"""The pods of the bed one by one: their addresses, their endpoints, and pods that take their places."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo.backend import BackendConfig, Listen
from isthmus.demo.population import Population
from isthmus.demo.reach import accepts
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member

NEW_PODS = 100
"""From this number on a cluster's addresses are free for pods that come later."""

Endpoints = list[dict[str, Any]]


def slices(population: Population, service: str) -> Iterator[tuple[ObjectKey, Endpoints]]:
    """The EndpointSlices of a service as the bed starts with them."""
    for kind, body in population.objects:
        metadata = body["metadata"]
        if kind == "EndpointSlice" and metadata["labels"]["kubernetes.io/service-name"] == service:
            yield ObjectKey(metadata["namespace"], metadata["name"]), body["endpoints"]


def addresses(population: Population, service: str) -> list[str]:
    """One for each pod of the service."""
    found = [e["addresses"][0] for _, endpoints in slices(population, service) for e in endpoints]
    return list(dict.fromkeys(found))


async def write(stage: Stage, member: Member, key: ObjectKey, endpoints: Endpoints) -> None:
    """The slice holds these endpoints, as the slice controller would write it."""
    await stage.clients[member.name].patch(kinds.ENDPOINT_SLICE, key, {"endpoints": endpoints})


async def start_twins(stage: Stage, member: Member) -> dict[str, str]:
    """Start a new pod for each of the cluster, that listens as it does; returns the new address by the old.

    They are one process, which ends with the bed; who asks again gets those that run.
    """
    name, listeners = f"pods-{member.name}-new", stage.populations[member.name].listeners
    old = dict.fromkeys(listener.address for listener in listeners)
    twins = {address: member.pod_address(NEW_PODS + number) for number, address in enumerate(old)}
    if stage.processes.running(name):
        return twins
    listen = [Listen(twins[x.address], x.port, x.speech, f"{x.pod}-new") for x in listeners]
    file = stage.folder / f"{name}.json"
    file.write_bytes(msgspec.json.encode(BackendConfig(member.name, listen)))
    await stage.processes.start(name, [sys.executable, "-m", "isthmus.demo.backend", str(file)])
    await stage.until(name, lambda: accepts(listen[-1].address, listen[-1].port))
    return twins
