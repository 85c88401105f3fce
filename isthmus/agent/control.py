"""The control process: `python -m isthmus.agent.control SETTINGS_FILE`.

What it is made of, from top to bottom: objects are read (`inputs`), plans follow (`chain`); probes, doors and
writers (`edges`) come a moment later, because the first plan does not wait for their code to be loaded.
"""

from __future__ import annotations

from isthmus.agent import logs  # noqa: F401 - first: it keeps what follows small

# isort: split
import asyncio
import gc
import importlib
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from isthmus.agent import continuity, inputs, process, verdicts
from isthmus.agent.chain import Chain, Place
from isthmus.agent.identity import claim
from isthmus.agent.inputs import Hub, Member, Source
from isthmus.agent.lastgood import LastGood
from isthmus.agent.recall import Recall
from isthmus.agent.settings import AgentSettings, decode_agent
from isthmus.flow import Graph, Writer
from isthmus.kube.client import Client, significant
from isthmus.kube.config import Access, load_access
from isthmus.mcs.quota import Quota
from isthmus.model.cluster import Standing
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, Vantage
from isthmus.probes import memory

CONCURRENT_LISTS = 8
DATABASE = "last-good.db"
COLLECTIONS = (5_000, 20, 50)
"""Thresholds of the garbage collector once what was read at the start is set aside: few objects at a time."""
SETTLED_SECONDS = 60.0
PATIENCE_SECONDS = 300.0
"""How long there may be no collection because no first plan comes."""

Address = tuple[str, int]

log = structlog.get_logger()


class Control:
    """What was read and what follows from it; `edges` does something with it."""

    def __init__(
        self,
        settings: AgentSettings,
        store: LastGood,
        member_client: Client,
        hub_client: Client | None,
        member_at: Sequence[Address],
        hub_at: Sequence[Address] = (),
    ) -> None:
        self.settings = settings
        self.store = store
        self.member_client = member_client
        self.hub_client = hub_client
        self.api_servers = [found[0] for found in (member_at, hub_at) if found]
        """One address of each API server this agent talks to: witnesses of the prober."""
        place = Place(
            cluster=ClusterId(settings.cluster),
            region=settings.region,
            network=settings.network,
            api_servers=frozenset(host for host, _port in (*member_at, *hub_at)),
            clock_offset=self._clock_offset,
            quota=Quota(
                services=settings.quota_services,
                endpoints=settings.quota_endpoints,
                bytes=settings.quota_bytes,
            ),
        )
        self.recall = Recall(store, hub_client, place.cluster)
        self.chain = Chain(place, Member(), Hub(), self.recall.remembered)
        self.graph = Graph([self.chain.plans, self.chain.service_checks])
        gate = asyncio.Semaphore(CONCURRENT_LISTS)
        self.member_sources = inputs.sources(member_client, self.chain.member.pairs(), gate)
        self.hub_sources: list[Source] = []
        if hub_client is None:
            self.chain.hub.nobody()
        else:
            self.hub_sources = inputs.sources(
                hub_client, self.chain.hub.pairs(), gate, linger=inputs.LINGER_SECONDS
            )
        # What was Down when the last process ended is so until it is checked; DNS callers are always there.
        self.notes = verdicts.load(settings.state_dir)
        self.health: Writer[CheckKey, Verdict] = self.chain.health.partition("prober")
        self.health.replace(memory.verdicts(self.notes))
        self.callers: Writer[Vantage, int] = self.chain.vantages.partition("callers")
        self.callers.replace({place.vantage: 1})
        self.session: Writer[str, bool] = self.chain.session.partition("session")
        self.session.replace({})
        self.membership: Writer[str, Standing] = self.chain.membership.partition("membership")
        self.membership.replace({})
        self._unheard: list[Source] = []
        """Sources that failed when this replica began to write, and have not been heard since."""

    @property
    def hub_read(self) -> bool:
        """Whether the hub's objects were read since the start."""
        return all(source.reflector.synced for source in self.hub_sources)

    @property
    def member_read(self) -> bool:
        """Whether this cluster's own objects were read since the start: only then anything is written.

        Last-good rows are good enough to serve from and not to write from: others may have written since.
        """
        return all(source.reflector.synced for source in self.member_sources)

    @property
    def everything_known(self) -> bool:
        """Whether what should exist follows from all there is: only then anything is deleted.

        Not so while the hub was never read, while a derivation fails (its row is missing, or old), and while
        another replica that wrote before this one may have heard more than it.
        """
        self._unheard = [source for source in self._unheard if not source.reflector.state.live]
        failing = any(table.failures for table in self.graph.tables)
        return self.member_read and self.hub_read and not self._unheard and not failing

    def leads(self, holds: bool) -> None:
        """Hears that this replica writes from now on, or does not any more (decision 32)."""
        if holds:
            sources = (*self.member_sources, *self.hub_sources)
            self._unheard = [source for source in sources if not source.reflector.state.live]

    def _clock_offset(self) -> float | None:
        """Whole seconds to add to this cluster's clock to get the hub's; under 5 s count as 0."""
        if self.hub_client is None:
            return 0.0
        theirs, ours = self.hub_client.clock_measured, self.member_client.clock_measured
        return None if theirs is None or ours is None else significant(theirs - ours)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Reads and plans."""
        group.create_task(self.recall.run(self.chain), name="recall")
        for source in self.member_sources:
            group.create_task(inputs.follow(source, self.store), name=f"follow-{source.name}")
        if self.hub_client is not None:
            broken = group.create_task(continuity.broken(self.hub_client, self.store), name="continuity")
            for source in self.hub_sources:
                group.create_task(inputs.follow(source, self.store, broken), name=f"follow-{source.name}")
        group.create_task(self.graph.run(), name="graph")
        group.create_task(self._first_plan(), name="first-plan")
        asyncio.get_running_loop().call_later(PATIENCE_SECONDS, gc.enable)

    async def _first_plan(self) -> None:
        began = time.monotonic()
        async for _keys in self.chain.plans.changes():
            log.info(
                "first plans",
                plans=len(self.chain.plans),
                services=len(self.chain.services),
                seconds=round(time.monotonic() - began, 3),
            )
            # Nothing of a start is garbage, and to look for it stalls the loop for tenths of seconds: until
            # what follows from the first plans stands as well nothing is collected, and it is set aside.
            asyncio.get_running_loop().call_later(SETTLED_SECONDS, _settle)
            return


def _settle() -> None:
    gc.freeze()
    gc.enable()


async def control(settings: AgentSettings) -> None:
    """Runs until cancelled. Raises ConfigError for credentials that cannot be used."""
    member_access = load_access(settings.kubeconfig, settings.context)
    hub_access = (
        load_access(settings.hub_kubeconfig, settings.hub_context) if settings.hub_kubeconfig else None
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(claim(settings.state_dir))
        store = await stack.enter_async_context(LastGood(settings.state_dir / DATABASE))
        member_client = await stack.enter_async_context(Client(member_access))
        hub_client = await stack.enter_async_context(Client(hub_access)) if hub_access else None
        group = await stack.enter_async_context(asyncio.TaskGroup())
        places = await asyncio.gather(*(_located(one) for one in (member_access, hub_access) if one))
        core = Control(settings, store, member_client, hub_client, *places)
        core.start(group)
        edges = await asyncio.to_thread(importlib.import_module, "isthmus.agent.edges")
        edges.start(core, group)


async def _located(access: Access) -> list[Address]:
    """Addresses and port of an API server, none where its name does not resolve (quickly)."""
    url = urlsplit(access.server)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(0.5):
            found = await asyncio.get_running_loop().getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return []
    return [(str(address[0]), port) for *_, address in found]


def main(settings_file: Path) -> None:
    """Runs control with the settings that the supervisor wrote."""
    gc.disable()
    gc.set_threshold(*COLLECTIONS)
    settings = decode_agent(settings_file)
    process.run("control", lambda: control(settings), level=settings.log_level, style=settings.log_format)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
