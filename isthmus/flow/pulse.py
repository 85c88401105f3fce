"""How a process fares: what it uses, and how late its event loop gives a task its turn.

Linux only: memory is read from /proc.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final

from isthmus.flow.stats import Metric, Read, Sample, Stats

BEAT_SECONDS = 0.1
WINDOW_SECONDS = 30.0
"""The greatest lag is that of this window and of the one before."""

LAG: Final = Metric(
    name="isthmus_process_loop_lag_seconds",
    help="How late the event loop gave a task its turn, looked at ten times a second.",
    kind="histogram",
    bounds=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0),
)
LAG_MOST: Final = Metric(
    name="isthmus_process_loop_lag_max_seconds",
    help="The greatest lag of the event loop within the last 30 to 60 seconds.",
    kind="gauge",
)
CPU: Final = Metric(
    name="isthmus_process_cpu_seconds", help="Processor time, of the user and of the system together."
)
MEMORY: Final = Metric(
    name="isthmus_process_resident_bytes", help="Memory that is resident now.", kind="gauge"
)
TASKS: Final = Metric(
    name="isthmus_process_tasks", help="Tasks of the event loop that have not ended.", kind="gauge"
)
METRICS: Final = (LAG, LAG_MOST, CPU, MEMORY, TASKS)
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Pulse:
    """Measures the loop it runs on. `clock` gives seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts = [0] * (len(LAG.bounds) + 1)
        self._sum = 0.0
        self._most = self._most_before = 0.0
        self._window = clock()

    async def run(self) -> None:
        """Measures until cancelled."""
        while True:
            due = self._clock() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self.late(max(0.0, self._clock() - due))

    def late(self, seconds: float) -> None:
        """Notes one turn that came so late."""
        self._counts[bisect_left(LAG.bounds, seconds)] += 1
        self._sum += seconds
        if self._clock() - self._window >= WINDOW_SECONDS:
            self._window, self._most_before, self._most = self._clock(), self._most, 0.0
        self._most = max(self._most, seconds)

    def samples(self) -> Iterator[Sample]:
        """What was measured, and what the process uses now."""
        yield Sample(LAG, (), (*map(float, self._counts), self._sum))
        yield Sample(LAG_MOST, (), (max(self._most, self._most_before),))
        yield Sample(CPU, (), (time.process_time(),))
        yield Sample(TASKS, (), (float(len(asyncio.all_tasks())),))
        with open("/proc/self/statm", "rb") as file:
            yield Sample(MEMORY, (), (float(int(file.read().split()[1]) * _PAGE),))


async def publish(stats: Stats, read: Read, ready: Callable[[], bool]) -> None:
    """Publishes what `read()` tells and how this process fares, until cancelled."""
    pulse = Pulse()
    async with asyncio.TaskGroup() as group:
        group.create_task(pulse.run(), name="pulse")
        group.create_task(stats.run(lambda: (*pulse.samples(), *read()), ready), name="stats")
