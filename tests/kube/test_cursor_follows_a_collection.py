"""The cursor against a model of an API server: versions, compaction, pages, cuts and errors."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from isthmus.errors import Gone, KubeError, Throttled
from isthmus.kube.backoff import Backoff
from isthmus.kube.cursor import HEALTHY_SECONDS, MUTE_SECONDS, Cursor, List, Wait, Watch

NAMES = st.sampled_from("abcdef")
BACKOFF = Backoff(first=0.8, longest=30.0)


def cursor() -> Cursor[str, int]:
    return Cursor(BACKOFF, lambda: 0.0)


def synced(at: str = "5") -> Cursor[str, int]:
    made = cursor()
    made.page({"a": 1}, at, "")
    return made


def test_the_first_pages_version_is_the_lists() -> None:
    made = cursor()
    assert made.step() == List("")
    assert made.page({"a": 1}, "5", "token") is None
    assert made.step() == List("token")
    assert made.page({"b": 2}, "9", "") == {"a": 1, "b": 2}
    assert made.step() == Watch("5")


def test_a_list_that_fails_half_way_starts_again_from_nothing() -> None:
    made = cursor()
    made.page({"a": 1}, "5", "token")
    made.failed(KubeError("reset"), now=0.0)
    assert made.step() == Wait(0.8)
    assert made.step() == List("")
    assert made.page({"b": 2}, "7", "") == {"b": 2}
    assert made.step() == Watch("7")


def test_a_stream_that_ends_after_a_while_goes_on_at_once_from_the_last_version() -> None:
    made = synced()
    made.opened(10.0)
    made.seen("8")
    made.seen("")
    made.ended(10.0 + HEALTHY_SECONDS)
    assert made.step() == Watch("8")


def test_streams_that_end_at_once_back_off_more_and_more() -> None:
    made = synced()
    waits = []
    for _ in range(8):
        made.opened(0.0)
        made.ended(0.1)
        step = made.step()
        assert isinstance(step, Wait)
        waits.append(step.seconds)
        assert made.step() == Watch("5")
    assert waits == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_healthy_stream_starts_the_back_off_afresh_even_when_it_breaks() -> None:
    made = synced()
    for _ in range(5):
        made.failed(KubeError("reset"), now=0.0)
        made.step()
    made.opened(100.0)
    made.failed(KubeError("reset"), now=100.0 + HEALTHY_SECONDS)
    assert made.step() == Wait(0.8)


def test_410_lists_again_and_other_errors_go_on_from_the_version() -> None:
    made = synced()
    made.failed(KubeError("internal", status=500), now=0.0)
    made.step()
    assert made.step() == Watch("5")
    made.failed(Gone("too old", status=410), now=0.0)
    made.step()
    assert made.step() == List("")


def test_a_server_that_restarted_is_listed_at_once_and_one_that_repeats_itself_later_and_later() -> None:
    made = synced()
    for _ in range(6):
        made.failed(KubeError("refused"), now=0.0)
        made.step()
    waits = []
    for _ in range(4):
        made.opened(0.0)
        made.failed(Gone("too old", status=410), now=0.1)
        step = made.step()
        assert isinstance(step, Wait)
        waits.append(step.seconds)
        assert made.step() == List("")
        made.page({"a": 1}, "9", "")
    assert waits == [0.8, 1.6, 3.2, 6.4]
    made.opened(10.0)
    made.failed(Gone("too old", status=410), now=10.0 + HEALTHY_SECONDS)
    assert made.step() == Wait(0.8)


def test_a_stream_that_never_said_a_word_is_not_resumed() -> None:
    made = synced()
    made.opened(0.0)
    made.ended(MUTE_SECONDS)
    assert made.step() == List("")
    made = synced()
    made.opened(0.0)
    made.failed(KubeError("silent"), now=MUTE_SECONDS)
    made.step()
    assert made.step() == List("")


def test_a_stream_with_a_bookmark_or_a_short_one_is_resumed() -> None:
    made = synced()
    made.opened(0.0)
    made.seen("7")
    made.ended(10 * MUTE_SECONDS)
    assert made.step() == Watch("7")
    made.opened(0.0)
    made.ended(MUTE_SECONDS - 1.0)
    assert made.step() == Watch("7")


def test_a_version_that_goes_back_is_another_history() -> None:
    made = synced("1000")
    made.seen("1001")
    made.seen("opaque")
    made = synced("1000")
    with pytest.raises(Gone):
        made.seen("999")


def test_a_server_is_doubtful_from_a_failure_until_it_says_something() -> None:
    made = synced()
    assert not made.doubtful
    made.failed(KubeError("reset"), now=0.0)
    assert made.doubtful
    made.seen("6")
    assert not made.doubtful


def test_only_a_whole_new_list_is_spread() -> None:
    made = synced()
    made.failed(KubeError("reset"), now=0.0, spread=20.0)
    assert made.step() == Wait(0.8)
    late: Cursor[str, int] = Cursor(BACKOFF, lambda: 0.5)
    late.page({"a": 1}, "5", "")
    late.failed(Gone("too old", status=410), now=0.0, spread=20.0)
    step = late.step()
    assert isinstance(step, Wait)
    assert step.seconds == pytest.approx(10.6)


def test_what_the_server_asks_for_is_waited_but_not_for_ever() -> None:
    made = synced()
    made.failed(Throttled("busy", retry_after=17.0), now=0.0)
    assert made.step() == Wait(17.0)
    made.failed(Throttled("busy", retry_after=86_400.0), now=0.0)
    assert made.step() == Wait(120.0)


def test_jitter_takes_at_most_half_and_never_adds() -> None:
    assert BACKOFF.delay(0, 0.0) == 0.8
    assert 0.4 <= BACKOFF.delay(0, 0.999) < 0.41
    assert BACKOFF.delay(10_000, 0.0) == 30.0


class CursorModel(RuleBasedStateMachine):
    """A server with a log of changes and a mirror that follows it only by what the cursor asks for."""

    @initialize()
    def begin(self) -> None:
        self.version = 1
        self.objects: dict[str, int] = {}
        self.log: list[tuple[int, str, int | None]] = []
        self.kept_from = 1
        self.cursor = cursor()
        self.mirror: dict[str, int] = {}
        self.snapshots: dict[str, tuple[int, list[tuple[str, int]]]] = {}
        self.tokens = 0
        self.stream_at: int | None = None
        self.now = 0.0

    @rule(name=NAMES, value=st.integers(0, 9))
    def write(self, name: str, value: int) -> None:
        self.version += 1
        self.objects[name] = value
        self.log.append((self.version, name, value))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if self.objects.pop(name, None) is not None:
            self.version += 1
            self.log.append((self.version, name, None))

    @rule()
    def compact(self) -> None:
        """The server forgets its history and the pages it was asked to keep."""
        self.kept_from = self.version
        self.log.clear()
        self.snapshots.clear()

    @rule(seconds=st.floats(0.0, 10.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.stream_at is None)
    @rule()
    def act(self) -> None:
        """Does what the cursor wants, as the server answers it."""
        match self.cursor.step():
            case Wait(seconds):
                assert 0.0 < seconds <= 120.0
                self.now += seconds
            case List(token):
                self._list(token)
            case Watch(version):
                if int(version) < self.kept_from:
                    self.cursor.failed(Gone("too old", status=410), self.now)
                else:
                    self.cursor.opened(self.now)
                    self.stream_at = int(version)

    def _list(self, token: str) -> None:
        if token and token not in self.snapshots:
            self.cursor.failed(Gone("expired token", status=410), self.now)
            return
        version, rest = self.snapshots.pop(token) if token else (self.version, sorted(self.objects.items()))
        page, rest = rest[:2], rest[2:]
        continue_ = ""
        if rest:
            self.tokens += 1
            continue_ = f"t{self.tokens}"
            self.snapshots[continue_] = (version, rest)
        complete = self.cursor.page(dict(page), str(version if not token else self.version), continue_)
        assert (complete is None) == bool(rest)
        if complete is not None:
            self.mirror = complete

    @precondition(lambda self: self.stream_at is not None)
    @rule(bookmark=st.booleans())
    def deliver(self, bookmark: bool) -> None:
        """The next event of the stream, or a bookmark when there is none."""
        assert self.stream_at is not None
        if self.stream_at < self.kept_from:
            self.stream_stops("gone")
            return
        following = [entry for entry in self.log if entry[0] > self.stream_at]
        if not following:
            if bookmark:
                self.stream_at = self.version
                self.cursor.seen(str(self.version))
            return
        version, name, value = following[0]
        if value is None:
            self.mirror.pop(name, None)
        else:
            self.mirror[name] = value
        self.stream_at = version
        self.cursor.seen(str(version))

    @precondition(lambda self: self.stream_at is not None)
    @rule(how=st.sampled_from(["end", "reset", "gone"]))
    def stream_stops(self, how: str) -> None:
        self.stream_at = None
        match how:
            case "end":
                self.cursor.ended(self.now)
            case "reset":
                self.cursor.failed(KubeError("reset"), self.now)
            case "gone":
                self.cursor.failed(Gone("too old", status=410), self.now)

    @rule()
    def settle(self) -> None:
        """Whatever happened before, a server that answers well brings the mirror to the truth."""
        for _ in range(50):
            if self.stream_at is None:
                self.act()
            elif self.stream_at < self.version:
                self.deliver(bookmark=True)
            else:
                break
        assert self.mirror == self.objects


CursorModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCursorModel = CursorModel.TestCase
