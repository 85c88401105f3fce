"""The spine's API servers: embedded in this process, or real ones whose clients have least privileges.

Both write the same files: `kubeconfig` for the tests (contexts hub, eu-1, eu-2), and for each process
`<process>.kubeconfig` with contexts of the same names and that process' own credentials.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import yaml

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spineaudit import Request as Request
from spineaudit import asked
from spineclock import Clocked
from spinewaits import SECONDS as SECONDS
from spinewaits import settles

from isthmus.api import kinds, meta
from isthmus.api.meta import Kind
from isthmus.apiserver.faults import Fault
from isthmus.apiserver.server import ApiServer, ClusterConfig
from isthmus.errors import NotFound
from isthmus.kube.client import Client
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from loadtests.ports import free_port

if TYPE_CHECKING:
    from control_plane import ControlPlanes, RealCluster

MEMBERS = ("eu-1", "eu-2")
SERVICE_CIDR = "10.96.0.0/16"
RBAC = Path(__file__).parents[2] / "deploy" / "rbac"
AGENT, HUB = "isthmus-agent", "isthmus-hub"
ATTEMPTED = {("create", "namespaces"), ("patch", "namespaces")}
"""Where a namespace may not be made, whoever admits a cluster has made it."""

Clients = Mapping[str, Client]
Manifest = dict[str, Any]
Rule = tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]]
"""API groups, resources, names of objects, verbs."""

_KINDS = {
    "Namespace": kinds.NAMESPACE,
    "ServiceAccount": Kind("", "v1", "ServiceAccount", "serviceaccounts", True, meta.Object),
    **{
        name: Kind(
            "rbac.authorization.k8s.io",
            "v1",
            name,
            f"{name.lower()}s",
            not name.startswith("Cluster"),
            meta.Object,
        )
        for name in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    },
}


class Servers(Protocol):
    """A hub and members that can be reached and can have accidents."""

    members: tuple[str, ...]

    async def start(self, root: Path) -> None:
        """Runs them and writes `kubeconfig`."""

    async def admit(self, root: Path, clients: Clients) -> None:
        """Writes each process' kubeconfig, when the CRDs are there."""

    def silence(self, cluster: str) -> None:
        """The server takes requests and answers none."""

    def crash(self, cluster: str) -> None:
        """The server is gone."""

    def revive(self, cluster: str) -> None:
        """It is back, with what it held."""

    async def stop(self) -> None:
        """The test is over."""


class Embedded:
    """Servers of this process, which ask for no credentials."""

    def __init__(
        self,
        members: Sequence[str] = MEMBERS,
        *,
        cidrs: Mapping[str, str] | None = None,
        clocks: Mapping[str, float] | None = None,
    ) -> None:
        """`cidrs`: ranges of cluster IPs; `clocks`: seconds that a server's clock is ahead."""
        self.members = tuple(members)
        self.server = ApiServer(
            [
                ClusterConfig(
                    name=name,
                    port=free_port(),
                    service_cidr=(cidrs or {}).get(name, SERVICE_CIDR),
                    clock_offset_seconds=(clocks or {}).get(name, 0.0),
                )
                for name in ("hub", *members)
            ]
        )

    async def start(self, root: Path) -> None:
        await self.server.start()
        (root / "kubeconfig").write_text(self.server.kubeconfig())

    async def admit(self, root: Path, clients: Clients) -> None:
        for process in ("hub", *self.members):
            (root / f"{process}.kubeconfig").write_text(self.server.kubeconfig())

    def silence(self, cluster: str) -> None:
        self.server.cluster(cluster).faults.set(Fault(kind="silence"))

    def crash(self, cluster: str) -> None:
        self.server.cluster(cluster).faults.set(Fault(kind="cut"))

    def revive(self, cluster: str) -> None:
        self.server.cluster(cluster).faults.clear()

    async def stop(self) -> None:
        await self.server.stop()


class Real:
    """Real API servers. Each process is a service account with the rights of deploy/rbac, less `without`.

    The servers outlive the test, so what an earlier one left is removed first.
    """

    def __init__(
        self,
        planes: ControlPlanes,
        without: Sequence[tuple[str, str]] = (),
        members: Sequence[str] = MEMBERS,
        *,
        cidrs: Mapping[str, str] | None = None,
        clocks: Mapping[str, float] | None = None,
    ) -> None:
        """`cidrs`: ranges of cluster IPs of members that this test is the first to start.

        `clocks`: seconds that a server's clock is ahead.
        """
        self._planes = planes
        self.members = tuple(members)
        by_cidr: dict[str, list[str]] = {SERVICE_CIDR: ["hub"]}
        for member in members:
            by_cidr.setdefault((cidrs or {}).get(member, SERVICE_CIDR), []).append(member)
        self._clusters = {
            cluster.name: cluster
            for cidr, names in by_cidr.items()
            for cluster in planes.clusters(*names, service_cidr=cidr)
        }
        self._without = frozenset(without)
        self._ill: set[str] = set()
        self.crashed: set[str] = set()
        """Servers that forbade everything for a moment, when they began and did not know their roles yet."""
        self._read = {name: one.audit.stat().st_size for name, one in self._clusters.items()}
        self._clocked: list[Clocked] = []
        for name, ahead in (clocks or {}).items():
            one = self._clusters[name]
            clocked = Clocked(one.url, one.tls(), planes.server_tls(), ahead)
            self._clusters[name] = replace(one, url=clocked.url)
            self._clocked.append(clocked)

    async def start(self, root: Path) -> None:
        for clocked in self._clocked:
            await clocked.start()
        write_kubeconfig(
            root / "kubeconfig", {name: (one, one.token) for name, one in self._clusters.items()}
        )

    async def admit(self, root: Path, clients: Clients) -> None:
        for name, client in clients.items():
            await self._empty(name, client)
        await self._apply(clients["hub"], manifests("hub.yaml"))
        tokens = {("hub", "hub"): await self._token("hub", "isthmus-system", HUB)}
        for member in self.members:
            namespace = hub_namespace(ClusterId(member))
            await self._ended(clients["hub"], namespace)
            await self._apply(clients[member], manifests("member.yaml"))
            await self._apply(
                clients["hub"], manifests("hub-agent.yaml", CLUSTER=member, NAMESPACE=namespace)
            )
            cluster = {
                "apiVersion": kinds.CLUSTER.api_version,
                "kind": kinds.CLUSTER.kind,
                "metadata": {"name": member},
            }
            await clients["hub"].apply(kinds.CLUSTER, cluster, manager="test")
            tokens[member, member] = await self._token(member, "isthmus-system", AGENT)
            tokens[member, "hub"] = await self._token("hub", namespace, AGENT)
        for process in ("hub", *self.members):
            own = {server: token for (owner, server), token in tokens.items() if owner == process}
            entries = {server: (self._clusters[server], token) for server, token in own.items()}
            write_kubeconfig(root / f"{process}.kubeconfig", entries)
            for server, token in own.items():
                await self._in_force(process, server, token)

    def silence(self, cluster: str) -> None:
        self._ill.add(cluster)
        self._planes.silence(cluster)

    def crash(self, cluster: str) -> None:
        self._ill.add(cluster)
        self.crashed.add(cluster)
        self._planes.crash(cluster)

    def revive(self, cluster: str) -> None:
        self._planes.revive(cluster)
        self._ill.discard(cluster)

    async def stop(self) -> None:
        for cluster in tuple(self._ill):
            self.revive(cluster)
        for clocked in self._clocked:
            await clocked.stop()

    def requests(self) -> list[Request]:
        """Everything that Isthmus' processes asked for since this test began."""
        found = []
        for name, cluster in self._clusters.items():
            with cluster.audit.open("rb") as log:
                log.seek(self._read[name])
                found += [asked(name, json.loads(line)) for line in log if line.endswith(b"\n")]
        return found

    async def _apply(self, client: Client, documents: Sequence[Manifest]) -> None:
        for document in documents:
            rules = [rule for rule in document.get("rules", ()) if not self._left_out(document, rule)]
            body = {**document, "rules": rules} if "rules" in document else document
            await client.apply(_KINDS[document["kind"]], body, manager="test")

    def _left_out(self, role: Manifest, rule: Mapping[str, Any]) -> bool:
        return any(
            role["metadata"]["name"] == name and resource in rule["resources"]
            for name, resource in self._without
        )

    async def _empty(self, name: str, client: Client) -> None:
        for kind, namespace in _leftovers(name, self.members):

            async def none(kind: Kind[Any] = kind, namespace: str = namespace) -> bool:
                page = await client.list_page(kind, namespace=namespace)
                for item in page.items:
                    key = meta.ObjectKey(
                        **{
                            part: json.loads(bytes(item))["metadata"].get(part, "")
                            for part in ("namespace", "name")
                        }
                    )
                    try:
                        await client.delete(kind, key)
                    except NotFound:
                        continue
                return not page.items

            await settles(none, f"no {kind.kind} is left on {name}")

    async def _ended(self, client: Client, namespace: str) -> None:
        """Waits while a namespace that was deleted is ending: nothing can be made in it."""

        async def look() -> bool:
            try:
                found = await client.get(kinds.NAMESPACE, meta.ObjectKey("", namespace))
            except NotFound:
                return True
            return found.metadata.deletion_timestamp is None

        await settles(look, f"{namespace} is not ending")

    async def _token(self, server: str, namespace: str, account: str) -> str:
        cluster = self._clusters[server]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token: str = (await _post(cluster, cluster.token, path, request))["status"]["token"]
        return token

    async def _in_force(self, process: str, server: str, token: str) -> None:
        """Waits until the server's authorizer has seen the rights of an account, and no others."""
        hub = server == "hub"
        namespace = hub_namespace(ClusterId(process)) if hub and process != "hub" else "isthmus-system"
        wanted = {
            _rule(rule)
            for role in granted(process, server)
            for rule in role["rules"]
            if not self._left_out(role, rule)
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }

        async def look() -> bool:
            path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
            answer = await _post(self._clusters[server], token, path, body)
            found = {_rule(rule) for rule in answer["status"]["resourceRules"]}
            # What every account may do: ask about itself.
            return {rule for rule in found if not any("selfsubject" in name for name in rule[1])} == wanted

        await settles(look, f"the rights of {process} on {server}")


def manifests(name: str, **values: str) -> list[Manifest]:
    """The documents of a file of deploy/rbac, its placeholders filled in."""
    text = string.Template((RBAC / name).read_text()).substitute(values)
    return [document for document in yaml.safe_load_all(text) if document]


def granted(process: str, server: str) -> list[Manifest]:
    """The roles of a process on a server."""
    if process == "hub":
        found = [one for one in manifests("hub.yaml") if one["metadata"]["name"] == HUB]
    elif server == "hub":
        values = {"CLUSTER": process, "NAMESPACE": hub_namespace(ClusterId(process))}
        found = manifests("hub-agent.yaml", **values)
        found += [one for one in manifests("hub.yaml") if one["metadata"]["name"] == "isthmus-member"]
    else:
        found = manifests("member.yaml")
    return [one for one in found if "rules" in one]


def write_kubeconfig(path: Path, entries: Mapping[str, tuple[RealCluster, str]]) -> None:
    """A kubeconfig with a context per entry: a cluster and a token for it."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": one.url, "certificate-authority": str(one.authority)}}
            for name, (one, _) in entries.items()
        ],
        "users": [{"name": name, "user": {"token": token}} for name, (_, token) in entries.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in entries],
    }
    path.write_text(json.dumps(document))


async def _post(cluster: RealCluster, token: str, path: str, body: Manifest) -> Manifest:
    headers = {"Authorization": f"Bearer {token}"}
    connector = aiohttp.TCPConnector(ssl=cluster.tls())
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.post(cluster.url + path, json=body) as response,
    ):
        answer: Manifest = await response.json()
        assert response.status < 300, answer
        return answer


def _leftovers(name: str, members: Sequence[str]) -> Iterator[tuple[Kind[Any], str]]:
    """Kinds and namespaces ("": all) of what a test may leave on a server."""
    if name == "hub":
        for kind in (kinds.EXPORTED_SERVICE, kinds.EXPORTED_ENDPOINTS, kinds.CLUSTER, kinds.POLICY):
            yield kind, ""
        for member in members:
            yield kinds.LEASE, hub_namespace(ClusterId(member))
    else:
        for kind in (kinds.SERVICE_EXPORT, kinds.POLICY, kinds.SERVICE_IMPORT, kinds.CLUSTER_PROPERTY):
            yield kind, ""
        for kind in (kinds.SERVICE, kinds.ENDPOINT_SLICE):
            yield kind, "shop"
    yield kinds.LEASE, "isthmus-system"


def _rule(rule: Mapping[str, Any]) -> Rule:
    groups, resources, names, verbs = (
        frozenset(rule.get(part) or ()) for part in ("apiGroups", "resources", "resourceNames", "verbs")
    )
    return groups, resources, names, verbs
