"""A hub, two members and their agents: API servers of either sort, agents and hub as the real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

import dns.asyncquery
import dns.message

from isthmus.api import crds, kinds
from isthmus.api.meta import Kind, Object, ObjectKey
from isthmus.errors import NotFound
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.kube.raw import RawObject, raw
from loadtests.ports import free_port

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spineservers import SECONDS, Servers, settles

NUMBERS = {"eu-1": 1, "eu-2": 2, "eu-3": 3}
PATIENT = 30.0


class Process:
    """One `isthmus run …`."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "isthmus", "run", *self._arguments, stdout=log, stderr=log
            )

    async def stop(self) -> int:
        process = self.process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            return await process.wait()


class Agent(Process):
    """The agent of one member; `named`: the cluster id it is told, where that is not the member's."""

    def __init__(self, cluster: str, root: Path, *, named: str = "") -> None:
        self.cluster = cluster
        self.state_dir = root / cluster
        self.dns_port, self.xds_port, self.console_port = free_port(), free_port(), free_port()
        kubeconfig = str(root / f"{cluster}.kubeconfig")
        arguments = [
            "agent",
            "--cluster",
            named or cluster,
            "--region",
            "eu",
            "--state-dir",
            str(self.state_dir),
        ]
        arguments += ["--kubeconfig", kubeconfig, "--context", cluster]
        arguments += ["--hub-kubeconfig", kubeconfig, "--hub-context", "hub"]
        for door, port in (("dns", self.dns_port), ("xds", self.xds_port), ("console", self.console_port)):
            arguments += [f"--{door}-listen", f"127.0.0.1:{port}"]
        super().__init__(cluster, arguments, root / f"{cluster}.log")

    def pid(self, sibling: str) -> int:
        return int((self.state_dir / f"{sibling}.pid").read_text())

    async def resolve(self, name: str, kind: str = "A", *, seconds: float = 1.0) -> dns.message.Message:
        question = dns.message.make_query(name, kind)
        return await dns.asyncquery.udp(question, "127.0.0.1", port=self.dns_port, timeout=seconds)

    async def addresses(self, name: str, *, seconds: float = 1.0) -> list[str]:
        """Addresses of a name, [] while there are none or nobody answers.

        `seconds`: how long an answer may take; `PATIENT` where one has to come, for who is slow does answer.
        """
        try:
            answer = await self.resolve(name, seconds=seconds)
        except (OSError, dns.exception.Timeout):
            return []
        return sorted(str(one) for rrset in answer.answer for one in rrset)


class Spine:
    """A hub, the members of its servers (two as a rule) and their agents."""

    def __init__(self, root: Path, servers: Servers) -> None:
        self.root = root
        self.servers = servers
        self.agents = {name: Agent(name, root) for name in servers.members}
        arguments = ["hub", "--hub-kubeconfig", str(root / "hub.kubeconfig"), "--hub-context", "hub"]
        arguments += ["--console-listen", f"127.0.0.1:{free_port()}"]
        self.hub = Process("hub", arguments, root / "hub.log")
        self.clients: dict[str, Client] = {}

    async def __aenter__(self) -> Self:
        await self.servers.start(self.root)
        for name in ("hub", *self.agents):
            client = await Client(load_access(self.root / "kubeconfig", name), timeout=60.0).__aenter__()
            self.clients[name] = client
            for crd in crds.hub_crds() if name == "hub" else crds.member_crds():
                await self.apply(name, kinds.CRD, crd)
                await self._served(name, crd)
        await self.servers.admit(self.root, self.clients)
        for name in self.agents:
            await self.apply(name, kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "shop"))
        return self

    async def _served(self, cluster: str, crd: dict[str, Any]) -> None:
        """Waits until the kind that was installed can be listed."""
        spec = crd["spec"]
        version = next(one["name"] for one in spec["versions"] if one["storage"])
        names, namespaced = spec["names"], spec["scope"] == "Namespaced"
        kind = Kind(spec["group"], version, names["kind"], names["plural"], namespaced, Object)

        async def listed() -> bool:
            try:
                await self.clients[cluster].list_page(kind)
            except NotFound:
                return False
            return True

        await settles(listed, f"{kind} is served by {cluster}")

    async def __aexit__(self, *_: object) -> None:
        for process in (*self.agents.values(), self.hub):
            await process.stop()
        for client in self.clients.values():
            await client.__aexit__(None, None, None)
        await self.servers.stop()

    async def start(self, *names: str) -> None:
        for name in names:
            await (self.hub if name == "hub" else self.agents[name]).start()

    async def apply(self, cluster: str, kind: Kind[Any], body: dict[str, Any]) -> RawObject:
        return await self.clients[cluster].apply(raw(kind), body, manager="test")

    async def get(
        self, cluster: str, kind: Kind[Any], name: str, namespace: str = "shop"
    ) -> RawObject | None:
        try:
            return await self.clients[cluster].get(raw(kind), ObjectKey(namespace, name))
        except NotFound:
            return None

    async def everything(self, cluster: str, kind: Kind[Any]) -> list[RawObject]:
        page = await self.clients[cluster].list_page(kind)
        return [json.loads(bytes(item)) for item in page.items]

    async def serve(self, cluster: str, name: str, *, headless: bool = False) -> None:
        """A Service with two ready pods, exported."""
        spec: dict[str, Any] = {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        }
        if headless:
            spec["clusterIP"] = "None"
        await self.apply(cluster, kinds.SERVICE, thing(kinds.SERVICE, "shop", name, spec=spec))
        await self.apply(cluster, kinds.ENDPOINT_SLICE, endpoints(cluster, name))
        await self.apply(cluster, kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, "shop", name))

    async def condition(self, cluster: str, kind: Kind[Any], name: str, wanted: str) -> RawObject | None:
        found = await self.get(cluster, kind, name)
        conditions = (found or {}).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == wanted), None)


def thing(kind: Kind[Any], namespace: str, name: str, **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **parts}


def pods(cluster: str) -> list[str]:
    """Addresses of the two pods that `serve` gives a service."""
    return [f"10.{63 + NUMBERS[cluster]}.0.{number}" for number in (1, 2)]


def endpoints(cluster: str, name: str, addresses: list[str] | None = None) -> dict[str, Any]:
    chosen = pods(cluster) if addresses is None else addresses
    return thing(
        kinds.ENDPOINT_SLICE,
        "shop",
        f"{name}-abcde",
        metadata={"labels": {"kubernetes.io/service-name": name}},
        addressType="IPv4",
        ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
        endpoints=[
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {
                    "kind": "Pod",
                    "namespace": "shop",
                    "name": f"{name}-{address}",
                    "uid": address,
                },
            }
            for address in chosen
        ],
    )


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


WEB = "web.shop.svc.clusterset.local"
EVERYBODY = sorted([*pods("eu-1"), *pods("eu-2")])


def active_active(name: str) -> dict[str, Any]:
    spec = {"strategy": "ActiveActive", "dns": {"answer": "Endpoints"}}
    return thing(kinds.POLICY, "shop", name, spec=spec)


async def both_serve(spine: Spine, name: str = "web") -> None:
    """The same service in both members, drawn evenly by eu-1's callers."""
    for cluster in ("eu-1", "eu-2"):
        await spine.serve(cluster, name)
    await spine.apply("eu-1", kinds.POLICY, active_active(name))
    await spine.start("eu-1", "eu-2")
    await answers(spine, "eu-1", EVERYBODY, name)


async def answers(spine: Spine, cluster: str, wanted: list[str], name: str = "web") -> None:
    agent = spine.agents[cluster]

    async def look() -> bool:
        return await agent.addresses(f"{name}.shop.svc.clusterset.local") == sorted(wanted)

    await settles(look, f"{cluster} answers {wanted}", agent.log)
