"""What a peer is: a program for each cluster, configured once by hand from what the bed holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

from isthmus.demo.stage import Stage
from isthmus.demo.world import Member

NAMESPACE = "shop"


class Peer(Protocol):
    """`role` is its processes' in a census, that of the program beside it is `beside_role`."""

    beside_role: ClassVar[str]

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def port(self) -> int: ...

    def missing(self) -> str:
        """What this machine lacks to run it, and how to get it; "" for nothing."""
        ...

    def address(self, member: Member) -> str:
        """Where it listens in this cluster."""
        ...

    async def start(self, stage: Stage) -> None:
        """Start it in every cluster and wait until it serves there; NotReady when it does not."""
        ...


def endpoints(stage: Stage, service: str) -> Iterator[tuple[str, str, int]]:
    """(cluster, address, port) of all endpoints of a service, as somebody would copy them from kubectl."""
    for cluster, population in stage.populations.items():
        for kind, body in population.objects:
            if kind != "EndpointSlice" or body["metadata"]["namespace"] != NAMESPACE:
                continue
            if body["metadata"]["labels"]["kubernetes.io/service-name"] == service:
                for endpoint in body["endpoints"]:
                    yield cluster, endpoint["addresses"][0], body["ports"][0]["port"]
