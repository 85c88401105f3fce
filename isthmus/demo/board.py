"""What the live view shows, gathered from samples as they arrive; every sample costs the same, however many.

No clock and no terminal in here: moments are monotonic seconds that the caller gives. A request counts for
the half second in which its answer arrived; half seconds older than the sparklines are forgotten.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from isthmus.demo.load import Query, Request

SLOT_SECONDS = 0.5
SLOTS_KEPT = 120
SHARE_SLOTS = 4
"""Shares are those of the last two seconds."""
EVENTS_KEPT = 200
MOVED_SHARE = 0.04
"""A share that changed by less than this within two seconds is not called moving."""

Tone = Literal["plain", "bad", "good"]
Door = Literal["envoy", "dns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was done or seen, `at` seconds after the start."""

    at: float
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRow:
    """`done`: what was done to it ("" nothing); `seen`: what the planner holds of it."""

    name: str
    done: str
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Part of a service's traffic that a cluster gets, 0 to 1, and how much that changed in two seconds."""

    now: float
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRow:
    service: str
    door: Door
    shares: Mapping[str, Share]
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that one frame shows. Latencies in milliseconds, one per half second, the newest last."""

    elapsed: float
    rate: float
    requests: int
    failed: int
    queries: int
    queries_failed: int
    hub_cut: bool
    clusters: tuple[ClusterRow, ...]
    traffic: tuple[TrafficRow, ...]
    p50: tuple[float | None, ...]
    p99: tuple[float | None, ...]
    events: tuple[Event, ...]
    decisions: tuple[Event, ...]
    vantage: str
    chosen: str
    keys: str


@dataclass(slots=True)
class _Slot:
    requests: int = 0
    latencies: list[float] = field(default_factory=list)
    served: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    quantiles: tuple[float | None, float | None] | None = None


class Board:
    """Takes samples, events and decisions; gives snapshots."""

    def __init__(
        self,
        *,
        began: float,
        clusters: Sequence[str],
        routed: Mapping[str, str],
        named: Mapping[str, str],
        owner: Callable[[str], str],
    ) -> None:
        """`routed` names the service of an authority, `named` of a DNS name, `owner` an address's cluster."""
        self._began = began
        self._clusters = tuple(clusters)
        self._routed = routed
        self._named = named
        self._owner = owner
        self._slots: dict[int, _Slot] = {}
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._decisions: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._requests = self._failed = self._queries = self._queries_failed = 0
        self.done: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.hub_cut = False
        self.vantage = ""
        self.chosen = ""
        self.keys = ""

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(self._events)

    def tell(self, at: float, text: str, tone: Tone = "plain") -> None:
        """Something happened at that moment."""
        self._events.append(Event(at=at - self._began, text=text, tone=tone))

    def decide(self, at: float, text: str) -> None:
        """The planner was seen to have changed a plan."""
        self._decisions.append(Event(at=at - self._began, text=text))

    def request(self, request: Request) -> None:
        """Count an answer, or what came instead."""
        service = self._routed.get(request.authority)
        if service is None:
            return
        slot = self._slot(request.at + request.ms / 1000)
        self._requests += 1
        slot.requests += 1
        if request.status == 200:
            slot.latencies.append(request.ms)
            slot.served[service, "envoy", request.cluster] += 1
        else:
            self._failed += 1
            slot.failed[service, "envoy"] += 1

    def query(self, query: Query) -> None:
        """Count a DNS answer; each of its addresses is a share of it."""
        service = self._named.get(query.name)
        if service is None:
            return
        slot = self._slot(query.at + query.ms / 1000)
        self._queries += 1
        if query.code == 0 and query.addresses:
            for address in query.addresses:
                slot.served[service, "dns", self._owner(address)] += 1
        else:
            self._queries_failed += 1
            slot.failed[service, "dns"] += 1

    def _slot(self, at: float) -> _Slot:
        number = math.floor((at - self._began) / SLOT_SECONDS)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
            while len(self._slots) > SLOTS_KEPT:
                del self._slots[min(self._slots)]
        slot.quantiles = None
        return slot

    def snapshot(self, now: float) -> Snapshot:
        """What there is to see at that moment; the half second under way is left out."""
        last = math.floor((now - self._began) / SLOT_SECONDS) - 1
        span = range(last - SLOTS_KEPT + 1, last + 1)
        latencies = [_quantiles(self._slots.get(number)) for number in span]
        recent = self._recent(last)
        earlier = self._recent(last - SHARE_SLOTS)
        requests = sum(slot.requests for slot in recent)
        return Snapshot(
            elapsed=now - self._began,
            rate=requests / (SHARE_SLOTS * SLOT_SECONDS),
            requests=self._requests,
            failed=self._failed,
            queries=self._queries,
            queries_failed=self._queries_failed,
            hub_cut=self.hub_cut,
            clusters=tuple(
                ClusterRow(name=name, done=self.done.get(name, ""), seen=self.seen.get(name, ""))
                for name in self._clusters
            ),
            traffic=self._traffic(recent, earlier),
            p50=tuple(p50 for p50, _ in latencies),
            p99=tuple(p99 for _, p99 in latencies),
            events=tuple(self._events),
            decisions=tuple(self._decisions),
            vantage=self.vantage,
            chosen=self.chosen,
            keys=self.keys,
        )

    def _recent(self, last: int) -> list[_Slot]:
        return [self._slots[n] for n in range(last - SHARE_SLOTS + 1, last + 1) if n in self._slots]

    def _traffic(self, recent: Sequence[_Slot], earlier: Sequence[_Slot]) -> tuple[TrafficRow, ...]:
        routed = list(self._routed.values())
        order = [*routed, *(name for name in self._named.values() if name not in routed)]
        doors: list[tuple[str, Door]] = []
        for service in order:
            if service in routed:
                doors.append((service, "envoy"))
            if service in self._named.values():
                doors.append((service, "dns"))
        rows = []
        for service, door in doors:
            now = _shares(recent, service, door, self._clusters)
            before = _shares(earlier, service, door, self._clusters)
            shares = {
                name: Share(now=now[name], change=now[name] - before[name] if any(before.values()) else 0.0)
                for name in self._clusters
            }
            failed = sum(slot.failed[service, door] for slot in recent)
            rows.append(TrafficRow(service=service, door=door, shares=shares, failed=failed))
        return tuple(rows)


def _shares(slots: Sequence[_Slot], service: str, door: Door, clusters: Sequence[str]) -> dict[str, float]:
    counts = {name: sum(slot.served[service, door, name] for slot in slots) for name in clusters}
    total = sum(counts.values())
    return {name: count / total if total else 0.0 for name, count in counts.items()}


def _quantiles(slot: _Slot | None) -> tuple[float | None, float | None]:
    if slot is None or not slot.latencies:
        return None, None
    if slot.quantiles is None:
        ordered = sorted(slot.latencies)
        slot.quantiles = ordered[len(ordered) // 2], ordered[math.ceil(0.99 * len(ordered)) - 1]
    return slot.quantiles
