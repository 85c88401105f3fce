"""What a peer is: a program for each cluster, configured once by hand from what the bed holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from isthmus.demo.population import DemoService
from isthmus.demo.reach import serves
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from loadtests.load.doors import DOORS


@dataclass(frozen=True, kw_only=True)
class Peer(ABC):
    """`name` is that of its door, and its processes' role in a census; `port` is where it listens.

    `beside_role` is the role of the program of ours beside it. Unless told otherwise it is an Envoy, which no
    bed lacks, at the address of ours.
    """

    name: str
    about: str
    port: int

    beside_role: ClassVar[str] = "envoy"

    @property
    def service(self) -> tuple[str, str]:
        """Namespace and name of the service that is asked for at its door."""
        name, namespace, *_ = DOORS[self.name].service.split(".")
        return namespace, name

    def missing(self) -> str:
        """What this machine lacks to run it, and how to get it; "" for nothing."""
        return ""

    def address(self, member: Member) -> str:
        """Where it listens in this cluster."""
        return member.envoy

    async def start(self, stage: Stage) -> None:
        """Start it in every cluster and wait until it serves there; NotReady when it does not."""
        for member in stage.world.members:
            await self.start_in(stage, member)
        known = {(s.namespace, s.name): s for s in (*stage.routed, *stage.named)}
        service = known[self.service]
        for member in stage.world.members:
            await stage.until(f"{self.name} of {member.name}", partial(self.serves, member, service))

    @abstractmethod
    async def start_in(self, stage: Stage, member: Member) -> None:
        """Start its processes in this cluster."""

    async def serves(self, member: Member, service: DemoService) -> str:
        """Whether the service is served in this cluster: "" or what is wrong."""
        return await serves(member, service, self.port)

    def endpoints(self, stage: Stage) -> Iterator[tuple[str, str, int]]:
        """(cluster, address, port) of all of the service's, as somebody would copy them from kubectl."""
        for cluster, population in stage.populations.items():
            for kind, body in population.objects:
                metadata = body["metadata"]
                if kind != "EndpointSlice":
                    continue
                if (metadata["namespace"], metadata["labels"]["kubernetes.io/service-name"]) == self.service:
                    for endpoint in body["endpoints"]:
                        yield cluster, endpoint["addresses"][0], body["ports"][0]["port"]
