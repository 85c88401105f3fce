"""A work queue, and the law of reconciling.

The law. A request is a key, never an event: the worker reads what is and what should be when it runs, so
that nothing depends on having seen anything. The same key never runs twice at once; a key marked while it
runs, runs once more after. The outcome is `Done`, `RequeueAfter` so many seconds, a raised error
(transient: the key backs off and comes again), or `Terminal` (reported, not retried until somebody marks
the key). A mark makes a waiting key due at once, except while it backs off: then it stays with its back-
off, or a busy writer would defeat it. Each success forgets the key's failures. What waits is at most the
set of keys.

`Schedule` is the law as pure state; `WorkQueue` runs it on N workers.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

import structlog

from isthmus.errors import IsthmusError, KubeError
from isthmus.kube.backoff import Backoff

K = TypeVar("K", bound=Hashable)

BACKOFF = Backoff(first=0.2)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to do until the key is marked."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Run the key again after so many seconds, or sooner when it is marked."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Terminal:
    """Trying again would change nothing; `again` (seconds) still looks once in a while, None: never."""

    reason: str
    again: float | None = None


Result = Done | RequeueAfter | Terminal


@dataclass(frozen=True, slots=True)
class Failed:
    """How a worker's exception enters the schedule. `asked`: seconds the server asked to wait."""

    reason: str
    asked: float | None = None


class Schedule(Generic[K]):
    """Which key is due: pure, time comes in as `now` (seconds on any clock that does not go back)."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._ready: OrderedDict[K, float] = OrderedDict()
        """Keys that are due, each with the time from which on. Not a dict, whose first key is slow to find
        once many before it have gone."""
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = 0
        self._running: dict[K, bool] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Keys that wait, now or for a time; running ones do not count."""
        return len(self._ready) + len(self._due)

    @property
    def running(self) -> frozenset[K]:
        return frozenset(self._running)

    def failures(self, key: K) -> int:
        """Failures in a row of that key."""
        return self._failures.get(key, 0)

    def oldest(self, now: float) -> float:
        """For how long the key that is due longest has been due; 0 where none is."""
        return max(0.0, now - next(iter(self._ready.values()))) if self._ready else 0.0

    def mark(self, key: K, now: float = 0.0) -> None:
        """The key needs a look."""
        if key in self._running:
            self._running[key] = True
        elif key in self._ready or (key in self._due and key in self._failures):
            return
        else:
            self._due.pop(key, None)
            self._ready[key] = now

    def take(self, now: float) -> K | None:
        """The next key to run, in order of marking; it is running until `finish`. None: nothing is due."""
        self._ripen(now)
        if not self._ready:
            return None
        key = next(iter(self._ready))
        del self._ready[key]
        self._running[key] = False
        return key

    def finish(self, key: K, outcome: Result | Failed, now: float, random: float) -> None:
        """The key's run ended so; `random` in [0, 1) jitters a back-off."""
        marked = self._running.pop(key)
        if isinstance(outcome, Failed):
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
            self._later(key, now + self._backoff.delay(count, random, outcome.asked))
            return
        self._failures.pop(key, None)
        if marked:
            self._ready[key] = now
        elif isinstance(outcome, RequeueAfter):
            self._later(key, now + outcome.seconds)
        elif isinstance(outcome, Terminal) and outcome.again is not None:
            self._later(key, now + outcome.again)

    def next_due(self, now: float) -> float | None:
        """Seconds until a key is due, 0 when one is; None: nothing waits."""
        self._ripen(now)
        if self._ready:
            return 0.0
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def _later(self, key: K, due: float) -> None:
        self._due[key] = due
        self._order += 1
        heapq.heappush(self._heap, (due, self._order, key))
        if len(self._heap) > 2 * len(self._due) + 64:
            # Keys that were marked while they waited left entries behind.
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def _ripen(self, now: float) -> None:
        """Moves what is due to the ready keys, and drops entries of the heap that no longer count."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due:
                if due > now:
                    return
                del self._due[key]
                self._ready[key] = now
            heapq.heappop(self._heap)


class WorkQueue(Generic[K]):
    """Runs `work` for marked keys on at most `workers` at once, by the law above.

    Any exception of `work` is transient; one that is no IsthmusError is logged with its traceback.
    `on_outcome` hears of every end of a run (for metrics).
    """

    def __init__(
        self,
        name: str,
        work: Callable[[K], Awaitable[Result]],
        *,
        workers: int = 8,
        backoff: Backoff = BACKOFF,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
        on_outcome: Callable[[K, Result | Failed], None] | None = None,
    ) -> None:
        self.name = name
        self.errors: dict[K, str] = {}
        """What is wrong with keys whose last run failed or ended terminally."""
        self._work = work
        self._workers = workers
        self._clock = clock
        self._rng = rng or Random()
        self._on_outcome = on_outcome
        self._schedule: Schedule[K] = Schedule(backoff)
        self._wake = asyncio.Event()
        self._log = log.bind(queue=name)

    def __len__(self) -> int:
        return len(self._schedule)

    @property
    def oldest(self) -> float:
        """For how many seconds the key that is due longest has been due; 0 where none is."""
        return self._schedule.oldest(self._clock())

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing is due."""
        return not self._schedule.running and self._schedule.next_due(self._clock()) != 0.0

    def add(self, key: K) -> None:
        """Marks the key."""
        self._schedule.mark(key, self._clock())
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        slots = asyncio.Semaphore(self._workers)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                key = await self._next()
                task = group.create_task(self._one(key), name=f"{self.name}-{key}")
                task.add_done_callback(lambda _task: slots.release())

    async def _next(self) -> K:
        while True:
            self._wake.clear()
            now = self._clock()
            key = self._schedule.take(now)
            if key is not None:
                return key
            try:
                async with asyncio.timeout(self._schedule.next_due(now)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _one(self, key: K) -> None:
        outcome: Result | Failed
        try:
            outcome = await self._work(key)
        except IsthmusError as error:
            asked = error.retry_after if isinstance(error, KubeError) else None
            outcome = Failed(str(error), asked)
        except Exception as error:  # a defect in one key's work must not stop the others
            log.exception("work raised", queue=self.name, key=str(key))
            outcome = Failed(f"{type(error).__name__}: {error}")
        self._note(key, outcome)
        self._schedule.finish(key, outcome, self._clock(), self._rng.random())
        self._wake.set()
        if self._on_outcome is not None:
            self._on_outcome(key, outcome)

    def _note(self, key: K, outcome: Result | Failed) -> None:
        before = self.errors.get(key)
        if isinstance(outcome, Done | RequeueAfter):
            if self.errors.pop(key, None) is not None:
                self._log.info("work recovered", key=str(key))
            return
        self.errors[key] = outcome.reason
        if before != outcome.reason:
            terminal = isinstance(outcome, Terminal)
            self._log.warning("work failed", key=str(key), terminal=terminal, error=outcome.reason)
