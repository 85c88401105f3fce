"""Where everything of the demo stands: one slice of addresses per cluster, one address of the hub per member.

Cluster i owns 10.(64+i).0.0/16: pods in its lower half, its API server, agent and Envoy at the top. The hub
answers on a different address for each member, so that one member, or all, can be cut off by destination
address. A socket that is not bound and connects to an AnyIP address gets that address as its source too, so
dropping what goes to a slice silences it in both directions.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

REGIONS = ("eu", "us", "ap", "sa", "af")
ANYIP_RANGE = "10.64.0.0/10"
API_PORT = 6443
HUB_PORT = 6444
FAULTS_PORT = 6445
"""Where the API servers are told what to suffer from."""
XDS_PORT = 18000
DNS_PORT = 53
CONSOLE_PORT = 9470
ENVOY_PORT = 15001
ADMIN_PORT = 9901
PODS_PER_CLUSTER = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One cluster of the demo and its addresses."""

    index: int
    name: str
    region: str

    @property
    def _prefix(self) -> str:
        return f"10.{64 + self.index}"

    @property
    def slice(self) -> str:
        """All addresses of the cluster."""
        return f"{self._prefix}.0.0/16"

    @property
    def pod_slice(self) -> str:
        return f"{self._prefix}.0.0/17"

    def pod_address(self, number: int) -> str:
        """Address of the number-th pod, 0 first; ValueError when the slice is full."""
        if not 0 <= number < PODS_PER_CLUSTER:
            raise ValueError(f"a cluster of the demo has room for {PODS_PER_CLUSTER} pods")
        return str(ipaddress.IPv4Address(f"{self._prefix}.1.0") + number)

    @property
    def api(self) -> str:
        return f"{self._prefix}.255.1"

    @property
    def agent(self) -> str:
        return f"{self._prefix}.255.2"

    @property
    def envoy(self) -> str:
        return f"{self._prefix}.255.3"

    @property
    def hub(self) -> str:
        """The hub as this cluster knows it."""
        return f"10.127.{self.index + 1}.1"

    @property
    def service_cidr(self) -> str:
        return f"172.{16 + self.index // 16}.{self.index % 16 * 16}.0/20"

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """Node names and their zones."""
        return ((f"{self.name}-n1", f"{self.name}a"), (f"{self.name}-n2", f"{self.name}b"))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    members: tuple[Member, ...]

    @property
    def hub(self) -> str:
        """The hub as the demo itself, and its hub process, know it: never cut."""
        return "10.127.0.1"

    def owner(self, address: str) -> str:
        """Name of the cluster that an address belongs to, "" for none."""
        parts = address.split(".")
        if len(parts) != 4 or parts[0] != "10" or not parts[1].isdigit():
            return ""
        index = int(parts[1]) - 64
        return self.members[index].name if 0 <= index < len(self.members) else ""

    def member(self, name: str) -> Member:
        return next(m for m in self.members if m.name == name)


def world(clusters: int) -> World:
    """A world of that many clusters, two to a region: eu-1, eu-2, us-1, us-2, ap-1, …"""
    members = []
    for index in range(clusters):
        lap, place = divmod(index, 2 * len(REGIONS))
        region = REGIONS[place // 2]
        members.append(Member(index=index, name=f"{region}-{lap * 2 + place % 2 + 1}", region=region))
    return World(members=tuple(members))
