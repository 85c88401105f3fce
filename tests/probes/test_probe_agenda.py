"""What is due when, and connections by the hundred."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import time
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from probe_simulation import simulate

from isthmus.probes.agenda import TIDY, TOGETHER, Agenda, Entry
from isthmus.probes.dialler import Dialler
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome

LONG = 60.0
plans = st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 5)), max_size=60)


@given(plans=plans, early=st.sampled_from([1e-6, 0.01]))
def test_everything_is_told_in_order_when_it_is_due_but_for_what_was_cancelled(
    plans: list[tuple[float, bool, float]], early: float
) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        told: list[tuple[float, int]] = []
        agenda: Agenda[int] = Agenda(lambda item: told.append((loop.time() - begin, item)), early=early)
        for item, (when, cancelled, at) in enumerate(plans):
            entry = agenda.add(begin + when, item)
            if cancelled:
                loop.call_at(begin + at, agenda.cancel, entry)
        await asyncio.sleep(6)
        gone = {n for n, (when, cancelled, at) in enumerate(plans) if cancelled and at < when - early}
        maybe = {n for n, (when, cancelled, at) in enumerate(plans) if cancelled and n not in gone}
        names = [item for _, item in told]
        assert set(range(len(plans))) - gone - maybe <= set(names) <= set(range(len(plans))) - gone
        assert len(set(names)) == len(names)
        for at, item in told:
            assert -early - 1e-6 <= at - plans[item][0] <= 0.001
        dues = [plans[item][0] for item in names]
        assert all(later >= sooner - early for sooner, later in itertools.pairwise(dues))
        assert len(agenda) == 0

    simulate(play)


async def test_many_that_are_due_at_once_let_others_have_the_loop() -> None:
    told: list[int] = []
    agenda: Agenda[int] = Agenda(told.append)
    now = asyncio.get_running_loop().time()
    for item in range(5 * TOGETHER):
        agenda.add(now, item)
    most = before = 0
    while len(told) < 5 * TOGETHER:
        await asyncio.sleep(0)
        most, before = max(most, len(told) - before), len(told)
    assert most == TOGETHER
    assert told == list(range(5 * TOGETHER))


async def test_what_is_told_may_add_and_a_failure_holds_up_nothing() -> None:
    told: list[int] = []
    done = asyncio.Event()

    def tell(item: int) -> None:
        told.append(item)
        if item == 1:
            agenda.add(0.0, 3)
            raise ZeroDivisionError
        if item == 3:
            done.set()

    agenda: Agenda[int] = Agenda(tell)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    agenda.add(0.0, 1)
    agenda.add(0.0, 2)
    async with asyncio.timeout(LONG):
        await done.wait()
    assert told == [1, 2, 3]
    assert len(failures) == 1


def test_what_was_cancelled_takes_no_room() -> None:
    async def play() -> None:
        agenda: Agenda[int] = Agenda(lambda _item: None)
        kept: Entry[int] = agenda.add(1e9, -1)
        for item in range(20 * TIDY):
            agenda.cancel(agenda.add(1e9, item))
        assert len(agenda) == 1
        assert len(agenda._heap) <= 2 * TIDY + 2
        assert kept.item == -1
        agenda.close()

    simulate(play)


@contextlib.contextmanager
def dialling() -> Iterator[Dialler]:
    dialler = Dialler()
    dialler.open()
    try:
        yield dialler
    finally:
        dialler.close()


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A port whose backlog is full: the kernel drops what else comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            assert filler.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        yield listener.getsockname()[1]


async def test_each_of_many_connections_gets_its_own_answer() -> None:
    found: dict[int, Outcome] = {}
    with (
        dialling() as dialler,
        full() as silent,
        socket.create_server(("127.0.0.1", 0), backlog=1_000) as listener,
        socket.socket() as taken,
    ):
        taken.bind(("127.0.0.1", 0))
        ports = [listener.getsockname()[1], taken.getsockname()[1], silent]
        for n in range(600):
            dialler.dial(
                "127.0.0.1", ports[n % 3], 0.5 if n % 3 == 2 else LONG, lambda o, n=n: found.update({n: o})
            )  # type: ignore[misc]
        async with asyncio.timeout(LONG):
            while len(found) < 600:
                await asyncio.sleep(0.01)
    wanted = [PASSED, Outcome(False, "refused"), TIMEOUT]
    assert all(found[n] == wanted[n % 3] for n in range(600))


async def test_what_was_stopped_says_nothing_even_where_its_number_is_used_again() -> None:
    told: list[str] = []
    done = asyncio.Event()
    with dialling() as dialler, full() as silent, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def later(outcome: Outcome) -> None:
            told.append(outcome.reason)
            if len(told) == 2:
                done.set()

        def first(name: str) -> None:
            """Whichever comes first stops the other, whose success waits in the same batch of events."""
            told.append(f"{name} passed")
            stops.pop("b" if name == "a" else "a")()
            told.clear()
            for _ in range(2):  # they have the descriptors of both, and nobody answers them
                dialler.dial("127.0.0.1", silent, 0.3, later)

        stops = {
            name: dialler.dial("127.0.0.1", port, LONG, lambda _outcome, name=name: first(name))  # type: ignore[misc]
            for name in "ab"
        }
        time.sleep(0.05)  # noqa: ASYNC251 - both connections open while the loop stands still
        async with asyncio.timeout(LONG):
            await done.wait()
    assert told == ["timeout", "timeout"]


async def test_a_connection_that_opened_while_the_loop_stood_still_has_passed() -> None:
    found: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    with dialling() as dialler, socket.create_server(("127.0.0.1", 0)) as listener:
        dialler.dial("127.0.0.1", listener.getsockname()[1], 0.0, found.set_result)
        assert await found == PASSED


async def test_closing_ends_what_is_under_way_without_a_word() -> None:
    told: list[Outcome] = []
    with full() as silent, dialling() as dialler:
        for _ in range(10):
            dialler.dial("127.0.0.1", silent, 0.05, told.append)
    await asyncio.sleep(0.1)
    assert told == []
