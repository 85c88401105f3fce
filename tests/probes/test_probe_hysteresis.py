"""Hysteresis and hold-down, as state machines."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from isthmus.probes.holddown import LAST, NEVER_DOWN, WINDOW, HoldDown
from isthmus.probes.hysteresis import CLEAR, MANY, UNKNOWN, step


class Flapping(RuleBasedStateMachine):
    """One target with its hold-down, beside a plain record of what happened to it."""

    @initialize(rise=st.integers(1, 5), fall=st.integers(1, 5))
    def begin(self, rise: int, fall: int) -> None:
        self.rise, self.fall = rise, fall
        self.streak, self.holddown, self.now = UNKNOWN, NEVER_DOWN, 0.0
        self.results: list[bool] = []
        self.unforgiven = self.run = 0
        self.ups: list[float] = []
        self.failed = float("-inf")
        self.windows: list[tuple[float, float]] = []

    @rule(ok=st.booleans(), pause=st.sampled_from([0.01, 0.1, 0.5, 3.0, 30.0, 700.0]), distrust=st.booleans())
    def result(self, ok: bool, pause: float, distrust: bool) -> None:
        self.now += pause
        held = self.holddown.holds(self.now, self.failed) if ok else distrust
        self.failed = self.failed if ok else self.now
        before = self.streak.up
        self.streak = step(self.streak, ok, rise=self.rise, fall=self.fall, held=held)
        self.results.append(ok)
        self.run = self.run + 1 if ok else 0
        self.unforgiven = 0 if self.run >= CLEAR else self.unforgiven + (not ok)
        if self.streak.up == before:
            return
        unforgiven, self.unforgiven = self.unforgiven, 0
        assert self.streak.up is ok
        if before is None:
            assert ok
            return
        assert not held
        need = self.rise if ok else self.fall
        in_a_row = self.results[-need:] == [ok] * need
        assert in_a_row or (not ok and unforgiven >= MANY * self.fall)
        if ok:
            self.ups.append(self.now)
            if len(self.holddown.downs) > 1:
                assert self.now >= self.failed + 2.0
        else:
            self.holddown = self.holddown.down(self.now)
            self.windows.append((self.now, self.holddown.until))

    @rule()
    def enough_successes_make_up(self) -> None:
        self.now = max(self.now, self.holddown.until)
        streak = self.streak
        for _ in range(self.rise):
            streak = step(streak, True, rise=self.rise, fall=self.fall)
        assert streak.up is True

    @rule()
    def enough_failures_make_down_what_was_ever_up(self) -> None:
        streak = self.streak
        for _ in range(self.fall):
            streak = step(streak, False, rise=self.rise, fall=self.fall)
        assert streak.up is (None if self.streak.up is None else False)

    @rule(successes=st.integers(1, CLEAR - 1))
    def failures_that_are_never_forgiven_make_down(self, successes: int) -> None:
        streak = self.streak
        for _ in range(MANY * self.fall):
            for _ in range(successes):
                streak = step(streak, True, rise=self.rise, fall=self.fall, held=True)
            streak = step(streak, False, rise=self.rise, fall=self.fall)
            if streak.up is False:
                return
        raise AssertionError("it fails and fails and is up")

    @rule(ok=st.booleans())
    def only_a_wavering_verdict_changes(self, ok: bool) -> None:
        after = step(self.streak, ok, rise=self.rise, fall=self.fall)
        need = self.rise if ok else self.fall
        if self.streak.up is not None and after.up != self.streak.up and need > 1:
            assert self.streak.wavering(rise=self.rise, fall=self.fall)

    @invariant()
    def never_down_before_up(self) -> None:
        if hasattr(self, "results") and True not in self.results:
            assert self.streak.up is None

    @invariant()
    def at_most_one_up_in_a_hold_down_window(self) -> None:
        for began, ended in getattr(self, "windows", []):
            assert not [at for at in self.ups if began <= at < ended]
            assert len([at for at in self.ups if began <= at <= ended]) <= 1


TestFlapping = Flapping.TestCase


def test_the_wait_doubles_from_two_to_sixty_seconds() -> None:
    holddown, waits = NEVER_DOWN, []
    for n in range(9):
        holddown = holddown.down(now=float(n))
        waits.append(holddown.until - n)
    assert waits == [0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert len(holddown.downs) < 10


@pytest.mark.parametrize(("downs", "quiet"), [(1, 0.0), (2, 2.0), (3, 4.0), (4, 5.0), (7, 5.0), (9, 5.0)])
def test_who_flaps_is_not_up_until_no_check_failed_for_a_while(downs: int, quiet: float) -> None:
    holddown = NEVER_DOWN
    for n in range(downs):
        holddown = holddown.down(now=float(n))
    later = 10 * LAST
    assert not holddown.holds(later, failed=later - quiet)
    assert holddown.holds(later, failed=later - quiet / 2) is bool(quiet)
    assert not holddown.holds(later, failed=float("-inf"))
    assert holddown.holds(holddown.until - 0.01, failed=float("-inf"))


def test_at_the_edge_of_its_timeout_a_target_comes_up_seldom() -> None:
    """Every second check passes, by chance, for ten minutes: what is up then sends callers into failures."""
    chance, streak, holddown, failed, ups = random.Random(7), UNKNOWN, NEVER_DOWN, float("-inf"), 0
    for n in range(1_200):
        ok, now, before = chance.random() < 0.5, n / 2, streak.up
        failed = failed if ok else now
        streak = step(streak, ok, rise=2, fall=2, held=ok and holddown.holds(now, failed))
        if before and streak.up is False:
            holddown = holddown.down(now)
        ups += before is False and streak.up is True
    assert 1 <= ups <= 6


@given(st.lists(st.integers(int(WINDOW), 10 * int(WINDOW)), max_size=20))
def test_downs_that_are_ten_minutes_apart_never_wait(pauses: list[int]) -> None:
    holddown, now = HoldDown(), 0.0
    for pause in pauses:
        now += pause
        holddown = holddown.down(now)
        assert holddown.until == now


@given(st.lists(st.integers(0, 2 * int(WINDOW)), min_size=1, max_size=30))
def test_the_wait_counts_the_downs_of_the_last_ten_minutes(pauses: list[int]) -> None:
    holddown, now, times = HoldDown(), 0.0, []
    for pause in pauses:
        now += pause
        times.append(now)
        holddown = holddown.down(now)
        recent = len([at for at in times if now - at < WINDOW])
        assert holddown.until - now == (0.0 if recent == 1 else min(LAST, 2.0 ** (recent - 1)))


def test_ten_successes_in_a_row_forgive() -> None:
    streak = step(UNKNOWN, True, rise=2, fall=2)
    for _ in range(100):
        streak = step(streak, False, rise=2, fall=2)
        for _ in range(CLEAR):
            streak = step(streak, True, rise=2, fall=2)
    assert streak.up is True
    assert streak.faults == 0
