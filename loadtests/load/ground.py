"""Where every bed stands: how many clusters there are, and what they are called."""

from __future__ import annotations

import ipaddress

from isthmus.demo.world import Member, World, world

WORLD: World = world(3)
"""eu-1, eu-2, us-1."""
PODS = {member.pod_slice: member.name for member in WORLD.members}
"""The clusters by the prefixes of their pods' addresses."""
HOSTS = 8
"""So many hosts of each cluster call in turn."""
_FIRST_HOST = 200 << 8


def hosts(member: Member) -> tuple[str, ...]:
    """Their addresses: of the cluster, and not of its pods."""
    base = ipaddress.IPv4Network(member.slice).network_address + _FIRST_HOST
    return tuple(str(base + number) for number in range(HOSTS))
