"""A reflector: one collection of one API server, mirrored into a partition of a table.

Invariants: what the table holds is what the server said last; a failure keeps the rows and marks them stale;
one malformed object is left out and harms no other; the failure of one server is nobody else's. Where asked
to (`Linger`), rows that a list has lost without a word of their deletion stay for a while. The decisions are
`cursor.Cursor`'s; this is the I/O around it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from random import Random
from typing import Generic, TypeVar

import msgspec
import structlog

from isthmus.api.meta import Kind, ObjectKey, RawEvent, RawList
from isthmus.errors import ConfigError, Gone, KubeError, TooLarge
from isthmus.flow import Writer
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import MALFORMED, Client, error_of
from isthmus.kube.cursor import MUTE_SECONDS, Cursor, List, Wait, Watch
from isthmus.kube.raw import Head, head_of
from isthmus.model.words import word

T = TypeVar("T")

YIELD_EVERY = 200
RELIST_ROWS_A_SECOND = 500
LONGEST_SPREAD_SECONDS = 30.0
"""A restarted server is asked for what we hold in no less time, on average, than this takes: a hundred agents
begin spread over it, and who holds little waits for nobody. What is held meanwhile stays, marked stale."""

_EVENT = msgspec.json.Decoder(RawEvent)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Sizes and times (seconds) of a reflector.

    `silence` is how long a watch may bring nothing before the server counts as gone; None: 15 s longer than
    the watch was asked for. API servers send a bookmark about once a minute, so less than 75 s breaks quiet
    watches of real ones. The first watch after a failure lasts `watch_doubtful`, long enough for a bookmark;
    one that said nothing for `mute` is not resumed (see `cursor`).
    """

    page: int = 500
    watch_least: int = 300
    watch_most: int = 600
    watch_doubtful: int = 75
    mute: float = MUTE_SECONDS
    silence: float | None = None
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linger:
    """How long (seconds) rows stay that a list lacks, where it lacks their whole `group`.

    A server that was restored without them says so in no other way; those who wrote them will write them
    again. Only time in which they can counts: that of open watches, however many lists come between. A
    deletion that a watch tells is believed at once.
    """

    seconds: float
    group: Callable[[ObjectKey], Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What people ask about a reflector. `last_event` is on the monotonic clock."""

    live: bool = False
    """A watch is open."""
    error: str = ""
    """The last failure, "" while all is well."""
    malformed: int = 0
    """Objects left out so far because they could not be decoded."""
    lists: int = 0
    watches: int = 0
    """Lists that were taken whole and watches that were opened, so far."""
    failures: int = 0
    """Times that either ended in an error."""
    last_event: float | None = None
    """When a page of a list, an event or a bookmark last arrived."""


class Reflector(Generic[T]):
    """Keeps `writer`'s partition equal to a collection.

    `gate` bounds how many first lists run at once over all servers. `on_state` hears of transitions (live,
    failing), never of single events. `clock` is monotonic, `wall` stamps `writer.stale`; both in seconds.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind[T],
        writer: Writer[ObjectKey, T],
        *,
        namespace: str = "",
        label_selector: str = "",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: Random | None = None,
        gate: asyncio.Semaphore | None = None,
        on_state: Callable[[State], None] | None = None,
        timing: Timing = Timing(),
        linger: Linger | None = None,
    ) -> None:
        self.kind = kind
        self.state = State()
        self._client = client
        self._writer = writer
        self._namespace = namespace
        self._selector = label_selector
        self._clock = clock
        self._wall = wall
        self._rng = rng or Random()
        self._gate = gate
        self._on_state = on_state
        self._timing = timing
        self._page = timing.page
        self._linger = linger
        self._lost: dict[ObjectKey, float] = {}
        """Rows that linger, each with what `_lived` was when they were lost."""
        self._lived_before = 0.0
        self._live_since = 0.0
        self._parting: asyncio.TimerHandle | None = None
        self._cursor: Cursor[ObjectKey, T] = Cursor(timing.backoff, self._rng.random, mute=timing.mute)
        self._log = log.bind(server=client.access.name, kind=kind.kind, namespace=namespace)

    @property
    def synced(self) -> bool:
        """Whether a full list was taken since the start."""
        return self.state.lists > 0

    def last_event(self) -> float | None:
        """When (monotonic clock) a list, event or bookmark last arrived; None: never."""
        return self.state.last_event

    def staleness(self) -> float:
        """Seconds since the server last said anything about the collection; infinite before a first list."""
        last = self.state.last_event
        return float("inf") if last is None else self._clock() - last

    async def run(self) -> None:
        """Mirrors until cancelled; no failure ends it."""
        try:
            await self._mirror()
        finally:
            if self._parting is not None:
                self._parting.cancel()

    async def _mirror(self) -> None:
        while True:
            try:
                match self._cursor.step():
                    case Wait(seconds):
                        await asyncio.sleep(seconds)
                    case List():
                        async with self._gate or nullcontext():
                            await self._list()
                    case Watch(version):
                        await self._watch(version)
                        self._cursor.ended(self._clock())
            except KubeError as error:
                if isinstance(error, TooLarge):  # full objects, many on a page: ask for fewer from now on
                    self._page = max(1, self._page // 8)
                self._failed(error)
            except ConfigError as error:  # credentials that cannot be read (any more)
                self._failed(KubeError(str(error)))
            except Exception as error:  # a defect of whoever listens to the rows, for one
                log.exception("reflector failed", server=self._client.access.name, kind=self.kind.kind)
                # What was written is not what was meant: start from a list.
                self._failed(Gone(f"{type(error).__name__}: {error}"))

    async def _list(self) -> None:
        """Reads all pages; what was read of a list that fails is forgotten."""
        while isinstance(step := self._cursor.step(), List):
            page = await self._client.list_page(
                self.kind,
                namespace=self._namespace,
                label_selector=self._selector,
                limit=self._page,
                continue_=step.continue_,
            )
            self._heard()
            rows = await self._rows(page)
            complete = self._cursor.page(rows, page.metadata.resource_version, page.metadata.continue_)
            if complete is not None:
                await self._replace(complete)
                self.state = replace(self.state, lists=self.state.lists + 1)
                return
            await asyncio.sleep(0)

    async def _replace(self, complete: dict[ObjectKey, T]) -> None:
        if not self._writer.synced:  # a table that is not whole yet may be filled a little at a time
            for taken, (key, row) in enumerate(complete.items(), 1):
                self._writer.put(key, row)
                if taken % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        before, self._lost = self._lost, {}
        if self._linger is not None and (missing := self._writer.keys() - complete.keys()):
            group, now = self._linger.group, self._lived
            there = {group(key) for key in complete}
            self._lost = {key: before.get(key, now) for key in missing if group(key) not in there}
            self._part_later()
        self._writer.replace(complete, keep=self._lost)
        self._log.info(
            "listed", objects=len(complete), malformed=self.state.malformed, lingering=len(self._lost)
        )

    def _part_later(self) -> None:
        if self._parting is not None:
            self._parting.cancel()
        if self.state.live and self._lost and self._linger is not None:
            due = min(self._lost.values()) + self._linger.seconds - self._lived
            self._parting = asyncio.get_running_loop().call_later(max(due, 0.0), self._part, self._linger)

    def _part(self, linger: Linger) -> None:
        """Drops the rows that nobody wrote again in time; while the server is away no time passes."""
        now = self._lived
        if over := [key for key, since in self._lost.items() if now - since >= linger.seconds]:
            self._log.warning("lost objects dropped", objects=len(over))
        for key in over:
            del self._lost[key]
            self._writer.drop(key)
        self._part_later()

    @property
    def _lived(self) -> float:
        """For how many seconds a watch was open, in all."""
        return self._lived_before + (self._clock() - self._live_since if self.state.live else 0.0)

    async def _rows(self, page: RawList) -> dict[ObjectKey, T]:
        rows: dict[ObjectKey, T] = {}
        for index, item in enumerate(page.items):
            if index % YIELD_EVERY == YIELD_EVERY - 1:
                await asyncio.sleep(0)
            head = self._head(item)
            if head is not None and (value := self._decode(item, head)) is not None:
                rows[_key(head)] = value
        return rows

    async def _watch(self, version: str) -> None:
        seconds = self._rng.randint(self._timing.watch_least, self._timing.watch_most)
        if self._cursor.doubtful:
            seconds = min(seconds, self._timing.watch_doubtful)
        async with self._client.watch(
            self.kind,
            namespace=self._namespace,
            label_selector=self._selector,
            resource_version=version,
            seconds=seconds,
            silence=self._timing.silence or seconds + 15.0,
        ) as lines:
            self._cursor.opened(self._clock())
            self._opened()
            taken = 0
            async for line in lines:
                self._take(line)
                taken += 1
                if taken % YIELD_EVERY == 0:
                    await asyncio.sleep(0)

    def _take(self, line: bytes) -> None:
        """Acts on one line of the watch."""
        try:
            event = _EVENT.decode(line)
        except MALFORMED as error:
            raise KubeError(f"{self._client.access.name}: a watch line that is no event: {error}") from error
        if event.type == "ERROR":
            raise error_of(f"watch of {self.kind.plural} at {self._client.access.name}", 0, event.object)
        head = self._head(event.object)
        if head is None:
            return
        key = _key(head)
        self._lost.pop(key, None)
        match event.type:
            case "ADDED" | "MODIFIED":
                value = self._decode(event.object, head)
                if value is None:
                    # As after a restart, whose list leaves it out too.
                    self._writer.drop(key)
                else:
                    self._writer.put(key, value)
            case "DELETED":
                self._writer.drop(key)
            case _:
                pass  # BOOKMARK, and types of the future
        self._cursor.seen(head.metadata.resource_version)
        self._heard()

    def _head(self, item: msgspec.Raw) -> Head | None:
        try:
            return head_of(item)
        except MALFORMED as error:
            self._malformed("", error)
            return None

    def _decode(self, item: msgspec.Raw, head: Head) -> T | None:
        try:
            # A copy: types with raw fields would otherwise keep the whole page alive.
            return self.kind.decode(bytes(item))
        except MALFORMED as error:
            self._malformed(str(head.metadata.key), error)
            return None

    def _malformed(self, key: str, error: Exception) -> None:
        self.state = replace(self.state, malformed=self.state.malformed + 1)
        self._log.warning("malformed object left out", key=key, error=str(error))

    def _heard(self) -> None:
        self.state = replace(self.state, last_event=self._clock())

    def _opened(self) -> None:
        before, self.state = (
            self.state,
            replace(self.state, live=True, error="", watches=self.state.watches + 1),
        )
        self._writer.stale(None)
        if not before.live:
            self._live_since = self._clock()
            self._part_later()
        if before.error:
            self._log.info("reflector recovered")
        if not before.live and self._on_state is not None:
            self._on_state(self.state)

    def _failed(self, error: KubeError) -> None:
        first = not self.state.error
        spread = min(len(self._writer.keys()) / RELIST_ROWS_A_SECOND, LONGEST_SPREAD_SECONDS)
        self._cursor.failed(error, self._clock(), spread=spread)
        self._lived_before = self._lived
        self.state = replace(self.state, live=False, error=str(error), failures=self.state.failures + 1)
        if first:
            self._log.warning("reflector failing", error=str(error))
            if self._writer.stale_since is None:  # rows of a last-good store are older than this failure
                self._writer.stale(self._wall())
            if self._on_state is not None:
                self._on_state(self.state)


def _key(head: Head) -> ObjectKey:
    """The key of an object; thousands share a namespace, and objects of several kinds a name."""
    return ObjectKey(word(head.metadata.namespace), word(head.metadata.name))
