"""Agents as the command meets them: at their own address, or as pods behind an API server's proxy.

Invariant: one agent that is away costs its own answer and nothing else; it is named with a reason and with
what to do, and only when nobody answers does the command fail.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from isthmus.api import kinds
from isthmus.api.core import Pod
from isthmus.cli.reach import Reach
from isthmus.errors import ConfigError, Forbidden, KubeError, NotFound, Unreachable
from isthmus.kube.client import Client, RawAnswer, error_of
from isthmus.kube.config import SERVICE_ACCOUNT, Access, load_access
from isthmus.kube.credentials import Files

CONSOLE_PORT = 9470
POD_SELECTOR = "app.kubernetes.io/name=isthmus-agent"
PAGE = 2_000
MOST_AT_ONCE = 16

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an agent said: a view, or, where `status` is not 2xx, its `error` in `body`."""

    status: int
    body: Body

    @property
    def good(self) -> bool:
        return self.status < 300


@dataclass(slots=True, kw_only=True)
class Agent:
    """One agent. `name` is for people; `status` is its `/v1/status`, filled in when it is met."""

    name: str
    client: Client
    prefix: str = ""
    context: str = ""
    status: Body = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        return str(self.status.get("cluster", ""))

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, seconds: float | None = None
    ) -> Answer:
        """A view of that path. Raises KubeError where the agent itself did not answer."""
        said = await self.client.get_raw(self.prefix + path, params, seconds=seconds)
        try:
            body = msgspec.json.decode(said.body)
        except msgspec.DecodeError:
            body = None
        if isinstance(body, dict) and (said.status < 300 or isinstance(body.get("error"), str)):
            return Answer(status=said.status, body=body)
        raise _explained(self, path, said)

    async def items(self, path: str, params: Mapping[str, str] | None = None) -> list[Body]:
        """All items of a list. Raises KubeError."""
        found: list[Body] = []
        while True:
            page = {"limit": str(PAGE), "offset": str(len(found)), **(params or {})}
            answer = await self.get(path, page)
            if not answer.good:
                raise KubeError(f"{path}: {answer.body['error']}; is the agent older than this command?")
            found += answer.body["items"]
            if not answer.body["items"] or len(found) >= answer.body["total"]:
                return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """Somebody who did not answer, and why."""

    agent: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Company:
    """Who answered and who did not."""

    here: list[Agent] = field(default_factory=list)
    away: list[Away] = field(default_factory=list)

    @property
    def speakers(self) -> list[Agent]:
        """One agent for each cluster: of replicas the first that is ready."""
        best: dict[str, Agent] = {}
        for agent in sorted(self.here, key=lambda one: not one.status.get("ready")):
            best.setdefault(agent.cluster, agent)
        return [agent for agent in self.here if best.get(agent.cluster) is agent]

    async def lists(self, path: str) -> list[tuple[Agent, list[Body]]]:
        """The items that each cluster's agent has at that path; who fails is away from then on."""
        return [(agent, found) for agent, found in await self._all(path) if found is not None]

    async def _all(self, path: str) -> list[tuple[Agent, list[Body] | None]]:
        async def one(agent: Agent) -> tuple[Agent, list[Body] | None]:
            try:
                return agent, await agent.items(path)
            except KubeError as error:
                self.lost(agent, error)
                return agent, None

        found = await asyncio.gather(*(one(agent) for agent in self.speakers))
        self.require()
        return found

    def lost(self, agent: Agent, error: KubeError) -> None:
        """The agent does not answer any more."""
        self.here = [one for one in self.here if one is not agent]
        self.away.append(Away(agent=agent.cluster or agent.name, reason=_why(error, agent)))

    def require(self) -> None:
        """Raises Unreachable when nobody is here."""
        if not self.here:
            reasons = "; ".join(f"{away.agent}: {away.reason}" for away in self.away)
            raise Unreachable(f"no agent answered: {reasons}")


@asynccontextmanager
async def meet(reach: Reach) -> AsyncIterator[Company]:
    """Everybody who is to be asked, greeted.

    Raises ConfigError for options that cannot be used, and Unreachable when nobody answers.
    """
    company = Company()
    async with AsyncExitStack() as stack:
        if reach.urls:
            found = [await _at(url, reach, stack) for url in reach.urls]
        else:
            found = await _in_pods(reach, company, stack)
        gate = asyncio.Semaphore(MOST_AT_ONCE)
        met = await asyncio.gather(*(_greet(agent, company, gate) for agent in found))
        company.here = [agent for agent in found if agent in met]
        company.require()
        yield company


async def _greet(agent: Agent, company: Company, gate: asyncio.Semaphore) -> Agent | None:
    try:
        async with gate:
            answer = await agent.get("/v1/status")
        if not answer.good or not isinstance(answer.body.get("cluster"), str):
            raise KubeError("is no console of an Isthmus agent")
    except KubeError as error:
        company.lost(agent, error)
        return None
    agent.status = answer.body
    return agent


async def _at(url: str, reach: Reach, stack: AsyncExitStack) -> Agent:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--agent {url}: is not an http or https URL, e.g. http://127.0.0.1:9470")
    files = Files(where=f"--agent {url}", encrypted=url.startswith("https://"))
    access = Access(name="agent", server=url, source=files)
    return Agent(name=url, client=await stack.enter_async_context(Client(access, timeout=reach.seconds)))


async def _in_pods(reach: Reach, company: Company, stack: AsyncExitStack) -> list[Agent]:
    found: list[Agent] = []
    otherwise = "which agents? Give --agent URL (or ISTHMUS_AGENTS), or --kubeconfig FILE"
    accesses = [
        access_of(reach.kubeconfig, context, otherwise=otherwise) for context in reach.contexts or (None,)
    ]
    clients = [await stack.enter_async_context(Client(access, timeout=reach.seconds)) for access in accesses]
    for agents in await asyncio.gather(*(_pods(client, reach, company) for client in clients)):
        found += agents
    return found


async def _pods(client: Client, reach: Reach, company: Company) -> list[Agent]:
    """The agents' running pods in one cluster."""
    context = client.access.name
    try:
        page = await client.list_page(
            kinds.POD, namespace=reach.namespace, label_selector=POD_SELECTOR, limit=PAGE
        )
        pods: list[Pod] = [kinds.POD.decode(item) for item in page.items]
    except (KubeError, msgspec.DecodeError) as error:
        why = _why(error, None, reach.namespace) if isinstance(error, KubeError) else str(error)
        company.away.append(Away(agent=f"context {context}", reason=why))
        return []
    names = sorted(pod.metadata.name for pod in pods if pod.status.phase == "Running")
    if not names:
        company.away.append(
            Away(
                agent=f"context {context}",
                reason=f"no running pod with label {POD_SELECTOR} in namespace {reach.namespace}: install "
                "Isthmus there, or say --agent-namespace",
            )
        )
    prefix = f"/api/v1/namespaces/{reach.namespace}/pods"
    return [
        Agent(
            name=f"{context}/{name}",
            client=client,
            prefix=f"{prefix}/{name}:{CONSOLE_PORT}/proxy",
            context=context,
        )
        for name in names
    ]


def access_of(kubeconfig: str, context: str | None, *, otherwise: str = "give --kubeconfig FILE") -> Access:
    """The API server of a context, from the first file of the list that has it.

    `otherwise` is what to say where no file is given and there is none at home either.
    """
    files = [Path(text).expanduser() for text in kubeconfig.split(":") if text]
    if not files:
        files = [Path("~/.kube/config").expanduser()]
        if not files[0].exists():
            if context is None and (SERVICE_ACCOUNT / "token").exists():
                return load_access(None)
            raise ConfigError(f"{otherwise}: there is no ~/.kube/config")
    first: ConfigError | None = None
    for file in files:
        try:
            return load_access(file, context)
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


def _explained(agent: Agent, path: str, said: RawAnswer) -> KubeError:
    """What an answer means that is not the console's own."""
    if not agent.prefix:
        return KubeError(f"answers {path} with {said.status}, and is no console of an Isthmus agent")
    return error_of(f"GET {agent.prefix}{path}", said.status, said.body)


def _why(error: KubeError, agent: Agent | None, namespace: str = "") -> str:
    """One line: what is wrong and what to do about it."""
    if isinstance(error, Forbidden):
        space = namespace or (agent.prefix.split("/")[4] if agent is not None and agent.prefix else "")
        return (
            f"not allowed ({error}); needed in namespace {space}: list on pods and get on pods/proxy, e.g. "
            f"kubectl -n {space} create role isthmus-reader --verb=get,list --resource=pods,pods/proxy, "
            "and a rolebinding to it"
        )
    if isinstance(error, NotFound) and agent is not None:
        return f"its pod has gone ({error}); ask again"
    if agent is not None and agent.prefix and error.status in (500, 502, 503, 504):
        return (
            f"its API server does not reach the pod's port {CONSOLE_PORT} ({error}); see the pod's log, "
            "and that its console listens on all addresses"
        )
    if isinstance(error, Unreachable):
        number = getattr(error.__cause__, "errno", None)
        text = os.strerror(number) if number else str(error).rpartition("no answer: ")[2]
        return f"no answer ({text}); is it running, and is the address right?"
    return str(error)
