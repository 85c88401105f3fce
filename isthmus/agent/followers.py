"""Plain collections that follow a table, so that a decision which asks them often never scans or copies it.

Each is kept within the mutation of its table; nobody else writes it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from isthmus.api import core
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
N = TypeVar("N", bound=Hashable)


class Named(dict[N, V]):
    """The rows of a table by another name of theirs, which no two may share."""

    def __init__(self, table: Table[K, V], name: Callable[[K], N]) -> None:
        super().__init__({name(key): row for key, row in table.items()})

        def observe(key: K, _old: V | None, new: V | None) -> None:
            if new is None:
                self.pop(name(key), None)
            else:
                self[name(key)] = new

        table.observe(observe)


class UpCounts:
    """How many checks of each cluster are Up."""

    def __init__(self, health: Table[CheckKey, Verdict]) -> None:
        self._counts: Counter[str] = Counter()
        for key, verdict in health.items():
            self._observe(key, None, verdict)
        health.observe(self._observe)

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


class Forbidden(set[str]):
    """Addresses that no neighbour may point to: those of our API servers and of our nodes."""

    def __init__(self, api_servers: Iterable[str], nodes: Table[ObjectKey, core.Node]) -> None:
        held: Counter[str] = Counter(api_servers)
        super().__init__(held)

        def observe(_key: ObjectKey, old: core.Node | None, new: core.Node | None) -> None:
            for address in addresses(new):
                held[address] += 1
                self.add(address)
            for address in addresses(old):
                held[address] -= 1
                if not held[address]:
                    del held[address]
                    self.discard(address)

        for key, node in nodes.items():
            observe(key, None, node)
        nodes.observe(observe)


def addresses(node: core.Node | None) -> list[str]:
    """A node's addresses in canonical form; its host names are none."""
    found = []
    for one in node.status.addresses if node is not None else ():
        try:
            found.append(str(ipaddress.ip_address(one.address)))
        except ValueError:
            continue
    return found


def moved(old: core.Node | None, new: core.Node | None) -> bool:
    """Whether a node's addresses have changed."""
    return sorted(addresses(old)) != sorted(addresses(new))


def _up(verdict: Verdict | None) -> int:
    return 1 if verdict is not None and verdict.up is True else 0
