"""Plain collections that follow a table, so that a decision which asks them often never scans or copies it.

Each is kept within the mutation of its table; nobody else writes it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from isthmus.api import core, labels
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, ServiceKey

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
N = TypeVar("N", bound=Hashable)

API_SERVICE = ObjectKey("default", "kubernetes")


class Named(dict[N, V]):
    """The rows of a table by another name of theirs, which no two may share."""

    def __init__(self, table: Table[K, V], name: Callable[[K], N]) -> None:
        super().__init__()

        def observe(key: K, _old: V | None, new: V | None) -> None:
            if new is None:
                self.pop(name(key), None)
            else:
                self[name(key)] = new

        table.follow(observe)


class Tally(Counter[str]):
    """How many rows of a table each word of `words(row)` holds for; never 0."""

    def __init__(self, table: Table[K, V], words: Callable[[V], Iterable[str]]) -> None:
        super().__init__()

        def observe(_key: K, old: V | None, new: V | None) -> None:
            for word in words(new) if new is not None else ():
                self[word] += 1
            for word in words(old) if old is not None else ():
                self[word] -= 1
                if not self[word]:
                    del self[word]

        table.follow(observe)


class UpCounts:
    """How many checks of each cluster are Up."""

    def __init__(self, health: Table[CheckKey, Verdict]) -> None:
        self._counts: Counter[str] = Counter()
        health.follow(self._observe)

    def any(self, cluster: ClusterId) -> bool:
        """Whether anything of that cluster is Up."""
        return self._counts[cluster] > 0

    def turned(self, key: CheckKey, old: Verdict | None, new: Verdict | None) -> Iterable[ClusterId]:
        """The cluster of that check, where its change (already counted) changes what `any` says."""
        step = _up(new) - _up(old)
        return (ClusterId(key.cluster),) if step and self._counts[key.cluster] == max(step, 0) else ()

    def _observe(self, key: CheckKey, old: Verdict | None, new: Verdict | None) -> None:
        self._counts[key.cluster] += _up(new) - _up(old)
        if not self._counts[key.cluster]:
            del self._counts[key.cluster]


class DownCounts:
    """How many checks of each service are Down or waver, by source cluster; tells what can move a plan."""

    def __init__(self, health: Table[CheckKey, Verdict]) -> None:
        self._counts: Counter[tuple[ServiceKey, str]] = Counter()
        health.follow(self._observe)

    def matters(self, key: CheckKey, old: Verdict | None, new: Verdict | None) -> bool:
        """Whether that change (already counted) may change a plan of its service.

        No verdict, Unknown and Up are alike to a plan as long as nothing there is Down or wavers, so the
        first verdicts of a large world move no plan.
        """
        return _tells(old) or _tells(new) or (key.service, key.cluster) in self._counts

    def _observe(self, key: CheckKey, old: Verdict | None, new: Verdict | None) -> None:
        if step := _tells(new) - _tells(old):
            place = key.service, key.cluster
            self._counts[place] += step
            if not self._counts[place]:
                del self._counts[place]


class Forbidden(set[str]):
    """Addresses that no neighbour may point to: those of our API servers and of our nodes.

    API servers are those that this agent talks to, and those that the Service default/kubernetes leads to.
    """

    def __init__(
        self,
        api_servers: Iterable[str],
        nodes: Table[ObjectKey, core.Node],
        services: Table[ObjectKey, core.Service],
        slices: Table[ObjectKey, core.EndpointSlice],
    ) -> None:
        self._held: Counter[str] = Counter(api_servers)
        super().__init__(self._held)
        self._follow(nodes, lambda _key, node: addresses(node))
        self._follow(services, api_service_addresses)
        self._follow(slices, api_slice_addresses)

    def _follow(self, table: Table[K, V], named: Callable[[K, V], list[str]]) -> None:
        def observe(key: K, old: V | None, new: V | None) -> None:
            before = named(key, old) if old is not None else []
            after = named(key, new) if new is not None else []
            for address in after:
                self._held[address] += 1
                self.add(address)
            for address in before:
                self._held[address] -= 1
                if not self._held[address]:
                    del self._held[address]
                    self.discard(address)

        table.follow(observe)


def api_service_addresses(key: ObjectKey, service: core.Service) -> list[str]:
    """The cluster's own addresses of its API server; none for another Service."""
    if key != API_SERVICE:
        return []
    return _canonical([service.spec.cluster_ip, *service.spec.cluster_ips])


def api_slice_addresses(key: ObjectKey, found: core.EndpointSlice) -> list[str]:
    """The API servers themselves; none for another Service's slice."""
    if key.namespace != API_SERVICE.namespace:
        return []
    if found.metadata.labels.get(labels.SERVICE_NAME) != API_SERVICE.name:
        return []
    return _canonical(address for one in found.endpoints or () for address in one.addresses)


def api_moved(key: ObjectKey, old: core.EndpointSlice | None, new: core.EndpointSlice | None) -> bool:
    """Whether the API servers' addresses have changed."""
    if key.namespace != API_SERVICE.namespace:
        return False
    before, after = (api_slice_addresses(key, row) if row is not None else [] for row in (old, new))
    return before != after


class PodRanges:
    """Contains the addresses of this cluster's own pods, as far as its nodes say their ranges.

    One look for each length of prefix, however many nodes there are.
    """

    def __init__(self, nodes: Table[ObjectKey, core.Node]) -> None:
        self._ranges: Counter[tuple[int, int, int]] = Counter()
        """Version, length and bits of each prefix."""
        self._lengths: dict[int, tuple[int, ...]] = {}
        nodes.follow(self._observe)

    def __contains__(self, address: object) -> bool:
        if not self._ranges or not isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return False
        bits, number, version = address.max_prefixlen, int(address), address.version
        return any(
            (version, length, number >> (bits - length)) in self._ranges
            for length in self._lengths.get(version, ())
        )

    def _observe(self, _key: ObjectKey, old: core.Node | None, new: core.Node | None) -> None:
        before, after = ranges(old), ranges(new)
        if before == after:
            return
        self._ranges.update(after)
        self._ranges.subtract(before)
        self._ranges = +self._ranges
        self._lengths = {
            version: tuple({length for of, length, _ in self._ranges if of == version}) for version in (4, 6)
        }


def ranges(node: core.Node | None) -> list[tuple[int, int, int]]:
    """A node's pod ranges as version, prefix length and prefix; none that would hold everything."""
    found: list[tuple[int, int, int]] = []
    for text in node.spec.pod_cidrs if node is not None else ():
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            continue
        if length := network.prefixlen:
            shift = network.max_prefixlen - length
            found.append((network.version, length, int(network.network_address) >> shift))
    return found


def addresses(node: core.Node | None) -> list[str]:
    """A node's addresses in canonical form; its host names are none."""
    return _canonical(one.address for one in node.status.addresses) if node is not None else []


def _canonical(texts: Iterable[str]) -> list[str]:
    found = []
    for text in texts:
        try:
            found.append(str(ipaddress.ip_address(text)))
        except ValueError:
            continue
    return found


def moved(old: core.Node | None, new: core.Node | None) -> bool:
    """Whether a node's addresses, or those of its pods, have changed."""
    return sorted(addresses(old)) != sorted(addresses(new)) or ranges(old) != ranges(new)


def _up(verdict: Verdict | None) -> int:
    return 1 if verdict is not None and verdict.up is True else 0


def _tells(verdict: Verdict | None) -> bool:
    return verdict is not None and (verdict.up is False or verdict.wavering)
