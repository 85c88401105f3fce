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
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
SECONDS = 300.0
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
    beside: tuple[str, ...]
    """Prefix of a command that runs where this cluster's agent lives, and that ends with it."""
    address: str
    """Where pods of the cluster reach that agent."""
    first_node: str
    dns_ip: str = ""
    """Address for the cluster's DNS, "" where it has one already."""

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """The output of kubectl. Raises AssertionError, unless `check` says that a failure is no news."""
        done = subprocess.run(
            [*self.kubectl, *arguments], input=stdin, capture_output=True, text=True, timeout=2 * SECONDS
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, kind: str, name: str, namespace: str = "shop") -> Any:
        """An object as JSON, None where there is none."""
        found = self.run("get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def list(self, kind: str, selector: str = "", namespace: str = "shop") -> Any:
        """Objects as JSON, all of them or those with these labels."""
        return json.loads(self.run("get", kind, "-n", namespace, "-l", selector, "-o", "json"))["items"]

    def apply(self, *objects: dict[str, Any]) -> None:
        together = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(together))


class Ground(Protocol):
    """Two clusters with one flat network of pods."""

    clusters: tuple[Cluster, Cluster]
    images: Images
    outlives: bool
    """Whether the clusters are there after the tests: what is installed must then be taken away."""

    def stop_api_server(self, cluster: Cluster) -> None: ...

    def start_api_server(self, cluster: Cluster) -> None: ...

    def cut(self, *nodes: str) -> None:
        """These nodes lose their link: nothing comes and nothing goes."""

    def heal(self, *nodes: str) -> None: ...

    def close(self) -> None: ...


class Built:
    """Clusters `a` (one node) and `b` (two nodes) in namespaces of this machine, which e2ekeeper.py keeps.

    Everything runs in the nodes' own namespaces and control groups, kubectl and Isthmus' processes too: it
    ends with them.
    """

    outlives = False
    images = Images(busybox="localhost/busybox:1", envoy="localhost/envoy:1", envoy_command="/usr/bin/envoy")

    def __init__(self) -> None:
        self._tool = _printed("real_clusters.sh", "--where")
        keeper = [sys.executable, str(Path(__file__).with_name("e2ekeeper.py"))]
        self._keeper = subprocess.Popen(
            [*keeper, str(self._tool), str(_printed("envoy.sh"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt is for the tests: the keeper sees their end
        )
        try:
            assert self._keeper.stdout is not None
            said = self._keeper.stdout.readline().strip()
            if not said:
                raise AssertionError("no clusters")
            self._state = Path(said)
            self.clusters = (self._cluster("a"), self._cluster("b"))
        except BaseException:
            self.close()
            raise

    def stop_api_server(self, cluster: Cluster) -> None:
        self._do("stop", cluster.first_node, "kube-apiserver")

    def start_api_server(self, cluster: Cluster) -> None:
        self._do("start", cluster.first_node, "kube-apiserver")
        settles(
            lambda: cluster.run("get", "--raw", "/readyz", check=False) == "ok", f"{cluster.name} answers"
        )

    def cut(self, *nodes: str) -> None:
        for node in nodes:
            self._do("cut", node)

    def heal(self, *nodes: str) -> None:
        for node in nodes:
            self._do("heal", node)

    def close(self) -> None:
        _, said = self._keeper.communicate()
        if self._keeper.returncode:
            raise AssertionError(said)

    def _do(self, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._tool / "cluster.py"), *arguments],
            env=os.environ | {"CLUSTER_STATE": str(self._state)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"cluster.py {' '.join(arguments)}: {done.stdout}{done.stderr}")

    def _cluster(self, name: str) -> Cluster:
        folder = self._state / name
        index = json.loads((folder / "cluster.json").read_text())["index"]
        first = f"{name}-1"
        beside = (str(self._tool / "nodeenter.sh"), str(folder / first))
        kubeconfig = folder / "admin.conf"
        files = ("--kubeconfig", str(kubeconfig), "--cache-dir", str(folder / "kubectl"))
        return Cluster(
            name=name,
            kubectl=(*beside, str(self._tool / "bin" / "kubectl"), *files),
            beside=beside,
            address=f"172.30.{index + 1}.1",
            first_node=first,
            dns_ip=str(ipaddress.ip_network(f"10.{96 + index}.0.0/16")[10]),
        )


class Given:
    """Two contexts of ISTHMUS_E2E_KUBECONFIG (ISTHMUS_E2E_CONTEXTS names them, default: the first two).

    Isthmus' processes run on this host; ISTHMUS_E2E_ADDRESS is where pods reach it. Faults are not ours to
    make, and the clusters' DNS is not ours to change.
    """

    outlives = True
    images = Images(
        busybox=os.environ.get("ISTHMUS_E2E_BUSYBOX", "busybox:1.36"),
        envoy=os.environ.get("ISTHMUS_E2E_ENVOY", "envoyproxy/envoy:v1.40.0"),
        envoy_command="envoy",
    )

    def __init__(self, kubeconfig: Path) -> None:
        address = os.environ.get("ISTHMUS_E2E_ADDRESS", "")
        if not address:
            raise Missing("ISTHMUS_E2E_ADDRESS is not set: where pods reach this host")
        for program in ("kubectl", "setpriv"):
            if shutil.which(program) is None:
                raise Missing(f"there is no {program} on PATH")
        base = ("kubectl", "--kubeconfig", str(kubeconfig))
        listed = subprocess.run(
            [*base, "config", "get-contexts", "-o", "name"], capture_output=True, text=True, check=True
        )
        asked = os.environ.get("ISTHMUS_E2E_CONTEXTS")
        names = asked.split(",") if asked else listed.stdout.split()
        if len(names) < 2:
            raise Missing(f"{kubeconfig} has {len(names)} contexts, two are needed")
        first, second = (self._cluster(name, base, address) for name in names[:2])
        self.clusters = (first, second)

    def _cluster(self, context: str, base: Sequence[str], address: str) -> Cluster:
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
            beside=("setpriv", "--pdeathsig", "TERM", "--"),
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


def settles(look: Callable[[], Any], what: str | Callable[[], str]) -> Any:
    """Waits until `look` finds something and returns it; else says `what` was missed."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.2)
    missed = what if isinstance(what, str) else what()
    raise AssertionError(f"did not settle within {SECONDS:g} s: {missed}")


def _printed(script: str, *arguments: str) -> Path:
    """The path that a script of tools/ prints. Raises Missing with its reason."""
    done = subprocess.run(
        [str(ROOT / "tools" / script), *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise Missing(done.stderr.strip())
    return Path(done.stdout.strip())
