"""Isthmus on a ground: CRDs, rights, the hub's process, an agent for each cluster; then people's objects."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from e2ecallers import ENVOY_PORT, Callers
from e2eground import ROOT, SECONDS, Cluster, Ground, Missing, settles

from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import envoy_bootstrap

MANIFESTS = Path(__file__).parent / "manifests"
RBAC = ROOT / "deploy" / "rbac"
PORTS = range(20_000, 30_000)
STOP_SECONDS = 120.0
MADE = "e2e.isthmus.dev/made"
CLUSTER_WIDE = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings"


def fill(path: Path, **values: str) -> list[dict[str, Any]]:
    """The objects of a manifest with its `${placeholders}` filled in."""
    return list(yaml.safe_load_all(string.Template(path.read_text()).substitute(values)))


class Process:
    """One process of Isthmus beside a cluster, with its log."""

    def __init__(self, name: str, cluster: Cluster, folder: Path, *arguments: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._beside = cluster.beside
        self._pid = folder / f"{name}.pid"  # as the cluster's own network and processes see it
        begin = 'echo $$ >"$0" && cd "$1" && shift && exec "$@"'
        command = ["sh", "-c", begin, str(self._pid), str(ROOT), sys.executable, "-m", "isthmus"]
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                [*self._beside, *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def stop(self) -> None:
        """Tells it to end. Raises AssertionError where it had ended before, or does not end well."""
        tell = subprocess.run([*self._beside, "sh", "-c", 'kill "$(cat "$0")"', str(self._pid)])
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        if tell.returncode or code:
            raise AssertionError(f"{self.name} ended with {code}:\n{self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return f"== {self.log.name}\n{self.log.read_text()[-4000:]}"


class Site(Callers):
    """Two clusters with Isthmus; the first one's API server is the hub too."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        super().__init__(*ground.clusters)
        self.ground = ground
        self.hub = self.near
        self.agents: dict[str, Process] = {}
        self.addresses: dict[str, tuple[str, str, str]] = {}
        """Where each cluster's agent answers DNS and xDS, and has its console."""
        self._folder = folder
        self._processes: list[Process] = []

    def start(self) -> None:
        """Installs everything and waits for the pods that call."""
        for cluster in self.ground.clusters:
            self._install(cluster)
        self._admit()
        ports = iter(random.SystemRandom().sample(PORTS, 7))
        for cluster in self.ground.clusters:
            dns, xds, console = (f"{cluster.address}:{next(ports)}" for _ in "dxc")
            self.addresses[cluster.name] = dns, xds, console
            self.agents[cluster.name] = self._agent(cluster, dns, xds, console)
        kubeconfig = self._folder / "hub.kubeconfig"
        hub = (
            "run",
            "hub",
            "--hub-kubeconfig",
            str(kubeconfig),
            "--console-listen",
            f"127.0.0.1:{next(ports)}",
        )
        self._processes.append(Process("hub", self.hub, self._folder, *hub))
        for cluster in self.ground.clusters:
            dns, xds, _ = self.addresses[cluster.name]
            self._callers(cluster, dns, xds)

    def stop(self) -> None:
        """Ends everything, and takes away what outlives it. Raises what went wrong on the way."""
        failures: list[Exception] = []
        for process in self._processes:
            try:
                process.stop()
            except (AssertionError, subprocess.TimeoutExpired) as failure:
                failures.append(failure)
        if self.ground.outlives:
            for cluster in self.ground.clusters:
                cluster.run("delete", CLUSTER_WIDE, "-l", MADE)
        if failures:
            raise ExceptionGroup("processes that do not end well", failures)

    def logs(self) -> str:
        """The ends of all logs, for a test that failed."""
        return "\n".join(process.said() for process in self._processes)

    # What is installed.

    def _install(self, cluster: Cluster) -> None:
        for namespace in ("isthmus-system", "shop"):
            found = cluster.get("namespace", namespace)
            if found and MADE not in found["metadata"].get("labels", {}):
                raise Missing(
                    f"{cluster.name} has a namespace {namespace} already: give clusters without Isthmus"
                )
        for audience in ("member", *(["hub"] if cluster is self.hub else [])):
            crds = subprocess.run(
                [sys.executable, "-m", "isthmus", "crds", "--for", audience],
                capture_output=True,
                text=True,
                check=True,
            )
            self._apply(cluster, *yaml.safe_load_all(crds.stdout))
        cluster.run("wait", "crd", "--all", "--for=condition=Established", "--timeout=180s")
        self._apply(cluster, *fill(RBAC / "member.yaml"))
        self._apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        # Pods cannot be made before it is there.
        settles(lambda: cluster.get("serviceaccount", "default"), "the namespace's account")

    def _apply(self, cluster: Cluster, *objects: dict[str, Any]) -> None:
        """Applies, with a mark on what is new; people's CRDs stay as they are."""
        wanted = []
        for found in objects:
            if found["kind"] == "CustomResourceDefinition":
                known = cluster.get("crd", found["metadata"]["name"])
                if known and MADE not in known["metadata"].get("labels", {}):
                    continue
            found["metadata"].setdefault("labels", {})[MADE] = "true"
            wanted.append(found)
        cluster.apply(*wanted)

    def _admit(self) -> None:
        """The rights and credentials of each process, as whoever admits a cluster gives them."""
        self._apply(self.hub, *fill(RBAC / "hub.yaml"))
        account = (self.hub, "isthmus-system", "isthmus-hub")
        _kubeconfig(self._folder / "hub.kubeconfig", hub=account)
        for cluster in self.ground.clusters:
            namespace = hub_namespace(ClusterId(cluster.name))
            names = {"CLUSTER": cluster.name, "NAMESPACE": namespace}
            self._apply(self.hub, *fill(RBAC / "hub-agent.yaml", **names))
            admitted = {
                "apiVersion": "hub.isthmus.dev/v1alpha1",
                "kind": "Cluster",
                "metadata": {"name": cluster.name},
                "spec": {"region": "eu"},
            }
            self.hub.apply(admitted)
            _kubeconfig(
                self._folder / f"{cluster.name}.kubeconfig",
                member=(cluster, "isthmus-system", "isthmus-agent"),
                hub=(self.hub, namespace, "isthmus-agent"),
            )

    def _agent(self, cluster: Cluster, dns: str, xds: str, console: str) -> Process:
        name = cluster.name
        kubeconfig = str(self._folder / f"{name}.kubeconfig")
        agent = Process(
            name,
            cluster,
            self._folder,
            *("run", "agent", "--cluster", name, "--region", "eu", "--state-dir", str(self._folder / name)),
            *("--kubeconfig", kubeconfig, "--context", "member"),
            *("--hub-kubeconfig", kubeconfig, "--hub-context", "hub"),
            *("--dns-listen", dns, "--xds-listen", xds, "--console-listen", console),
            "--xds-plaintext",
        )
        self._processes.append(agent)
        return agent

    def _callers(self, cluster: Cluster, dns: str, xds: str) -> None:
        """DNS and a client in every cluster, and an Envoy in the near one."""
        images = self.ground.images
        values = {"FIRST_NODE": cluster.first_node, "BUSYBOX": images.busybox}
        cluster.apply(*fill(MANIFESTS / "client.yaml", **values))
        pods = ["client"]
        if cluster.dns_ip:
            forward = {"AGENT_DNS": dns, "FIRST_NODE": cluster.first_node, "DNS_IP": cluster.dns_ip}
            cluster.apply(*fill(MANIFESTS / "coredns.yaml", **forward))
            cluster.run("rollout", "status", "-n", "kube-system", "deploy/coredns", f"--timeout={SECONDS:g}s")
        if cluster is self.near:
            vantage = Vantage("eu", "", ClusterId(cluster.name))
            listen = f"0.0.0.0:{ENVOY_PORT}"
            config = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "sidecar", "namespace": "shop"},
                "data": {
                    "envoy.json": json.dumps(envoy_bootstrap("e2e", vantage, xds, "127.0.0.1:9901", listen))
                },
            }
            cluster.apply(config)
            values = {"ENVOY": images.envoy, "ENVOY_COMMAND": images.envoy_command}
            cluster.apply(*fill(MANIFESTS / "envoy.yaml", FIRST_NODE=cluster.first_node, **values))
            pods.append("envoy")
        cluster.run("wait", "pod", "-n", "shop", *pods, "--for=condition=Ready", f"--timeout={SECONDS:g}s")

    # What people do.

    def serve(self, cluster: Cluster, name: str, replicas: int = 2) -> None:
        """A Deployment, its Service and its export; waits for the pods."""
        values = {"NAME": name, "REPLICAS": str(replicas), "CLUSTER": cluster.name}
        cluster.apply(*fill(MANIFESTS / "service.yaml", **values, BUSYBOX=self.ground.images.busybox))
        cluster.run("rollout", "status", "-n", "shop", f"deploy/{name}", f"--timeout={SECONDS:g}s")

    def policy(self, name: str, **spec: Any) -> None:
        """A policy for the near cluster's callers of a service."""
        policy = {
            "apiVersion": "traffic.isthmus.dev/v1alpha1",
            "kind": "GlobalTrafficPolicy",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": spec,
        }
        self.near.apply(policy)

    def pods(self, cluster: Cluster, name: str, node: str = "") -> set[str]:
        """Names of a service's pods, on one node or on all."""
        listed = cluster.list("pods", f"app={name}")
        return {one["metadata"]["name"] for one in listed if node in ("", one["spec"]["nodeName"])}


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
