"""What must not grow over a long time: memory, descriptors, tasks, processes, and rules that drop packets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from loadtests.load.census import CALLERS, ISTHMUS, LOOPS, PODS, SERVERS, WEIGHED, Taken
from loadtests.load.expect.expectation import Expectation, Finding, Seen, expectation

WINDOW_SECONDS = 60.0
"""A level is the median of so long; of a third of what there is where that is shorter."""
LEAST_MB = 4.0
"""A role grows by so much at least before a percentage counts: an allocator takes memory in pieces."""
DESCRIPTORS, TASKS = 4, 3
"""So many for each process come and go with checks and requests that are under way."""


@expectation("flat")
class Flat(Expectation, frozen=True, kw_only=True):
    """The memory of all of Isthmus, and of each role, ends within `percent` of its level `after` seconds.

    The bed's API servers are told beside it and not counted: they keep a history of events, up to a bound.
    """

    percent: float
    after: float

    def judge(self, seen: Seen) -> Iterator[Finding]:
        since = seen.began + self.after
        window = min(WINDOW_SECONDS, (seen.ended - since) / 3)
        first = [t for t in seen.watch if since <= t.at < since + window]
        last = [t for t in seen.watch if seen.ended - window <= t.at]
        if window <= 0 or not first or not last:
            return
        for role in ("", *ISTHMUS):
            level, end = (statistics.median(_memory(t, role) for t in some) for some in (first, last))
            if not level:  # who is not known by its role any more would be weighed by nobody
                yield self.found(None, self.percent, "%", text=f"{role or 'Isthmus'}: was not seen")
                continue
            grown = 100 * (end - level) / level
            bound = self.percent if not role else max(self.percent, round(100 * LEAST_MB / level, 1))
            text = f"{role or 'all of them'}: from {level:.1f} to {end:.1f} MB"
            if not role:
                servers = [statistics.median(_memory(t, SERVERS) for t in some) for some in (first, last)]
                text += "; the bed's API servers: from {:.1f} to {:.1f} MB".format(*servers)
            yield self.found(grown, bound, "%", text=text)


def _memory(taken: Taken, role: str) -> float:
    if not role:
        return sum(_memory(taken, one) for one in ISTHMUS)
    return taken.roles[role].memory_mb if role in taken.roles else 0.0


@expectation("leaks")
class Leaks(Expectation, frozen=True, kw_only=True):
    """When the callers are gone nothing is left of the load: it looks as it did before they came."""

    def judge(self, seen: Seen) -> Iterator[Finding]:
        if seen.rest is None:
            return
        before, after = seen.rest
        left = left_over(before, after)
        text = "; ".join(left) or "descriptors, tasks, processes and rules are as they were before"
        yield self.found(float(len(left)), 0, "leaks", text=text)


def left_over(before: Taken, after: Taken) -> list[str]:
    """What there is more of than before, in words."""
    found = [f"{role}: was not seen" for role in ISTHMUS if role not in after.roles]
    for role in sorted({*before.roles, *after.roles}):
        old, new = before.roles.get(role), after.roles.get(role)
        was, now = (old.processes if old else 0), (new.processes if new else 0)
        if role == CALLERS:
            was = 0  # they had come already, and are to go
        if was != now and role != PODS:
            found.append(f"{role}: {was} processes became {now}")
        if role not in WEIGHED or old is None or new is None:
            continue
        if new.descriptors > old.descriptors + DESCRIPTORS * was:
            found.append(f"{role}: {old.descriptors} descriptors became {new.descriptors}")
        if role in LOOPS and new.told < new.processes:
            found.append(f"{role}: {new.told} of {new.processes} processes told their tasks")
        if new.tasks > old.tasks + TASKS * was:
            found.append(f"{role}: {old.tasks} tasks became {new.tasks}")
    found += [f"{console} did not tell its tasks" for console in sorted({*before.mute, *after.mute})]
    found += [f"nobody reaped a {name} that has ended" for name in after.zombies]
    found += [f"still there: {command}" for command in after.other if command not in before.other]
    if after.rules > before.rules:
        found.append(f"{after.rules - before.rules} rules that drop packets")
    return found
