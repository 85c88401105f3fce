"""An agent's chain whose inputs are written by a test: no process, no API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from isthmus.agent.acceptance import PolicyKey
from isthmus.agent.chain import Chain, Place
from isthmus.agent.inputs import Hub, Member
from isthmus.api.meta import Kind, ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Graph, Table, Writer
from isthmus.model.names import ClusterId

HERE = Place(cluster=ClusterId("eu-1"), region="eu", network="")


class Fed:
    """Everything that the chain reads is complete and empty at first; `writers` are by table name.

    Subclasses set `graph`, the tables that are computed.
    """

    graph: Graph

    def __init__(
        self,
        place: Place = HERE,
        remembered: Table[PolicyKey, GlobalTrafficPolicy] | None = None,
        *,
        hub_live: bool = True,
    ) -> None:
        self.member, self.hub = Member(), Hub()
        self.chain = Chain(place, self.member, self.hub, remembered)
        self.writers: dict[str, Writer[Any, Any]] = {}
        for _kind, table in (*self.member.pairs(), *self.hub.pairs()):
            self.feed(table)
        self.feed(self.chain.session, {"hub": True} if hub_live else {})
        self.health = self.feed(self.chain.health)
        self.callers = self.feed(self.chain.vantages)
        self.membership = self.feed(self.chain.membership)

    def feed(self, table: Table[Any, Any], rows: Mapping[Any, Any] | None = None) -> Writer[Any, Any]:
        """Makes a table complete with these rows; the test writes it from now on."""
        writer = self.writers[table.name] = table.partition("test")
        writer.replace(rows or {})
        return writer

    def put(self, origin: str, kind: Kind[Any], key: ObjectKey, **rest: Any) -> None:
        """An object as the API server of `member` or `hub` has it, with a head where it is not said."""
        head = {
            "name": key.name,
            "namespace": key.namespace,
            "uid": "u",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        whole = {**rest, "metadata": {**head, **rest.get("metadata", {})}}
        self.writers[f"{origin}/{kind.plural}"].put(key, msgspec.convert(whole, kind.type))

    def policy(self, origin: str, spec: Mapping[str, Any], name: str = "web", **metadata: Any) -> None:
        """A policy of the namespace shop."""
        key = ObjectKey("shop", name)
        head = {"namespace": "shop", "name": name, "uid": "u", "generation": 1, **metadata}
        body = msgspec.json.encode({"metadata": head, "spec": spec})
        found = msgspec.json.decode(body, type=GlobalTrafficPolicy)
        self.writers[f"{origin}/globaltrafficpolicies"].put(key, found)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The graph runs while the context is open."""
        task = asyncio.create_task(self.graph.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def settles(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)
