"""What checks may cost, and who waits when they would cost more.

An agent does so many checks at once and in a second, and checks so many targets; one host gets so many checks
in a second. Nothing is refused at these limits: checks come later, in turns. Invariants: source clusters take
turns, so that one with 10,000 targets delays itself and not the others; a cluster has at most as many checks
under way as are still free, so that a cluster of silent targets can never hold them all; places go to the
cluster that has the fewest. What canaries cost among them: see `canaries`. Pure: times are seconds of any
monotonic clock.
"""

from __future__ import annotations

import resource
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from isthmus.model.health import CheckKey

BURST_SECONDS = 0.1
"""The rate may be used this much ahead of time."""
HOST_BURST_SECONDS = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of one agent; rates are checks in a second."""

    at_once: int = 2_000
    rate: float = 3_000.0
    canary_rate: float = 1_500.0
    """The part of it that canaries may use while all is well: about a tenth of a core."""
    hurried: int = 6_000
    """So many canaries may go ahead of that rate at once, and as many again in `HURRIED_SECONDS`."""
    host_rate: float = 200.0
    targets: int = 20_000


def affordable(budget: Budget) -> Budget:
    """The same with no more checks at once than half of the files that this process may open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_once = budget.at_once if soft == resource.RLIM_INFINITY else max(1, min(budget.at_once, soft // 2))
    return replace(budget, at_once=at_once)


class Turns(Generic[T]):
    """Who may begin now. What has to wait is given out by `ready`, a cluster's first come first."""

    def __init__(self, budget: Budget) -> None:
        self._at_once = budget.at_once
        self._step = 1.0 / budget.rate
        self._booked = 0.0
        """The rate is used up to this time."""
        self._busy: Counter[str] = Counter()
        self._free = budget.at_once
        self._queues: dict[str, deque[T]] = {}
        """Those that wait, by cluster; the cluster whose turn is next stands first."""
        self.waiting = 0

    def ask(self, cluster: str, item: T, now: float) -> bool:
        """Whether `item` begins now; else it waits and `ready` gives it out."""
        if not self._queues and self._allows(now) and self._busy[cluster] < self._free:
            self._take(cluster, now)
            return True
        self._queues.setdefault(cluster, deque()).append(item)
        self.waiting += 1
        return False

    def done(self, cluster: str) -> None:
        """One that had begun has ended."""
        self._free += 1
        self._busy[cluster] -= 1
        if not self._busy[cluster]:
            del self._busy[cluster]

    def unused(self, cluster: str) -> None:
        """One that `ready` gave out does not begin after all."""
        self.done(cluster)
        self._booked -= self._step

    def ready(self, now: float) -> list[T]:
        """Those that begin now, in turns."""
        found: list[T] = []
        while self._allows(now):
            cluster = next((name for name in self._queues if self._busy[name] < self._free), None)
            if cluster is None:
                break
            queue = self._queues.pop(cluster)
            found.append(queue.popleft())
            self._take(cluster, now)
            self.waiting -= 1
            if queue:
                self._queues[cluster] = queue  # behind the others
        return found

    def again(self, now: float) -> float | None:
        """When to ask `ready` again, None where only `done` can help."""
        return None if not self._queues or self._allows(now) else self._booked - BURST_SECONDS

    def _allows(self, now: float) -> bool:
        return self._booked - BURST_SECONDS <= now

    def _take(self, cluster: str, now: float) -> None:
        self._booked = max(self._booked, now) + self._step
        self._busy[cluster] += 1
        self._free -= 1


class Hosts:
    """When an address may be checked again."""

    def __init__(self, budget: Budget) -> None:
        self._step = 1.0 / budget.host_rate
        self._booked: dict[str, float] = {}
        self._prune_at = 1_000

    def book(self, address: str, now: float) -> float:
        """When the check that wants to begin `now` begins; that moment is then taken."""
        booked = self._booked.get(address, 0.0)
        self._booked[address] = max(booked, now) + self._step
        if len(self._booked) > self._prune_at:
            self._booked = {name: at for name, at in self._booked.items() if at > now}
            self._prune_at = 2 * len(self._booked) + 1_000
        return max(now, booked - HOST_BURST_SECONDS)


class Places:
    """Which targets are checked when there are too many."""

    def __init__(self, budget: Budget) -> None:
        self.limit = self._free = budget.targets
        self._held: dict[str, dict[CheckKey, None]] = {}
        self._waiting: dict[str, dict[CheckKey, None]] = {}

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def waits(self, key: CheckKey) -> bool:
        return key in self._waiting.get(key.cluster, ())

    def come(self, key: CheckKey) -> CheckKey | None:
        """Gives `key` a place; returns who has to wait for that: nobody, `key` itself, or the newest of the
        cluster that has the most."""
        loser: CheckKey | None = None
        if self._free:
            self._free -= 1
        else:
            richest = max(self._held, key=lambda name: len(self._held[name]))
            if len(self._held[richest]) <= len(self._held.get(key.cluster, ())) + 1:
                _put(self._waiting, key)
                return key
            loser, _ = self._held[richest].popitem()
            _put(self._waiting, loser)
        _put(self._held, key)
        return loser

    def go(self, key: CheckKey) -> CheckKey | None:
        """Forgets `key`; returns who gets its place: the first that waits of the cluster with the fewest."""
        if _take(self._waiting, key) or not _take(self._held, key):
            return None
        if not self._waiting:
            self._free += 1
            return None
        poorest = min(self._waiting, key=lambda name: len(self._held.get(name, ())))
        heir = next(iter(self._waiting[poorest]))
        _take(self._waiting, heir)
        _put(self._held, heir)
        return heir


def _put(places: dict[str, dict[CheckKey, None]], key: CheckKey) -> None:
    places.setdefault(key.cluster, {})[key] = None


def _take(places: dict[str, dict[CheckKey, None]], key: CheckKey) -> bool:
    """Whether `key` was there; it no longer is."""
    keys = places.get(key.cluster)
    if keys is None or key not in keys:
        return False
    del keys[key]
    if not keys:
        del places[key.cluster]
    return True
