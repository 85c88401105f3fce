"""Where DNS callers of this cluster stand: the addresses of its Nodes and of their pods, by zone.

    Nodes ─▶ standpoints ─▶ zones (the vantages that plans are made for)
                  │
                  ├─▶ pod ranges ─▶ strays (pods that are elsewhere)
                  └───────┬──────────┘
                          ▼
                   the row `zones` of the table `dns`

Many networks give pods other addresses than `spec.podCIDRs` of their Nodes (Calico, Cilium). Invariant: one
pod that is seen on a Node of another zone than that of its address, and no range of pods is believed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from isthmus.agent.inputs import Member
from isthmus.api import core, labels
from isthmus.api.meta import ObjectKey
from isthmus.dns import places
from isthmus.dns.places import ZONES_KEY, Lookup, Prefix, Range, Zones
from isthmus.flow import Derived, Index, Priority, derive, on
from isthmus.model.names import Vantage
from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.traffic.ladder import tells_apart

_SAMPLE: Final = 3
"""Endpoints of one slice that are looked at."""

Network = tuple[bytes, int]
"""A packed address and a number of bits."""


class Standpoint(NamedTuple):
    """A Node with a zone: where it stands, its own addresses, those that it gives to pods."""

    vantage: Vantage
    nodes: tuple[Network, ...]
    pods: tuple[Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRanges:
    """Where pods stand by their Nodes' word; a range's place is the number of its vantage, and one more."""

    vantages: tuple[Vantage, ...]
    ranges: tuple[Range, ...]
    lookup: Lookup = field(compare=False)

    def vantage(self, address: str) -> Vantage | None:
        """Where that address of a pod should be; None where nothing is said of it."""
        try:
            number = int(ipaddress.ip_address(address))
        except ValueError:
            return None
        place = self.lookup.of(number, number)
        return self.vantages[place - 1] if place != places.ANYWHERE else None


class CallerZones:
    """Tables of who stands where; `row` has one row, for the workers, and `zones` the vantages as keys."""

    def __init__(self, member: Member, own: Vantage) -> None:
        """`own`: the vantage of the cluster; its region is that of Nodes which do not say theirs."""
        self._member = member
        self._own = own
        self._standpoints = self._nodes()
        self.zones = self._zones()
        self._ranges = derive(
            "pod ranges", on(self._standpoints, lambda _key, _o, _n: (ZONES_KEY,)), compute=self._pod_ranges
        )
        self.strays = self._strays()
        self.row = derive(
            "caller zones",
            on(self._standpoints, lambda _key, _o, _n: (ZONES_KEY,)),
            on(self.strays, lambda _key, _o, _n: (ZONES_KEY,)),
            compute=lambda _key: places.encode(self.known()),
        )

    def _nodes(self) -> Derived[ObjectKey, Standpoint]:
        def compute(key: ObjectKey) -> Standpoint | None:
            node = self._member.nodes.get(key)
            return standpoint(node, self._own) if node is not None else None

        return derive("standpoints", on(self._member.nodes), compute=compute)

    def of(self, address: str, *, direct: bool) -> tuple[Vantage | None, str]:
        """Where somebody who asks from that address stands, and why, as the workers see it.

        `direct`: pods ask by themselves. Raises ValueError for what is no address.
        """
        asked = ipaddress.ip_address(address)
        found = [
            (network[1], pods, key.name, row.vantage)
            for key, row in self._standpoints.items()
            for pods, networks in ((False, row.nodes), (True, row.pods))
            for network in networks
            if asked in ipaddress.ip_network(network)
        ]
        told = [one for one in found if not one[1] or (direct and not self.strays)]
        if not told:
            return None, self._unknown(found)
        nearest = [one for one in told if one[0] == max(told)[0]]
        _, pods, node, vantage = nearest[0]
        if any(one[3] != vantage for one in nearest):
            return None, f"Nodes of several zones have {address}"
        return vantage, f"{address} is {'in the range of pods of' if pods else 'that of'} Node {node}"

    def _unknown(self, found: Sequence[tuple[int, bool, str, Vantage]]) -> str:
        if not found:
            return "no Node with a zone has this address, for itself or its pods"
        if self.strays:
            stray = min(row for _key, row in self.strays.items())
            return f"ranges of pods are not believed: {stray}, which is in another zone than its address"
        return "a pod that asks does so for pods of all zones, unless agents forward the rest (--dns-forward)"

    def apart(self, policies: Iterable[Policy]) -> list[Vantage]:
        """Zones that one of these policies, or the default, may tell apart from the cluster as a whole."""
        every = (DEFAULT_POLICY, *policies)
        return [zone for zone in self.zones if any(tells_apart(one, self._own, zone) for one in every)]

    def known(self) -> Zones:
        """All addresses whose zone is known, in order."""
        held = sorted(row for _key, row in self._standpoints.items())
        vantages = sorted({one.vantage for one in held})
        numbers = {vantage: number for number, vantage in enumerate(vantages)}
        prefixes = [
            Prefix(*network, numbers[one.vantage], pods)
            for one in held
            for pods, networks in ((False, one.nodes), (True, () if self.strays else one.pods))
            for network in networks
        ]
        return Zones(tuple(map(str, vantages)), tuple(prefixes))

    def _zones(self) -> Derived[Vantage, bool]:
        by_vantage = Index(self._standpoints, lambda _key, row: (row.vantage,))

        def affected(_key: ObjectKey, old: Standpoint | None, new: Standpoint | None) -> Iterable[Vantage]:
            return {row.vantage for row in (old, new) if row is not None}

        return derive(
            "caller vantages",
            on(self._standpoints, affected, priority=Priority.POLICY),
            compute=lambda vantage: True if by_vantage.of(vantage) else None,
        )

    def _pod_ranges(self, _key: str) -> PodRanges:
        held = [row for _name, row in self._standpoints.items()]
        vantages = tuple(sorted({row.vantage for row in held}))
        # In a single zone no pod can be elsewhere.
        numbers = {vantage: at for at, vantage in enumerate(vantages, 1)} if len(vantages) > 1 else {}
        found = places.ranges(
            (*one, numbers[row.vantage]) for row in held if row.vantage in numbers for one in row.pods
        )
        return PodRanges(vantages=vantages, ranges=found, lookup=Lookup(found))

    def _strays(self) -> Derived[ObjectKey, str]:
        """EndpointSlices with a pod that is in another zone than the range of its address, in words."""
        member = self._member

        def compute(key: ObjectKey) -> str | None:
            found, pods = member.slices.get(key), self._ranges.get(ZONES_KEY)
            if found is None or pods is None or not pods.ranges:
                return None
            for endpoint in (found.endpoints or ())[:_SAMPLE]:
                there = self._standpoints.get(ObjectKey("", endpoint.node_name or ""))
                for address in endpoint.addresses if there is not None else ():
                    zone = pods.vantage(address)
                    if there is not None and zone not in (None, there.vantage):
                        return f"{address} of {key.namespace}/{key.name} is on {endpoint.node_name}"
            return None

        return derive(
            "strays",
            on(member.slices),
            on(self._ranges, lambda _key, _o, _n: list(member.slices)),
            on(self._standpoints, lambda _key, _o, _n: self._slices_in_ranges()),
            compute=compute,
        )

    def _slices_in_ranges(self) -> list[ObjectKey]:
        """All slices, if there is any range that their pods could be elsewhere than in."""
        pods = self._ranges.get(ZONES_KEY)
        return list(self._member.slices) if pods is not None and pods.ranges else []


def standpoint(node: core.Node, own: Vantage) -> Standpoint | None:
    """Where a Node stands; None where it is in no zone. What is no address is left out."""
    zone = node.metadata.labels.get(labels.ZONE, "")
    if not zone:
        return None
    vantage = Vantage(node.metadata.labels.get(labels.REGION, "") or own.region, zone, own.cluster)
    addresses = (one.address for one in node.status.addresses if one.type == "InternalIP")
    return Standpoint(vantage, tuple(_networks(addresses)), tuple(_networks(node.spec.pod_cidrs)))


def _networks(texts: Iterable[str]) -> Iterator[Network]:
    for text in texts:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
        yield network.network_address.packed, network.prefixlen
