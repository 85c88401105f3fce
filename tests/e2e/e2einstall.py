"""Isthmus on a ground: CRDs, rights, the hub's process, an agent for each cluster; then people's objects."""

from __future__ import annotations

import json
import random
import shlex
import signal
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from e2eground import ROOT, Cluster, Ground, Missing, settles

from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import envoy_bootstrap

MANIFESTS = Path(__file__).parent / "manifests"
RBAC = ROOT / "deploy" / "rbac"
PORTS = range(20_000, 32_000)
STOP_SECONDS = 60.0
DOORS = ("kube-proxy", "DNS", "Envoy")


def fill(path: Path, **values: str) -> str:
    """A manifest with its `${placeholders}` filled in."""
    return string.Template(path.read_text()).substitute(values)


class Agent:
    """The agent of one cluster, as a process in that cluster's network."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.log = folder / f"{cluster.name}.log"
        dns, xds, console = random.SystemRandom().sample(PORTS, 3)
        self.dns, self.xds = (f"{cluster.address}:{port}" for port in (dns, xds))
        kubeconfig = str(folder / f"{cluster.name}.kubeconfig")
        self._arguments = [
            *(
                "agent",
                "--cluster",
                cluster.name,
                "--region",
                "eu",
                "--state-dir",
                str(folder / cluster.name),
            ),
            *("--kubeconfig", kubeconfig, "--context", "member"),
            *("--hub-kubeconfig", kubeconfig, "--hub-context", "hub"),
            *("--dns-listen", self.dns, "--xds-listen", self.xds, "--console-listen", f"127.0.0.1:{console}"),
        ]
        self._process = _isthmus(cluster, self._arguments, self.log)

    def stop(self) -> None:
        _stop(self._process)


class Site:
    """Two clusters with Isthmus; the first one's API server is the hub too."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        self.ground = ground
        self.near, self.far = ground.clusters
        self.hub = self.near
        self.agents: list[Agent] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._hub_log = folder / "hub.log"
        for cluster in ground.clusters:
            self._install(cluster)
        self._admit(folder)
        for cluster in ground.clusters:
            self.agents.append(Agent(cluster, folder))
        hub = ["hub", "--hub-kubeconfig", str(folder / "hub.kubeconfig")]
        port = random.SystemRandom().choice(PORTS)
        hub += ["--console-listen", f"127.0.0.1:{port}"]
        self._processes.append(_isthmus(self.hub, hub, self._hub_log))
        self._callers()

    def stop(self) -> None:
        for agent in self.agents:
            agent.stop()
        for process in self._processes:
            _stop(process)

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        paths = [*(agent.log for agent in self.agents), self._hub_log]
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in paths)

    # What is installed.

    def _install(self, cluster: Cluster) -> None:
        for audience in ("member", *(["hub"] if cluster is self.hub else [])):
            crds = subprocess.run(
                [sys.executable, "-m", "isthmus", "crds", "--for", audience],
                capture_output=True,
                text=True,
                check=True,
            )
            cluster.apply(crds.stdout)
        cluster.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
        cluster.apply((RBAC / "member.yaml").read_text())
        cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")

    def _admit(self, folder: Path) -> None:
        """The rights and credentials of each process, as whoever admits a cluster gives them."""
        self.hub.apply((RBAC / "hub.yaml").read_text())
        _kubeconfig(folder / "hub.kubeconfig", hub=(self.hub, "isthmus-system", "isthmus-hub"))
        for cluster in self.ground.clusters:
            namespace = hub_namespace(ClusterId(cluster.name))
            self.hub.apply(fill(RBAC / "hub-agent.yaml", CLUSTER=cluster.name, NAMESPACE=namespace))
            self.hub.apply(
                json.dumps(
                    {
                        "apiVersion": "hub.isthmus.dev/v1alpha1",
                        "kind": "Cluster",
                        "metadata": {"name": cluster.name},
                        "spec": {"region": "eu"},
                    }
                )
            )
            _kubeconfig(
                folder / f"{cluster.name}.kubeconfig",
                member=(cluster, "isthmus-system", "isthmus-agent"),
                hub=(self.hub, namespace, "isthmus-agent"),
            )

    def _callers(self) -> None:
        """DNS, a client and an Envoy in the near cluster."""
        near, agent = self.near, self.agents[0]
        for one, other in zip(self.ground.clusters, self.agents, strict=True):
            if one.dns_ip:
                values = {"AGENT_DNS": other.dns, "FIRST_NODE": one.first_node, "DNS_IP": one.dns_ip}
                one.apply(fill(MANIFESTS / "coredns.yaml", **values))
        bootstrap = envoy_bootstrap(
            "e2e", Vantage("eu", "", ClusterId(near.name)), agent.xds, "127.0.0.1:9901", "0.0.0.0:10000"
        )
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "sidecar", "namespace": "shop"},
            "data": {"envoy.json": json.dumps(bootstrap)},
        }
        images = self.ground.images
        near.apply(json.dumps(config))
        near.apply(
            fill(
                MANIFESTS / "callers.yaml",
                FIRST_NODE=near.first_node,
                BUSYBOX=images.busybox,
                ENVOY=images.envoy,
                ENVOY_COMMAND=images.envoy_command,
            )
        )
        near.run("wait", "pod", "-n", "shop", "client", "envoy", "--for=condition=Ready", "--timeout=120s")
        for one in self.ground.clusters:
            if one.dns_ip:
                one.run("rollout", "status", "-n", "kube-system", "deploy/coredns", "--timeout=120s")

    # What people do.

    def serve(self, cluster: Cluster, name: str, replicas: int = 2) -> None:
        """A Deployment, its Service and its export; waits for the pods."""
        values = {"NAME": name, "REPLICAS": str(replicas), "CLUSTER": cluster.name}
        cluster.apply(fill(MANIFESTS / "service.yaml", **values, BUSYBOX=self.ground.images.busybox))
        cluster.run("rollout", "status", "-n", "shop", f"deploy/{name}", "--timeout=120s")

    def policy(self, name: str, **spec: Any) -> None:
        """A policy for the near cluster's callers of a service."""
        policy = {
            "apiVersion": "traffic.isthmus.dev/v1alpha1",
            "kind": "GlobalTrafficPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
        }
        self.near.apply(json.dumps(policy))

    def pods(self, cluster: Cluster, name: str, node: str = "") -> set[str]:
        """Names of a service's pods, on one node or on all."""
        listed = cluster.get("pods", "-n", "shop", "-l", f"app={name}")["items"]
        return {one["metadata"]["name"] for one in listed if node in ("", one["spec"]["nodeName"])}

    # How it is called, always from a pod of the near cluster.

    @property
    def doors(self) -> tuple[str, ...]:
        """The doors that pods of the near cluster have."""
        return DOORS if self.near.dns_ip else tuple(door for door in DOORS if door != "DNS")

    def clusterset_ip(self, name: str) -> str:
        """Waits for the address of an import in the near cluster."""

        def look() -> str:
            found = self.near.get("serviceimport", "-n", "shop", name)
            return ((found or {}).get("spec", {}).get("ips") or [""])[0]

        found: str = settles(look, f"an address for {name}; {self.logs()}")
        return found

    def calls(self, door: str, name: str, times: int = 12) -> Counter[str]:
        """Answers of so many new connections by who gave them; "" counts the failures.

        Raises Missing for a door that these clusters do not have.

        `door`: kube-proxy (the import's address), DNS (its name, by the cluster's DNS), Envoy (by the pod).
        """
        script = f"for i in $(seq {times}); do {self._call(door, name)}; done"
        said = self.near.run("exec", "-n", "shop", "client", "--", "sh", "-c", script, check=False)
        return Counter(line.strip() for line in said.splitlines())

    @contextmanager
    def calling(self, name: str) -> Iterator[dict[str, Counter[str]]]:
        """Calls through all doors for as long as it lasts, whatever dies; afterwards, what each door gave."""
        found: dict[str, Counter[str]] = {}
        calls = "; ".join(f"({self._call(door, name)}) >>/tmp/{door}" for door in self.doors)
        loop = f"while [ -e /tmp/calling ]; do {calls}; sleep 0.2; done"
        files = " ".join(f"/tmp/{door}" for door in self.doors)
        self._in_client(f"rm -f {files}; touch /tmp/calling")
        self._in_client(f"setsid sh -c {shlex.quote(loop)} </dev/null >/dev/null 2>&1 &")
        try:
            yield found
        finally:
            self._in_client("rm -f /tmp/calling")
            for door in self.doors:
                said = self._in_client(f"cat /tmp/{door}")
                found[door] = Counter(line.strip() for line in said.splitlines())

    def _call(self, door: str, name: str) -> str:
        """A shell command: one call, an empty line where it fails."""
        host = f"{name}.shop.svc.clusterset.local"
        self._need(door)
        match door:
            case "kube-proxy":
                wget = f"wget -qO- http://{self.clusterset_ip(name)}/"
            case "DNS":
                wget = f"wget -qO- http://{host}/"
            case "Envoy":
                ip = self.near.get("pod", "-n", "shop", "envoy")["status"]["podIP"]
                wget = f"wget -qO- --header 'Host: {host}' http://{ip}:10000/"
            case _:
                raise ValueError(door)
        return f"timeout 2 {wget} 2>/dev/null || echo"

    def _need(self, door: str) -> None:
        if door not in self.doors:
            raise Missing(f"the DNS of {self.near.name} is not ours to change: it does not ask Isthmus")

    def _in_client(self, script: str) -> str:
        return self.near.run("exec", "-n", "shop", "client", "--", "sh", "-c", script)

    def look_up(self, name: str) -> set[str]:
        """Addresses that the near cluster's DNS gives a pod for an imported service."""
        host = f"{name}.shop.svc.clusterset.local"
        self._need("DNS")
        said = self.near.run("exec", "-n", "shop", "client", "--", "nslookup", "-type=a", host, check=False)
        _, _, answer = said.partition("\n\n")
        return {line.split()[-1] for line in answer.splitlines() if line.startswith("Address")}


def _isthmus(cluster: Cluster, arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*cluster.beside, sys.executable, "-m", "isthmus", "run", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _kubeconfig(path: Path, **contexts: tuple[Cluster, str, str]) -> None:
    """A kubeconfig with tokens of service accounts: context = (cluster, namespace, account)."""
    parts: dict[str, list[dict[str, Any]]] = {"clusters": [], "users": [], "contexts": []}
    for name, (cluster, namespace, account) in contexts.items():
        shown = cluster.run("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
        (server,) = (one["cluster"] for one in yaml.safe_load(shown)["clusters"])
        token = cluster.run("create", "token", "-n", namespace, account, "--duration=24h").strip()
        parts["clusters"].append({"name": name, "cluster": server})
        parts["users"].append({"name": name, "user": {"token": token}})
        parts["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    path.touch(mode=0o600)
    current = next(iter(contexts))
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": current, **parts}))
