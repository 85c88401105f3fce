"""The law of reconciling: the pure schedule against a model, and the queue that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isthmus.errors import KubeError, Throttled
from isthmus.kube.backoff import Backoff
from isthmus.kube.workqueue import Done, Failed, RequeueAfter, Result, Schedule, Terminal, WorkQueue

BACKOFF = Backoff(first=1.0, longest=8.0)


def test_a_key_marked_many_times_runs_once() -> None:
    schedule: Schedule[str] = Schedule(BACKOFF)
    for _ in range(5):
        schedule.mark("a")
    assert schedule.take(0.0) == "a"
    assert schedule.take(0.0) is None


def test_a_key_marked_while_it_runs_runs_once_more_after() -> None:
    schedule: Schedule[str] = Schedule(BACKOFF)
    schedule.mark("a")
    schedule.take(0.0)
    schedule.mark("a")
    schedule.mark("a")
    assert schedule.take(0.0) is None
    schedule.finish("a", Done(), 0.0, 0.0)
    assert schedule.take(0.0) == "a"
    schedule.finish("a", Done(), 0.0, 0.0)
    assert schedule.take(0.0) is None


def test_failures_back_off_per_key_and_a_success_forgets_them() -> None:
    schedule: Schedule[str] = Schedule(BACKOFF)
    now = 0.0
    waits = []
    schedule.mark("a")
    for _ in range(5):
        assert schedule.take(now) == "a"
        schedule.finish("a", Failed("no"), now, 0.0)
        due = schedule.next_due(now)
        assert due is not None
        waits.append(due)
        now += due
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert schedule.take(now) == "a"
    schedule.finish("a", Done(), now, 0.0)
    assert schedule.failures("a") == 0


def test_a_mark_does_not_shorten_a_back_off_but_shortens_every_other_wait() -> None:
    schedule: Schedule[str] = Schedule(BACKOFF)
    for key, outcome in (("a", Failed("no")), ("b", RequeueAfter(60.0)), ("c", Terminal("no", again=60.0))):
        schedule.mark(key)
        schedule.take(0.0)
        schedule.finish(key, outcome, 0.0, 0.0)
    for key in "abc":
        schedule.mark(key)
    assert [schedule.take(0.5), schedule.take(0.5), schedule.take(0.5)] == ["b", "c", None]
    assert schedule.take(1.0) == "a"


def test_a_terminal_key_stays_quiet_until_it_is_marked() -> None:
    schedule: Schedule[str] = Schedule(BACKOFF)
    schedule.mark("a")
    schedule.take(0.0)
    schedule.finish("a", Terminal("refused"), 0.0, 0.0)
    assert schedule.next_due(1e9) is None
    schedule.mark("a")
    assert schedule.take(0.0) == "a"


def test_keys_that_are_marked_while_they_wait_leave_nothing_behind() -> None:
    schedule: Schedule[str] = Schedule(BACKOFF)
    for round_ in range(1000):
        schedule.mark("a")
        assert schedule.take(float(round_)) == "a"
        schedule.finish("a", RequeueAfter(1e6), float(round_), 0.0)
    assert len(schedule) == 1
    assert len(schedule._heap) < 100


KEYS = st.sampled_from("abc")


class ScheduleModel(RuleBasedStateMachine):
    """Each mark is followed by a run that starts after it, unless the key is terminal or backs off."""

    @initialize()
    def begin(self) -> None:
        self.schedule: Schedule[str] = Schedule(BACKOFF)
        self.now = 0.0
        self.owed: dict[str, float] = {}
        self.running: set[str] = set()
        self.backing_off: set[str] = set()

    @rule(key=KEYS)
    def mark(self, key: str) -> None:
        self.schedule.mark(key)
        if key not in self.backing_off or key in self.running:
            self.owed[key] = self.now

    @rule()
    def take(self) -> None:
        key = self.schedule.take(self.now)
        if key is None:
            due_now = {k for k, at in self.owed.items() if at <= self.now and k not in self.running}
            assert not due_now
            return
        assert key not in self.running
        assert self.owed.pop(key) <= self.now
        self.running.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), random=st.floats(0.0, 0.99))
    def finish(self, data: st.DataObject, random: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        outcome = data.draw(
            st.sampled_from([Done(), RequeueAfter(3.0), Terminal("no"), Terminal("no", 5.0), Failed("no")])
        )
        before = self.schedule.failures(key)
        self.schedule.finish(key, outcome, self.now, random)
        self.running.discard(key)
        self.backing_off.discard(key)
        match outcome:
            case Failed():
                self.backing_off.add(key)
                self.owed[key] = self.now + BACKOFF.delay(before, random)
                assert self.schedule.failures(key) == before + 1
            case RequeueAfter(seconds) | Terminal(again=float() as seconds):
                self.owed.setdefault(key, self.now + seconds)
            case _:
                pass

    @rule(seconds=st.floats(0.0, 10.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_next_wake_is_never_late(self) -> None:
        waiting = [at for key, at in self.owed.items() if key not in self.running]
        due = self.schedule.next_due(self.now)
        if not waiting:
            assert due is None
        else:
            assert due is not None
            assert abs(due - max(0.0, min(waiting) - self.now)) < 1e-6


ScheduleModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestScheduleModel = ScheduleModel.TestCase


@asynccontextmanager
async def running(queue: WorkQueue[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


async def test_workers_run_keys_side_by_side_and_no_key_twice_at_once() -> None:
    active: list[str] = []
    most = 0
    doors = {key: asyncio.Event() for key in "abcd"}

    async def work(key: str) -> Result:
        nonlocal most
        assert key not in active
        active.append(key)
        most = max(most, len(active))
        await doors[key].wait()
        active.remove(key)
        return Done()

    queue: WorkQueue[str] = WorkQueue("test", work, workers=3)
    async with running(queue):
        for key in "abcd":
            queue.add(key)
        await until(lambda: len(active) == 3)
        queue.add("a")
        doors["a"].set()
        doors["d"].set()
        await until(lambda: sorted(active) == ["b", "c"] and len(queue) == 0)
        doors["b"].set()
        doors["c"].set()
        await until(lambda: queue.idle)
    assert most == 3


async def test_an_exception_is_tried_again_and_harms_no_other_key() -> None:
    runs: list[str] = []

    async def work(key: str) -> Result:
        runs.append(key)
        if key == "bad" and runs.count("bad") < 3:
            raise KubeError("not now") if runs.count("bad") == 1 else RuntimeError("a defect")
        return Done()

    queue: WorkQueue[str] = WorkQueue("test", work, backoff=Backoff(first=0.001), rng=Random(1))
    async with running(queue):
        queue.add("bad")
        queue.add("good")
        await until(lambda: runs.count("bad") == 3 and queue.idle)
    assert runs.count("good") == 1
    assert queue.errors == {}


async def test_a_terminal_key_is_reported_and_not_tried_again() -> None:
    runs: list[str] = []
    outcomes: list[tuple[str, Result | Failed]] = []

    async def work(key: str) -> Result:
        runs.append(key)
        return Terminal("refused by the server")

    queue: WorkQueue[str] = WorkQueue("test", work, on_outcome=lambda *got: outcomes.append(got))
    async with running(queue):
        queue.add("a")
        await until(lambda: bool(outcomes))
        assert queue.errors == {"a": "refused by the server"}
        assert queue.idle
        queue.add("a")
        await until(lambda: len(outcomes) == 2)
    assert runs == ["a", "a"]


async def test_what_the_server_asks_for_is_respected() -> None:
    outcomes: list[Result | Failed] = []

    async def work(key: str) -> Result:
        raise Throttled("busy", retry_after=33.0)

    queue: WorkQueue[str] = WorkQueue("test", work, on_outcome=lambda _key, got: outcomes.append(got))
    async with running(queue):
        queue.add("a")
        await until(lambda: bool(outcomes))
        assert outcomes == [Failed("busy", 33.0)]
        assert queue.idle
