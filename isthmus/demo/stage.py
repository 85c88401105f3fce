"""Everything that runs: started in order, fed with objects, and ready before the first request counts.

The order is that of a real clusterset: API servers, what people apply, hub and agents, pods, sidecars. Nobody
waits longer than `READY_SECONDS` for any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import msgspec

from isthmus.demo.backend import BackendConfig, Listen
from isthmus.demo.board import Tone
from isthmus.demo.checks import Verdicts, complete, protocols, verdicts, well, words
from isthmus.demo.envoy import envoy_command
from isthmus.demo.kubeconfig import kubeconfig
from isthmus.demo.load import Caller, LoadConfig, Mute, Query, Request, Sample
from isthmus.demo.population import DemoService, Population
from isthmus.demo.processes import Child, Processes
from isthmus.demo.reach import accepts, answers, resolves, serves
from isthmus.demo.report import Death
from isthmus.demo.seed import seed
from isthmus.demo.world import (
    API_PORT,
    CONSOLE_PORT,
    DNS_PORT,
    ENVOY_PORT,
    FAULTS_PORT,
    HUB_PORT,
    XDS_PORT,
    Member,
    World,
)
from isthmus.errors import IsthmusError
from isthmus.kube.client import Client
from isthmus.kube.config import load_access

READY_SECONDS = 60.0
DNS_RATE = 80.0
DNS_NAMES = 4
POLL_SECONDS = 0.05
CHECK_SECONDS = 10.0
CHECK_POLL_SECONDS = 0.25


class NotReady(IsthmusError):
    """Something of the demo did not get ready in time."""


class Say(Protocol):
    """Tells people what happens."""

    def __call__(self, text: str, tone: Tone = "plain") -> None: ...


class Stage:
    """The running clusterset. `async with` starts nothing: `raise_curtain` does; leaving stops everything.

    `plights` says what was done to which cluster, for people only: nothing that decides reads it.
    """

    def __init__(
        self,
        *,
        world: World,
        populations: Sequence[Population],
        services: Sequence[DemoService],
        policies: Sequence[dict[str, Any]],
        envoy: Path,
        folder: Path,
        say: Say,
    ) -> None:
        self.world = world
        self.populations = {p.member.name: p for p in populations}
        self.services = services
        self.policies = policies
        self.folder = folder
        self.say = say
        self.clients: dict[str, Client] = {}
        self.requests: list[Request] = []
        self.queries: list[Query] = []
        self.deaths: list[Death] = []
        self.plights: dict[str, str] = {}
        self.hub_cut = False
        self._dying: dict[str, float] = {}
        self.envoy = envoy
        self._stack = AsyncExitStack()
        self._load: Child | None = None
        self._listening: asyncio.Task[None] | None = None
        self.processes = Processes(folder, os.environ)

    async def __aenter__(self) -> Stage:  # noqa: PYI034 (Self would hide that nobody derives from this)
        await self._stack.enter_async_context(self.processes)
        return self

    async def __aexit__(self, *error: object) -> None:
        # The load's end is known only once all that it said is read, so listening stops last.
        await self._stack.aclose()
        if self._listening is not None:
            self._listening.cancel()

    @property
    def routed(self) -> list[DemoService]:
        """Services that callers reach through Envoy."""
        return [s for s in self._backed() if s.http_port is not None and not s.headless]

    @property
    def named(self) -> list[DemoService]:
        """Services whose names are watched."""
        return self._backed()[:DNS_NAMES]

    def _backed(self) -> list[DemoService]:
        """Exported services that have an endpoint; one without rightly fails whoever calls it."""
        backed = {
            (body["metadata"]["namespace"], body["metadata"]["labels"]["kubernetes.io/service-name"])
            for population in self.populations.values()
            for kind, body in population.objects
            if kind == "EndpointSlice"
        }
        return [s for s in self.services if s.exported and (s.namespace, s.name) in backed]

    async def raise_curtain(self) -> None:
        """Start everything and wait until callers everywhere reach every service and name, else NotReady."""
        await self._start_api_servers()
        await seed(self.clients, list(self.populations.values()), self.policies)
        self.say("objects are in the API servers, agents start")
        await self._start_agents()
        for member in self.world.members:
            await self.start_pods(member)
        for member in self.world.members:
            command = envoy_command(self.envoy, member, self.folder)
            await self.processes.start(f"envoy-{member.name}", command)
        await self.until("agents ready", self._agents_ready)
        await self.until("every service served through every Envoy", self._served)
        await self.until("every name resolved by every agent", self._resolved)

    async def until(
        self, what: str, holds: Callable[[], Awaitable[str]], seconds: float = READY_SECONDS
    ) -> None:
        """Wait until `holds` returns ""; NotReady with what it last complained of."""
        deadline = time.monotonic() + seconds
        while complaint := await holds():
            if time.monotonic() > deadline:
                raise NotReady(f"not within {seconds:g} s: {what}: {complaint} (logs: {self.folder})")
            await asyncio.sleep(POLL_SECONDS)

    # -- starting

    async def _start_api_servers(self) -> None:
        servers = {m.name: f"http://{m.api}:{API_PORT}" for m in self.world.members}
        servers |= {f"hub-from-{m.name}": f"http://{m.hub}:{HUB_PORT}" for m in self.world.members}
        servers["hub"] = f"http://{self.world.hub}:{HUB_PORT}"
        config = self.folder / "kubeconfig"
        config.write_text(kubeconfig(servers, self.world.members[0].name))
        command = [sys.executable, "-m", "isthmus.apiserver", "--cluster", f"hub=0.0.0.0:{HUB_PORT}"]
        command += ["--admin", f"{self.world.hub}:{FAULTS_PORT}"]
        for member in self.world.members:
            command += ["--cluster", f"{member.name}={member.api}:{API_PORT}"]
            command += ["--service-cidr", f"{member.name}={member.service_cidr}"]
        await self.processes.start("apiserver", command)
        for name in ("hub", *(m.name for m in self.world.members)):
            self.clients[name] = await self._stack.enter_async_context(Client(load_access(config, name)))
        await self.until(
            "API servers answer", lambda: answers(self.world.members[-1].api, API_PORT, "/readyz")
        )

    async def _start_agents(self) -> None:
        config = str(self.folder / "kubeconfig")
        run = [sys.executable, "-m", "isthmus", "run"]
        console = f"{self.world.hub}:{CONSOLE_PORT}"
        await self.processes.start(
            "hub",
            [*run, "hub", "--hub-kubeconfig", config, "--hub-context", "hub", "--console-listen", console],
        )
        for m in self.world.members:
            arguments = {
                "--cluster": m.name,
                "--region": m.region,
                "--kubeconfig": config,
                "--context": m.name,
                "--hub-kubeconfig": config,
                "--hub-context": f"hub-from-{m.name}",
                "--dns-listen": f"{m.agent}:{DNS_PORT}",
                "--xds-listen": f"{m.agent}:{XDS_PORT}",
                "--console-listen": f"{m.agent}:{CONSOLE_PORT}",
                "--state-dir": str(self.folder / m.name),
            }
            flat = [part for pair in arguments.items() for part in pair]
            # Nobody but this machine has these addresses.
            await self.processes.start(f"agent-{m.name}", [*run, "agent", *flat, "--xds-plaintext"])

    async def start_pods(self, member: Member) -> None:
        """Start the cluster's pods and wait until they accept connections."""
        population = self.populations[member.name]
        listen = [Listen(x.address, x.port, x.speech, x.pod) for x in population.listeners]
        file = self.folder / f"pods-{member.name}.json"
        file.write_bytes(msgspec.json.encode(BackendConfig(member.name, listen)))
        await self.processes.start(
            f"pods-{member.name}", [sys.executable, "-m", "isthmus.demo.backend", str(file)]
        )
        if listen:
            await self.until(f"pods of {member.name}", lambda: accepts(listen[-1].address, listen[-1].port))

    # -- being ready

    async def _agents_ready(self) -> str:
        for member in self.world.members:
            complaint = await answers(member.agent, CONSOLE_PORT, "/readyz")
            if complaint:
                return f"{member.name}: {complaint}"
        return ""

    async def _served(self) -> str:
        for member in self.world.members:
            for service in self.routed:
                complaint = await serves(member, service)
                if complaint:
                    return f"{member.name} asks {service.authority}:{service.http_port}: {complaint}"
        return ""

    async def _resolved(self) -> str:
        for member in self.world.members:
            for service in self.named:
                complaint = await resolves(member, service)
                if complaint:
                    return f"{member.name} looks up {service.authority}: {complaint}"
        return ""

    async def first_checks(self) -> dict[str, int]:
        """How many endpoints the agent of the first cluster found well, by what it asked them.

        Waits until all have a verdict, and tells how it stands when they do not in CHECK_SECONDS.
        """
        member, asked = self.world.members[0], protocols(self.policies)
        clusters = [other.name for other in self.world.members]
        found: Verdicts = Counter()
        until = time.monotonic() + CHECK_SECONDS
        while not complete(found, clusters) and time.monotonic() < until:
            with contextlib.suppress(OSError):
                found = await verdicts(member, asked)
            await asyncio.sleep(CHECK_POLL_SECONDS)
        self.say(f"{member.name} checks endpoints everywhere: {words(found)}")
        return well(found)

    # -- the load

    async def start_load(self, rate: float) -> None:
        """Start the callers of all clusters."""
        config = LoadConfig(
            callers=[Caller(m.name, (m.envoy, ENVOY_PORT), (m.agent, DNS_PORT)) for m in self.world.members],
            authorities=[f"{s.authority}:{s.http_port}" for s in self.routed],
            names=[s.authority for s in self.named],
            rate=rate,
            dns_rate=DNS_RATE,
        )
        file = self.folder / "load.json"
        file.write_bytes(msgspec.json.encode(config))
        command = [sys.executable, "-m", "isthmus.demo.load", str(file)]
        self._load = await self.processes.start("load", command, pipes=True)
        self._listening = asyncio.create_task(self._listen(self._load), name="samples")

    async def _listen(self, load: Child) -> None:
        assert load.process.stdout is not None
        decode = msgspec.json.Decoder(Sample).decode
        async for line in load.process.stdout:
            sample = decode(line)
            if isinstance(sample, Request):
                self.requests.append(sample)
            else:
                self.queries.append(sample)

    async def stop_load(self) -> None:
        """End the callers; samples that were on their way have arrived when this returns."""
        await self.processes.stop("load")
        if self._listening is not None:
            await self._listening

    def callers_die(self, member: Member) -> None:
        """From now on the callers of this cluster are dead and not counted."""
        self._dying[member.name] = time.monotonic()
        self._tell_load()

    def callers_return(self, member: Member, grace: float) -> None:
        """They live again; what they see counts after `grace` seconds."""
        began = self._dying.pop(member.name)
        self.deaths.append(Death(cluster=member.name, began=began, ended=time.monotonic() + grace))
        self._tell_load()

    def deaths_so_far(self) -> list[Death]:
        """Those that are over, and those that last."""
        return self.deaths + [Death(cluster=c, began=at, ended=math.inf) for c, at in self._dying.items()]

    def _tell_load(self) -> None:
        assert self._load is not None
        assert self._load.process.stdin is not None
        self._load.process.stdin.write(msgspec.json.encode(Mute(sorted(self._dying))) + b"\n")

    # -- what accidents need

    def control_pid(self, member: Member) -> int:
        """Process id of the agent's control process; 0 while there is none."""
        try:
            return int((self.folder / member.name / "control.pid").read_text())
        except (OSError, ValueError):
            return 0
