"""The control process: `python -m isthmus.agent.control SETTINGS_FILE`.

What it is made of, from top to bottom: objects are read (inputs), plans follow (chain), rows are rendered for
the door workers (doors) and objects for the API servers (outputs); probes give health back to the chain.
"""

from __future__ import annotations

from isthmus.agent import logs  # noqa: F401 - first: it keeps what follows small

# isort: split
import asyncio
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from isthmus.agent import inputs, process
from isthmus.agent.chain import Chain, Place
from isthmus.agent.doors import Doors
from isthmus.agent.identity import claim, identity
from isthmus.agent.inputs import Hub, Member, Source
from isthmus.agent.lastgood import LastGood
from isthmus.agent.outputs import Outputs
from isthmus.agent.session import Session
from isthmus.agent.settings import AgentSettings
from isthmus.agent.worker import LINK
from isthmus.agent.writing import HUB_KINDS, MEMBER_KINDS, Writing
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.errors import KubeError
from isthmus.flow import Graph
from isthmus.flow.replica import Publisher
from isthmus.kube.client import Client
from isthmus.kube.config import Access, load_access
from isthmus.kube.lease import LeaseHolder
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from isthmus.probes.prober import Prober, anchor

CONCURRENT_LISTS = 8
WRITER_LEASE = "isthmus-agent"
DATABASE = "last-good.db"

log = structlog.get_logger()


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
        agent = Control(settings, member_client, hub_client, *places)
        for source in agent.sources:
            group.create_task(inputs.follow(source, store), name=f"follow-{source.name}")
        agent.start(group)


async def _located(access: Access) -> tuple[str, int] | None:
    """Address and port of an API server, None where its name does not resolve (quickly)."""
    url = urlsplit(access.server)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(0.5):
            found = await asyncio.get_running_loop().getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return None
    return str(found[0][4][0]), port


class Control:
    """All parts of a control process, wired by hand."""

    def __init__(
        self,
        settings: AgentSettings,
        member_client: Client,
        hub_client: Client | None,
        member_at: tuple[str, int] | None,
        hub_at: tuple[str, int] | None = None,
    ) -> None:
        self.settings = settings
        self.member_client = member_client
        self.hub_client = hub_client
        cluster = ClusterId(settings.cluster)
        self.place = Place(
            cluster=cluster,
            region=settings.region,
            network=settings.network,
            api_servers=frozenset(place[0] for place in (member_at, hub_at) if place),
            clock_offset=self._clock_offset,
        )
        self.member, self.hub = Member(), Hub()
        self.chain = Chain(self.place, self.member, self.hub)
        self.outputs = Outputs(self.chain)
        self.doors = Doors(self.chain, self.outputs.vips)
        self.graph = Graph([*self.outputs.tables, *self.doors.tables, self.chain.service_checks])
        self.sources = self._sources()
        self.lease = LeaseHolder(
            member_client, ObjectKey(settings.namespace, WRITER_LEASE), identity(settings.state_dir)
        )
        self.prober = Prober(
            self.chain.checks,
            self.chain.health.partition("prober"),
            api_servers=[anchor(*member_at)] if member_at else [],
        )
        self.publisher = Publisher(
            settings.state_dir / LINK,
            {"xds": self.doors.xds, "dns": self.doors.dns},
            {"wants": self.doors.wants},
        )

    def _sources(self) -> list[Source]:
        gate = asyncio.Semaphore(CONCURRENT_LISTS)
        found = inputs.sources(self.member_client, self.member.pairs(), gate)
        if self.hub_client is None:
            self.hub.nobody()
        else:
            found += inputs.sources(self.hub_client, self.hub.pairs(), gate)
        return found

    def _clock_offset(self) -> float:
        """Seconds to add to this cluster's clock to get the hub's."""
        return (self.hub_client.clock_offset - self.member_client.clock_offset) if self.hub_client else 0.0

    def start(self, group: asyncio.TaskGroup) -> None:
        """Starts everything that derives, serves and writes."""
        group.create_task(self.graph.run(), name="graph")
        group.create_task(self.publisher.run(), name="publisher")
        group.create_task(self.prober.run(), name="prober")
        group.create_task(self._write_member(), name="write-member")
        group.create_task(self._first_plan(), name="first-plan")
        if self.hub_client is None:
            self.chain.session.partition("no hub").replace({})
            return
        hub_sources = [source for source in self.sources if source.name.startswith("hub/")]
        session = Session(
            self.hub_client,
            self.place.cluster,
            self.place.region,
            lambda: inputs.last_heard(hub_sources),
            self.chain.session.partition("session"),
        )
        writing = Writing(
            self.hub_client,
            "hub",
            self.outputs.hub,
            lambda: self.lease.holds,
            HUB_KINDS,
            namespace=hub_namespace(self.place.cluster),
        )
        group.create_task(session.run(), name="session")
        group.create_task(writing.run(), name="write-hub")

    async def _write_member(self) -> None:
        """Competes for the writer's lease and applies while it is held."""
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.settings.namespace}}
        try:
            await self.member_client.create(kinds.NAMESPACE, space)
        except KubeError as error:
            # It exists, as a rule, or an administrator makes it; the lease tells when neither is so.
            log.debug("namespace not created", namespace=self.settings.namespace, reason=str(error))
        writing = Writing(
            self.member_client, "member", self.outputs.member, lambda: self.lease.holds, MEMBER_KINDS
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.lease.run(), name="writer-lease")
            group.create_task(writing.run(), name="member-writing")

    async def _first_plan(self) -> None:
        began = time.monotonic()
        async for _keys in self.chain.plans.changes():
            log.info(
                "first plans",
                plans=len(self.chain.plans),
                services=len(self.chain.services),
                seconds=round(time.monotonic() - began, 3),
            )
            return


def main(settings_file: Path) -> None:
    """Runs control with the settings that the supervisor wrote."""
    settings = AgentSettings.model_validate_json(settings_file.read_text())
    process.run("control", lambda: control(settings), level=settings.log_level, style=settings.log_format)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
