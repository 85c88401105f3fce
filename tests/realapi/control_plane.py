"""Real control planes for tests: one etcd, and a kube-apiserver and a kube-controller-manager per cluster.

A cluster that is to lose what it holds has an etcd of its own.

All listen on 127.0.0.1 only, keep their state in memory where the machine has a tmpfs, and die with the
process that started them. The controller manager runs only what ends namespaces and collects garbage: nothing
here has nodes.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane_binaries import SERVERS, binaries
from control_plane_credentials import Credentials, make_credentials

from loadtests.ports import free_port

DEADLINE = 300.0
"""Seconds for a control plane to come up on a busy machine."""
SERVICE_CIDR = "10.96.0.0/16"
_PREFIX = "isthmus-realapi-"
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


class NotReady(Exception):
    """A program ended or stayed silent; the message has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealCluster:
    """A running cluster and the way in."""

    name: str
    url: str
    token: str
    authority: Path
    audit: Path
    """Log of all requests of service accounts, one JSON document (audit.k8s.io/v1 Event) a line."""

    def tls(self) -> ssl.SSLContext:
        """A client context that trusts this cluster."""
        return ssl.create_default_context(cafile=str(self.authority))


class ControlPlanes:
    """Clusters of one test session; `close` ends them all."""

    def __init__(self) -> None:
        self._binaries = binaries(*SERVERS)
        memory = Path("/dev/shm")
        home = memory if os.access(memory, os.W_OK) else None
        _sweep(home or Path(tempfile.gettempdir()))
        self._home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=home))
        self._programs: list[Program] = []
        self._clusters: dict[str, RealCluster] = {}
        self._apiservers: dict[str, Program] = {}
        self._managers: dict[str, Program] = {}
        self._stores: dict[str, tuple[Program, str]] = {}
        """Running etcds with their addresses; the one that clusters share is named `etcd`."""
        self._credentials: Credentials | None = None

    def clusters(
        self, *names: str, service_cidr: str = SERVICE_CIDR, own_store: bool = False, gates: str = ""
    ) -> tuple[RealCluster, ...]:
        """Running clusters of these names; those that are missing are started together.

        `service_cidr` is the range of cluster IPs of those that are started, or two of different families;
        `own_store`: each has an etcd to itself, which can be `saved` and `restored`; `gates`: their feature
        gates, where they are not this version's.
        """
        missing = [name for name in names if name not in self._clusters]
        if missing:
            credentials = self._credentials or make_credentials(self._home)
            self._credentials = credentials
            stores = {name: self._store(f"{name}-etcd" if own_store else "etcd") for name in missing}
            started = [
                self._start_apiserver(name, credentials, service_cidr, stores[name], gates)
                for name in missing
            ]
            for program, cluster in started:
                program.wait(lambda cluster=cluster: _ready(cluster))
            managers = [self._start_manager(cluster) for _, cluster in started]
            for program, log in managers:
                program.wait(lambda log=log: "Garbage collector: all resource monitors" in log.read_text())
            self._clusters.update({cluster.name: cluster for _, cluster in started})
            self._apiservers.update({cluster.name: program for program, cluster in started})
            self._managers.update(zip(missing, (program for program, _ in managers), strict=True))
        return tuple(self._clusters[name] for name in names)

    def kubeconfig(self, *names: str) -> str:
        """A kubeconfig, as JSON (which is YAML), with one context per cluster; the first is current."""
        return _kubeconfig(self.clusters(*names))

    def silence(self, name: str) -> None:
        """The API server of a running cluster takes requests and answers none, until `revive`."""
        self._apiservers[name].send(signal.SIGSTOP)

    def crash(self, name: str) -> None:
        """The API server of a running cluster is killed; its port is closed until `revive`."""
        self._apiservers[name].kill()

    def revive(self, name: str) -> None:
        """The API server of a cluster answers again, whatever befell it; it waits until it does."""
        program, cluster = self._apiservers[name], self._clusters[name]
        if program.runs:
            program.send(signal.SIGCONT)
        else:
            program.start()
        program.wait(lambda: _ready(cluster))

    def server_tls(self) -> ssl.SSLContext:
        """A context for a server that stands in for one of these."""
        assert self._credentials is not None, "there is a cluster"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._credentials.certificate, self._credentials.key)
        return context

    def saved(self, name: str) -> None:
        """Keeps what a cluster with a store of its own holds at this moment."""
        program, _ = self._stores[f"{name}-etcd"]
        program.send(signal.SIGSTOP)
        try:
            shutil.copytree(self._home / f"{name}-etcd", self._home / f"{name}-etcd.saved")
        finally:
            program.send(signal.SIGCONT)

    def restored(self, name: str) -> None:
        """The cluster crashes and comes back with what it held when it was `saved`, versions too."""
        store, url = self._stores[f"{name}-etcd"]
        programs = (self._managers[name], self._apiservers[name], store)
        for program in programs:
            program.kill()
        shutil.rmtree(self._home / f"{name}-etcd")
        (self._home / f"{name}-etcd.saved").rename(self._home / f"{name}-etcd")
        store.start()
        store.wait(lambda: _healthy(url))
        self.revive(name)
        self._managers[name].start()

    def close(self) -> None:
        """End all programs, the last started first, and remove their state."""
        for program in reversed(self._programs):
            program.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def _store(self, label: str) -> str:
        """The address of a running etcd."""
        if label in self._stores:
            return self._stores[label][1]
        client, peer = free_port(), free_port()
        url = f"http://127.0.0.1:{client}"
        program = self._start(
            label,
            "etcd",
            f"--data-dir={self._home}/{label}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--log-level=warn",
        )
        program.wait(lambda: _healthy(url))
        self._stores[label] = program, url
        return url

    def _start_apiserver(
        self, name: str, credentials: Credentials, service_cidr: str, etcd: str, gates: str
    ) -> tuple[Program, RealCluster]:
        port = free_port()
        audit, policy = self._home / f"{name}-audit.log", self._home / "audit.yaml"
        policy.write_text(json.dumps(_AUDIT))
        program = self._start(
            f"{name}-apiserver",
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--etcd-prefix=/{name}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={credentials.certificate}",
            f"--tls-private-key-file={credentials.key}",
            f"--token-auth-file={credentials.tokens}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={service_cidr}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={credentials.signing_key}",
            f"--service-account-signing-key-file={credentials.signing_key}",
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={audit}",
            "--profiling=false",
            *((f"--feature-gates={gates}",) if gates else ()),
        )
        cluster = RealCluster(
            name=name,
            url=f"https://127.0.0.1:{port}",
            token=credentials.token,
            authority=credentials.authority,
            audit=audit,
        )
        return program, cluster

    def _start_manager(self, cluster: RealCluster) -> tuple[Program, Path]:
        path = self._home / f"{cluster.name}-manager.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(_kubeconfig((cluster,)))
        program = self._start(
            f"{cluster.name}-manager",
            "kube-controller-manager",
            f"--kubeconfig={path}",
            "--controllers=namespace-controller,garbage-collector-controller",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
            "--profiling=false",
            "--v=2",
        )
        return program, program.log

    def _start(self, label: str, binary: str, *arguments: str) -> Program:
        program = Program(self._home / f"{label}.log", [self._binaries[binary], *arguments])
        self._programs.append(program)
        return program


class Program:
    """One running program with its log."""

    def __init__(self, log: Path, command: Sequence[str]) -> None:
        self.log = log
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        self._command = [*guard, *command]
        log.write_bytes(b"")
        self.start()

    def start(self) -> None:
        """Starts it (again); its log goes on."""
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
            )

    @property
    def runs(self) -> bool:
        """Whether it has not ended; one that is stopped runs."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until the program is ready; NotReady with the end of its log when it will not be."""
        until = time.monotonic() + DEADLINE
        while not ready():
            if self._process.poll() is not None:
                raise NotReady(f"{self.log.stem} ended with {self._process.returncode}:\n{self._end()}")
            if time.monotonic() > until:
                raise NotReady(f"{self.log.stem} is not ready after {DEADLINE:.0f} s:\n{self._end()}")
            time.sleep(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def _sweep(folder: Path) -> None:
    """Remove what sessions left here that were killed before they could."""
    for home in folder.glob(f"{_PREFIX}*"):
        owner = home.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(home, ignore_errors=True)


def _kubeconfig(clusters: Sequence[RealCluster]) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": clusters[0].name,
        "clusters": [
            {
                "name": each.name,
                "cluster": {"server": each.url, "certificate-authority": str(each.authority)},
            }
            for each in clusters
        ],
        "users": [{"name": each.name, "user": {"token": each.token}} for each in clusters],
        "contexts": [
            {"name": each.name, "context": {"cluster": each.name, "user": each.name}} for each in clusters
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _healthy(etcd: str) -> bool:
    return _get("127.0.0.1", int(etcd.rpartition(":")[2]), "/health") == 200


def _ready(cluster: RealCluster) -> bool:
    port = int(cluster.url.rpartition(":")[2])
    return _get("127.0.0.1", port, "/readyz", cluster) == 200


def _get(host: str, port: int, path: str, cluster: RealCluster | None = None) -> int:
    """Status code of a GET; 0 where nobody answers."""
    headers = {"Authorization": f"Bearer {cluster.token}"} if cluster else {}
    connection = (
        http.client.HTTPSConnection(host, port, timeout=5, context=cluster.tls())
        if cluster
        else http.client.HTTPConnection(host, port, timeout=5)
    )
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
