"""The clusters that the end-to-end tests stand on.

`Built`: two clusters that tools/real_clusters.sh makes possible on this machine, with faults at will.
`Given`: any two contexts of a kubeconfig (kind, k3d, …), with what an administrator of them can do.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
NICE = ("nice", "-n", "19")
SECONDS = 180.0
"""Until something must have settled; the machine may be busy."""


class Missing(Exception):
    """This machine cannot do it; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What pods run; `envoy_command` starts Envoy in its image."""

    busybox: str
    envoy: str
    envoy_command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster: how to administer it, and where Isthmus' processes for it run."""

    name: str
    kubectl: tuple[str, ...]
    """A command that takes kubectl's arguments."""
    kubeconfig: Path
    context: str
    beside: tuple[str, ...]
    """Prefix of a command that runs in the network where this cluster's agent lives."""
    address: str
    """Where pods of the cluster reach that agent."""
    first_node: str
    dns_ip: str = ""
    """Address for the cluster's DNS, "" where it has one already."""

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """The output of kubectl."""
        done = subprocess.run(
            [*self.kubectl, *arguments], input=stdin, capture_output=True, text=True, timeout=SECONDS
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """An object or a list as JSON, None where there is none."""
        found = self.run("get", *arguments, "-o", "json", check=False)
        return json.loads(found) if found else None

    def apply(self, text: str) -> None:
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


class Ground(Protocol):
    """Two clusters with one flat network of pods."""

    clusters: tuple[Cluster, Cluster]
    images: Images

    def stop_api_server(self, cluster: Cluster) -> None: ...

    def start_api_server(self, cluster: Cluster) -> None: ...

    def cut(self, *nodes: str) -> None:
        """These nodes lose their link: nothing comes and nothing goes."""

    def heal(self, *nodes: str) -> None: ...

    def close(self) -> None: ...


class Built:
    """Clusters `a` (one node) and `b` (two nodes) in namespaces of this machine."""

    def __init__(self) -> None:
        script = [str(ROOT / "tools" / "real_clusters.sh"), "--where"]
        found = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
        if found.returncode:
            raise Missing(found.stderr.strip())
        envoy = subprocess.run([str(ROOT / "tools" / "envoy.sh")], capture_output=True, text=True)
        if envoy.returncode:
            raise Missing(envoy.stderr.strip())
        self._tool = Path(found.stdout.strip())
        _sweep(self._tool)
        # Not in a temporary folder: nodes mount overlays on it.
        self._state = self._tool.parent / f"e2e-{os.getpid()}"
        self._state.mkdir()
        self._environment = os.environ | {"CLUSTER_STATE": str(self._state)}
        try:
            self._up(Path(envoy.stdout.strip()))
        except BaseException:
            self.close()
            raise
        self.clusters = (self._cluster("a"), self._cluster("b"))
        self.images = Images(
            busybox="localhost/busybox:1", envoy="localhost/envoy:1", envoy_command="/usr/bin/envoy"
        )

    def stop_api_server(self, cluster: Cluster) -> None:
        self._run("stop", cluster.first_node, "kube-apiserver")

    def start_api_server(self, cluster: Cluster) -> None:
        self._run("start", cluster.first_node, "kube-apiserver")
        settles(
            lambda: cluster.run("get", "--raw", "/readyz", check=False) == "ok", f"{cluster.name} answers"
        )

    def cut(self, *nodes: str) -> None:
        for node in nodes:
            self._run("cut", node)

    def heal(self, *nodes: str) -> None:
        for node in nodes:
            self._run("heal", node)

    def close(self) -> None:
        _down(self._tool, self._state)

    def _run(self, *arguments: str) -> str:
        return _cluster_py(self._tool, self._state, *arguments)

    def _up(self, envoy: Path) -> None:
        command = [*NICE, str(self._tool / "cluster.py"), "up"]
        sizes = {"a": ("0", "1"), "b": ("1", "2")}
        ups = [
            subprocess.Popen(
                [*command, name, "--index", index, "--nodes", nodes],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for name, (index, nodes) in sizes.items()
        ]
        image = self._state / "envoy.tar"
        make = [*NICE, str(self._tool / "mkimage.py"), "--name", "localhost/envoy:1", "--out", str(image)]
        subprocess.run([*make, "--program", f"{envoy}:/usr/bin/envoy"], check=True)
        said = [one.communicate(timeout=SECONDS)[0] for one in ups]
        if any(one.returncode for one in ups):
            raise AssertionError("clusters do not come up:\n" + "\n".join(said))
        self._run("load", "a", "--", str(image))
        image.unlink()

    def _cluster(self, name: str) -> Cluster:
        folder = self._state / name
        made = json.loads((folder / "cluster.json").read_text())
        index, first = made["index"], f"{name}-1"
        pid = (folder / first / "pid").read_text().strip()
        tool = str(self._tool / "cluster.py")
        return Cluster(
            name=name,
            kubectl=("env", f"CLUSTER_STATE={self._state}", *NICE, tool, "kubectl", name, "--"),
            kubeconfig=folder / "admin.conf",
            context=name,
            beside=(*NICE, "nsenter", "--target", pid, "--net", "--"),
            address=f"172.30.{index + 1}.1",
            first_node=first,
            dns_ip=str(ipaddress.ip_network(f"10.{96 + index}.0.0/16")[10]),
        )


class Given:
    """Two contexts of ISTHMUS_E2E_KUBECONFIG (ISTHMUS_E2E_CONTEXTS names them, default: the first two).

    Isthmus' processes run on this host; ISTHMUS_E2E_ADDRESS is where pods reach it. Faults are not ours to
    make, and the clusters' DNS is not ours to change.
    """

    images = Images(
        busybox=os.environ.get("ISTHMUS_E2E_BUSYBOX", "busybox:1.36"),
        envoy=os.environ.get("ISTHMUS_E2E_ENVOY", "envoyproxy/envoy:v1.40.0"),
        envoy_command="envoy",
    )

    def __init__(self, kubeconfig: Path) -> None:
        address = os.environ.get("ISTHMUS_E2E_ADDRESS", "")
        if not address:
            raise Missing("ISTHMUS_E2E_ADDRESS is not set: where pods reach this host")
        if shutil.which("kubectl") is None:
            raise Missing("there is no kubectl on PATH")
        base = ("kubectl", "--kubeconfig", str(kubeconfig))
        listed = subprocess.run(
            [*base, "config", "get-contexts", "-o", "name"], capture_output=True, text=True, check=True
        )
        asked = os.environ.get("ISTHMUS_E2E_CONTEXTS")
        names = asked.split(",") if asked else listed.stdout.split()
        if len(names) < 2:
            raise Missing(f"{kubeconfig} has {len(names)} contexts, two are needed")
        first, second = (self._cluster(name, base, kubeconfig, address) for name in names[:2])
        self.clusters = (first, second)

    def _cluster(self, context: str, base: Sequence[str], kubeconfig: Path, address: str) -> Cluster:
        kubectl = (*base, "--context", context)
        name = "".join(one if one.isalnum() else "-" for one in context.lower()).strip("-")[:40]
        nodes = subprocess.run(
            [*kubectl, "get", "nodes", "-o", "jsonpath={.items[0].metadata.labels.kubernetes\\.io/hostname}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return Cluster(
            name=name,
            kubectl=kubectl,
            kubeconfig=kubeconfig,
            context=context,
            beside=(),
            address=address,
            first_node=nodes.stdout,
        )

    def stop_api_server(self, cluster: Cluster) -> None:
        raise Missing("ISTHMUS_E2E_KUBECONFIG: the clusters are given, faults are not ours to make")

    start_api_server = stop_api_server

    def cut(self, *nodes: str) -> None:
        raise Missing("ISTHMUS_E2E_KUBECONFIG: the clusters are given, faults are not ours to make")

    heal = cut

    def close(self) -> None:
        return


def settles(look: Callable[[], Any], what: str) -> Any:
    """Waits until `look` finds something; says what was missed."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"did not settle within {SECONDS:g} s: {what}")


def _cluster_py(tool: Path, state: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*NICE, str(tool / "cluster.py"), *arguments],
        env=os.environ | {"CLUSTER_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode:
        raise AssertionError(f"cluster.py {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def _down(tool: Path, state: Path) -> None:
    for cluster in sorted(state.glob("*/cluster.json")):
        _cluster_py(tool, state, "down", cluster.parent.name)
    shutil.rmtree(state)


def _sweep(tool: Path) -> None:
    """Takes down what a session that was killed has left."""
    for state in tool.parent.glob("e2e-*"):
        if not Path(f"/proc/{state.name.removeprefix('e2e-')}").exists():
            _down(tool, state)
