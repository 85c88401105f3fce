"""A scenario played: the load runs, faults happen when they are due, and everything is noted."""

from __future__ import annotations

import asyncio
import time

from isthmus.demo import memory
from isthmus.demo.stage import Say
from loadtests.load.bed import Bed
from loadtests.load.expect import Seen
from loadtests.load.marks import Mark
from loadtests.load.scenario import Event, Scenario

MEMORY_SECONDS = 2.0


async def play(bed: Bed, scenario: Scenario, say: Say) -> Seen:
    """Everything that was seen of the scenario on this bed."""
    await bed.crowd.go()
    await bed.stage.until("callers of every cluster served at every door", lambda: _unserved(bed, scenario))
    rates = ", ".join(f"{rate:g}/s {door}" for door, rate in scenario.rates.items())
    say(f"callers are served, the load counts: {rates}")
    began = time.monotonic()
    taken: list[tuple[float, float]] = []
    weighing = asyncio.create_task(_weigh(taken), name="memory")
    try:
        async with asyncio.TaskGroup() as group:
            events = [
                group.create_task(_event(bed, event, began, say), name=event.name)
                for event in scenario.events
            ]
            await asyncio.sleep(began + scenario.seconds - time.monotonic())
    finally:
        weighing.cancel()
        await asyncio.gather(weighing, return_exceptions=True)
    ended = time.monotonic()
    await bed.crowd.stop()
    marks = sorted((task.result() for task in events), key=lambda mark: mark.began)
    return Seen(
        began=began,
        ended=ended,
        rows=[row for row in bed.samples.living(bed.deaths) if row.at >= began],
        marks=marks,
        memory=taken,
    )


async def _unserved(bed: Bed, scenario: Scenario) -> str:
    """The first door and cluster whose callers were not served yet; calls count when there is none."""
    served = {(row.door, row.caller) for row in bed.samples if not row.why}
    for door in scenario.rates:
        for member in bed.world.members:
            if (door, member.name) not in served:
                return f"{door} of {member.name}"
    return ""


async def _event(bed: Bed, event: Event, began: float, say: Say) -> Mark:
    await asyncio.sleep(began + event.at - time.monotonic())
    say(f"{event.name} begins", "bad")
    start = time.monotonic()
    try:
        async with event.fault.happen(bed) as trace:
            await asyncio.sleep(start + event.lasts - time.monotonic())
            ended = time.monotonic()
    finally:
        undone = time.monotonic()
        say(f"{event.name} is over", "good")
    return Mark(
        name=event.name,
        fault=event.fault.name,
        victims=event.fault.victims(),
        began=start,
        ended=ended,
        undone=undone,
        evidence=trace.evidence,
        phases=tuple(trace.phases),
        counts=trace.counts,
    )


async def _weigh(taken: list[tuple[float, float]]) -> None:
    while True:
        megabytes = await asyncio.to_thread(memory.pss_mb)
        if megabytes is not None:
            taken.append((time.monotonic(), megabytes))
        await asyncio.sleep(MEMORY_SECONDS)
