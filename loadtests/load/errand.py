"""What the callers' processes are told: their errand in a file, then orders on stdin."""

from __future__ import annotations

import functools
import ipaddress
import re

import msgspec

from isthmus.xds.secrets import Identity
from loadtests.load.doors import Program

_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the callers of one cluster stand, and its doors as (address, port); `peers` by name."""

    cluster: str
    region: str
    zone: str
    envoy: tuple[str, int]
    dns: tuple[str, int]
    xds: tuple[str, int]
    peers: dict[str, tuple[str, int]] = {}
    hosts: tuple[str, ...] = ("0.0.0.0",)
    """Addresses that callers who ask names ask from; DNS tells one caller from another by them."""
    pods: dict[str, str] = {}
    """The clusters by the prefixes of their pods' addresses."""
    identity: Identity | None = None
    """Who callers are for xDS; None: it is plain text."""

    def owner(self, address: str) -> str:
        """The cluster whose pod has this address; "" where nobody can say."""
        return next((name for prefix, name in self.pods.items() if _within(address, prefix)), "")

    def named(self, text: str) -> str:
        """The cluster of the last address that an error names; "" where it names none of a pod."""
        found = _ADDRESS.findall(text)
        return self.owner(found[-1]) if found else ""


@functools.lru_cache(4096)
def _within(address: str, prefix: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(prefix)


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does: calls per second over all places, by door."""

    program: Program
    places: tuple[Place, ...]
    rates: dict[str, float]
    namespace: str = "shop"


class Orders(msgspec.Struct, frozen=True):
    """Whose callers are dead from now on; all others live."""

    dead: tuple[str, ...]
