"""A scenario played: the load runs, faults happen when they are due, and everything is noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from isthmus.demo.stage import Say
from loadtests.load.census import Census, Taken, least
from loadtests.load.clusterset import Clusterset
from loadtests.load.doors import DOORS
from loadtests.load.expect import Seen
from loadtests.load.expect.leaks import Leaks, left_over
from loadtests.load.faults.fault import meanwhile
from loadtests.load.marks import Mark
from loadtests.load.scenario import Event, Scenario

WATCH_SECONDS = 2.0
REST_SECONDS = 40.0
"""Until then what callers left behind must be gone: connections are kept for some time."""
BEFORE_SECONDS, BEFORE_TIMES = 20.0, 20
"""So often in so long it is counted how all is at rest; the least is what there is without any check.

Connections that the start needed are closed after 15 s.
"""


async def play(bed: Clusterset, scenario: Scenario, rates: Mapping[str, float], say: Say) -> Seen:
    """Everything that was seen of the scenario on this bed; `rates` are those of the peers' doors too."""
    census = Census(bed.consoles.values())
    leaks = any(isinstance(wanted, Leaks) for wanted in scenario.expect)
    before = await _before(census, say) if leaks else None
    await bed.crowd.go()
    await bed.until("callers of every cluster served at every door", lambda: _unserved(bed, rates))
    told = ", ".join(f"{rate:g}/s {door}" for door, rate in rates.items())
    say(f"callers are served, the load counts: {told}")
    began = time.monotonic()
    watch: list[Taken] = []
    async with meanwhile(_watch(census, watch), name="watch"), asyncio.TaskGroup() as group:
        events = [
            group.create_task(_event(bed, event, began, say), name=event.name) for event in scenario.events
        ]
        await asyncio.sleep(began + scenario.seconds - time.monotonic())
    ended = time.monotonic()
    await bed.crowd.stop()
    marks = sorted((task.result() for task in events), key=lambda mark: mark.began)
    rest = None
    if before is not None:
        say("callers are gone; what they left behind must go too")
        rest = before, await _at_rest(census, before)
    rows = [row for row in bed.samples.living(bed.deaths) if row.at >= began]
    return Seen(
        began=began,
        ended=ended,
        rows=[row for row in rows if not DOORS[row.door].beside],
        others=[row for row in rows if DOORS[row.door].beside],
        marks=marks,
        rates=scenario.rates,
        callers=list(bed.clusters),
        deaths=bed.deaths,
        watch=watch,
        rest=rest,
    )


def rates_with(rates: Mapping[str, float], peers: Sequence[str]) -> dict[str, float]:
    """Calls per second by door: a peer has as many as the door it stands beside."""
    return {**rates, **{peer: rates[DOORS[peer].beside] for peer in peers}}


async def _unserved(bed: Clusterset, doors: Iterable[str]) -> str:
    """The first door and cluster whose callers were not served yet; calls count when there is none."""
    served = {(row.door, row.caller) for row in bed.samples if not row.why}
    for door in doors:
        for cluster in bed.clusters:
            if (door, cluster) not in served:
                return f"{door} of {cluster}"
    return ""


async def _event(bed: Clusterset, event: Event, began: float, say: Say) -> Mark:
    await asyncio.sleep(began + event.at - time.monotonic())
    say(f"{event.name} begins", "bad")
    start = time.monotonic()
    try:
        async with bed.happens(event.fault) as trace:
            await asyncio.sleep(start + event.lasts - time.monotonic())
            ended = time.monotonic()
    finally:
        undone = time.monotonic()
        say(f"{event.name} is over", "good")
    return Mark(
        name=event.name,
        fault=event.fault.name,
        victims=event.fault.victims(),
        leads=event.fault.leads(),
        began=trace.began or start,
        ended=ended,
        undone=undone,
        evidence=trace.evidence,
        phases=tuple(trace.phases),
        counts=trace.counts,
    )


async def _watch(census: Census, watch: list[Taken]) -> None:
    while True:
        watch.append(await census.take())
        await asyncio.sleep(WATCH_SECONDS)


async def _before(census: Census, say: Say) -> Taken:
    say(f"for {BEFORE_SECONDS:g} s it is counted how all is at rest")
    some = []
    for _ in range(BEFORE_TIMES):
        some.append(await census.take(tasks=True))
        await asyncio.sleep(BEFORE_SECONDS / BEFORE_TIMES)
    return least(some)


async def _at_rest(census: Census, before: Taken) -> Taken:
    """The first census with nothing left over, or the last one in REST_SECONDS."""
    until = time.monotonic() + REST_SECONDS
    while True:
        after = await census.take(tasks=True)
        if time.monotonic() > until or not left_over(before, after):
            return after
        await asyncio.sleep(WATCH_SECONDS)
