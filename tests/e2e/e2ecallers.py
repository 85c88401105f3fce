"""How pods call: the pod `client` of each cluster, and its doors to another cluster's services."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2eground import Cluster, Missing, settles

DOORS = ("kube-proxy", "DNS", "Envoy")
ZONE = "clusterset.local"
ENVOY_PORT = 10_000
FAILED = "!"
"""How the line of a failed call begins."""
SHORT_SECONDS, LONG_SECONDS = 3, 20
"""What a call may take: where it is repeated until it suits, and where its failure is the test's."""


def host(name: str, namespace: str = "shop") -> str:
    """The name of an imported service."""
    return f"{name}.{namespace}.svc.{ZONE}"


def failures(answers: list[str]) -> list[str]:
    """The calls that failed, each with why."""
    return [line for line in answers if line.startswith(FAILED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What nslookup said: `exists` False for NXDOMAIN; SRV records are `(port, target)`."""

    exists: bool
    addresses: list[str]
    srv: list[tuple[int, str]]
    said: str


def needs_dns(cluster: Cluster) -> None:
    """Raises Missing where the cluster's DNS does not ask Isthmus."""
    if not cluster.dns_ip:
        raise Missing(f"the DNS of {cluster.name} is not ours to change: it does not ask Isthmus")


class Client:
    """The pod `client` in the namespace `shop` of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def shell(self, script: str, *, check: bool = True) -> str:
        return self.cluster.run("exec", "-n", "shop", "client", "--", "sh", "-c", script, check=check)

    def answers(self, *wget: str, times: int = 12) -> list[str]:
        """One line for each of so many calls, each over a connection of its own."""
        loop = f"for i in $(seq {times}); do {call(wget, SHORT_SECONDS)}; done"
        return self.shell(loop, check=False).splitlines()

    def look_up(self, kind: str, name: str) -> Lookup:
        """Asks the cluster's DNS as a pod's /etc/resolv.conf says; `kind` is A, AAAA, SRV, …

        Raises Missing where that does not ask Isthmus.
        """
        needs_dns(self.cluster)
        said = self.shell(f"nslookup -type={kind.lower()} {name}.", check=False)
        _, _, answer = said.partition("\n\n")
        found = re.findall(r"^\S+\s+service = \d+ \d+ (\d+) (\S+?)\.?$", answer, re.MULTILINE)
        return Lookup(
            exists="NXDOMAIN" not in answer,
            addresses=re.findall(r"^Address(?: \d+)?:\s+(\S+)", answer, re.MULTILINE),
            srv=[(int(port), target) for port, target in found],
            said=said,
        )


class Calling:
    """Calls that go on through several doors at once, one after another at each."""

    def __init__(self, client: Client, folder: str, doors: tuple[str, ...]) -> None:
        self.doors = doors
        self._client = client
        self._folder = folder

    def so_far(self, door: str) -> list[str]:
        """A line for each call that has ended, in order."""
        return self._client.shell(f"cat {self._folder}/{door}").splitlines()

    def later(self, door: str) -> list[str]:
        """The same, once a call that begins after now has ended."""
        before = len(self.so_far(door))

        def look() -> list[str]:
            found = self.so_far(door)
            return found if len(found) > before + 1 else []

        found: list[str] = settles(look, f"calls by {door}")
        return found


class Callers:
    """The clients of two clusters; the doors are the near one's."""

    def __init__(self, near: Cluster, far: Cluster) -> None:
        self.near, self.far = near, far
        self.clients = {one.name: Client(one) for one in (near, far)}

    @property
    def doors(self) -> tuple[str, ...]:
        """The doors that pods of the near cluster have."""
        return DOORS if self.near.dns_ip else tuple(door for door in DOORS if door != "DNS")

    def clusterset_ip(self, name: str, cluster: Cluster | None = None) -> str:
        """Waits for the first address of an import."""

        def look() -> str:
            found = (cluster or self.near).get("serviceimport", name)
            return str(((found or {}).get("spec", {}).get("ips") or [""])[0])

        found: str = settles(look, f"an address for {name}")
        return found

    def calls(self, door: str, name: str, times: int = 12) -> Counter[str]:
        """Answers of so many new connections of the near client by who gave them."""
        return Counter(self.clients[self.near.name].answers(*self._way(door, name), times=times))

    @contextmanager
    def calling(self, name: str) -> Iterator[Calling]:
        """Calls by the near client through all doors for as long as it lasts, whatever dies."""
        client, doors = self.clients[self.near.name], self.doors
        folder = client.shell("mktemp -d").strip()
        for door in doors:
            file = shlex.quote(f"{folder}/{door}")
            one = call(self._way(door, name), LONG_SECONDS)
            loop = f"while [ -e {folder}/on ]; do {one}; sleep 0.1; done >>{file}; touch {file}.end"
            client.shell(
                f"touch {folder}/on {file}; setsid sh -c {shlex.quote(loop)} </dev/null >/dev/null 2>&1 &"
            )
        running = Calling(client, folder, doors)
        for door in doors:
            running.later(door)
        try:
            yield running
        finally:
            client.shell(f"rm {folder}/on")
            ended = " && ".join(f"[ -e {folder}/{door}.end ]" for door in doors)
            settles(lambda: client.shell(f"{ended} && echo ended", check=False), "the last calls end")

    def _way(self, door: str, name: str) -> tuple[str, ...]:
        """wget's arguments. Raises Missing for a door that these clusters do not have."""
        match door:
            case "kube-proxy":
                return (f"http://{self.clusterset_ip(name)}/",)
            case "DNS":
                needs_dns(self.near)
                return (f"http://{host(name)}/",)
            case "Envoy":
                ip = self.near.get("pod", "envoy")["status"]["podIP"]
                return ("--header", f"Host: {host(name)}", f"http://{ip}:{ENVOY_PORT}/")
            case _:
                raise ValueError(door)


def call(wget: tuple[str, ...], seconds: int) -> str:
    """A shell command that writes one line: the answer, or FAILED and why."""
    command = f"timeout {seconds} wget -qO- {shlex.join(wget)} 2>&1"
    return f'if said=$({command}); then echo "$said"; else echo "{FAILED}" $said; fi'
