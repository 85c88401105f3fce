"""Where every bed stands: how many clusters there are, and what they are called."""

from __future__ import annotations

import ipaddress
import re

from isthmus.demo.world import Member, World, world

WORLD: World = world(3)
"""eu-1, eu-2, us-1."""
HOSTS = 8
"""So many hosts of each cluster call in turn."""
_FIRST_HOST = 200 << 8
_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")


def hosts(member: Member) -> tuple[str, ...]:
    """Their addresses: of the cluster, and not of its pods."""
    base = ipaddress.IPv4Network(member.slice).network_address + _FIRST_HOST
    return tuple(str(base + number) for number in range(HOSTS))


def named(text: str) -> str:
    """The cluster of the last address that an error names, "" where it names none of the bed's."""
    found = _ADDRESS.findall(text)
    return WORLD.owner(found[-1]) if found else ""
