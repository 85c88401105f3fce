"""What the callers' processes are told: their errand in a file, then orders on stdin."""

from __future__ import annotations

import msgspec

from loadtests.load.doors import Program


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


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does: calls per second over all places, by door."""

    program: Program
    places: tuple[Place, ...]
    rates: dict[str, float]


class Orders(msgspec.Struct, frozen=True):
    """Whose callers are dead from now on; all others live."""

    dead: tuple[str, ...]
