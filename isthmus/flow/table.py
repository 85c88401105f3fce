"""A table: keyed rows with exactly one writer per partition, and the one way to hear of change.

Invariants: all of it runs on one event loop and every mutation is synchronous, so a reader never sees half of
one; writing an equal value is silent; a source that fails keeps its rows and is marked stale; what a listener
has not yet taken is at most the set of keys, and the newest value wins; a listener that raises harms neither
the writer nor the other listeners.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Container,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from typing import Generic, TypeVar

import structlog

from isthmus.flow.room import fitting

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Observer = Callable[[K, V | None, V | None], None]
"""Called synchronously with key, old and new value; None stands for no row."""

log = structlog.get_logger()


class Table(Generic[K, V]):
    """Rows by key. `name` is for people: errors, metrics, logs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._rows: dict[K, V] = {}
        self._owner_of: dict[K, str] | None = None
        """Whose each row is, once there has been a second writer; most tables never have one."""
        self._writers: dict[str, Writer[K, V]] = {}
        self._observers: list[Observer[K, V]] = []
        self._subscriptions: set[_Subscription[K]] = set()
        self._sync_observers: list[Callable[[], None]] = []
        self._unsynced = 0
        """Partitions that have not had their first full `replace`."""
        self._closed = False

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {len(self._rows)} rows)"

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def get(self, key: K) -> V | None:
        """The row of that key, None where there is none."""
        return self._rows.get(key)

    def items(self) -> ItemsView[K, V]:
        return self._rows.items()

    def keys(self) -> KeysView[K]:
        return self._rows.keys()

    def values(self) -> ValuesView[V]:
        return self._rows.values()

    def owner(self, key: K) -> str | None:
        """Which partition's writer holds that row."""
        if self._owner_of is not None:
            return self._owner_of.get(key)
        return next(iter(self._writers), None) if key in self._rows else None

    @property
    def synced(self) -> bool:
        """Whether there is a partition and each has had one full `replace`."""
        return not self._unsynced and bool(self._writers)

    @property
    def current(self) -> bool:
        """Whether it holds everything and no source of it fails now."""
        return self.synced and not self.stale

    @property
    def pending(self) -> int:
        """How many changed keys the slowest of those who follow `changes` has not taken yet."""
        return max((len(subscription.pending) for subscription in self._subscriptions), default=0)

    @property
    def stale(self) -> dict[str, float]:
        """Owners whose source fails now, with the time (as its writer gave it) since when."""
        return {owner: w.stale_since for owner, w in self._writers.items() if w.stale_since is not None}

    def partition(self, owner: str, owns: Callable[[K], bool] | None = None) -> Writer[K, V]:
        """The one writer for a source.

        `owns` limits the keys it may write. Raises ValueError when that owner already has a live writer.
        """
        if owner in self._writers:
            raise ValueError(f"table {self.name}: partition {owner!r} already has a writer")
        if self._writers and self._owner_of is None:
            (first,) = self._writers.values()
            self._owner_of = dict.fromkeys(self._rows, first.owner)
            first.hold(self._rows)
        writer = Writer(self, owner, owns, None if self._owner_of is None else set())
        self._writers[owner] = writer
        self._unsynced += 1
        return writer

    async def changes(self) -> AsyncIterator[frozenset[K]]:
        """First all keys, then changed keys coalesced since the last batch; ends when the table is closed.

        The first batch comes once the table is synced (an empty one too, so that a consumer knows it holds
        everything). Values are read with `get`; None means the row is gone.
        """
        subscription: _Subscription[K] = _Subscription()
        self._subscriptions.add(subscription)
        try:
            while not self.synced and not self._closed:
                await subscription.wait()
            subscription.take()
            yield frozenset(self._rows)
            while not (self._closed and not subscription.pending):
                await subscription.wait()
                if keys := subscription.take():
                    yield keys
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Ends every `changes()` after what it still has to tell."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.wake.set()

    def observe(self, observer: Observer[K, V]) -> None:
        """Calls `observer` within each mutation; it is quick and changes no table."""
        self._observers.append(observer)

    def follow(self, observer: Observer[K, V]) -> None:
        """As `observe`, after a call for each row that is there already."""
        for key, value in self._rows.items():
            observer(key, None, value)
        self.observe(observer)

    def on_sync(self, callback: Callable[[], None]) -> None:
        """Calls back when a partition becomes synced or retires; only `flow` itself uses this."""
        self._sync_observers.append(callback)

    def _changed(self, key: K, old: V | None, new: V | None) -> None:
        for observer in self._observers:
            try:
                observer(key, old, new)
            except Exception:  # one row's failure must not end a writer, and with it all that runs beside it
                log.exception("observer failed", table=self.name, key=str(key)[:200])
        for subscription in self._subscriptions:
            subscription.pending.add(key)
            subscription.wake.set()

    def _partition_changed(self) -> None:
        for callback in self._sync_observers:
            callback()
        for subscription in self._subscriptions:
            subscription.wake.set()

    def _put(self, owner: str, key: K, value: V) -> None:
        old = self._rows.get(key)
        if self._owner_of is not None:
            held_by = self._owner_of.setdefault(key, owner)
            if held_by != owner:
                raise ValueError(f"table {self.name}: {owner!r} wrote {key!r}, which belongs to {held_by!r}")
        if old is not None and (old is value or old == value):
            return
        self._rows[key] = value
        self._changed(key, old, value)

    def _drop(self, owner: str, key: K) -> None:
        if self.owner(key) != owner:
            return
        old = self._rows.pop(key)
        self._rows = fitting(self._rows)
        if self._owner_of is not None:
            del self._owner_of[key]
            self._owner_of = fitting(self._owner_of)
        self._changed(key, old, None)

    def _retire(self, writer: Writer[K, V]) -> None:
        self._writers.pop(writer.owner, None)
        self._unsynced -= not writer.synced
        self._partition_changed()


class Writer(Generic[K, V]):
    """The only one who writes the rows of its partition."""

    def __init__(
        self, table: Table[K, V], owner: str, owns: Callable[[K], bool] | None, keys: set[K] | None
    ) -> None:
        self._table = table
        self._owns = owns
        self._keys = keys
        """None: all that the table has, because nobody else writes it."""
        self._retired = False
        self.owner = owner
        self.synced = False
        self.stale_since: float | None = None

    def __len__(self) -> int:
        return len(self._held)

    def keys(self) -> frozenset[K]:
        """The keys this partition holds now."""
        return frozenset(self._held)

    @property
    def _held(self) -> Collection[K]:
        return self._table.keys() if self._keys is None else self._keys

    def hold(self, keys: Iterable[K]) -> None:
        """Only the table itself calls this: these are its keys, from now on others may come beside."""
        self._keys = set(keys)

    def _check(self, key: K) -> None:
        if self._retired:
            raise ValueError(f"table {self._table.name}: partition {self.owner!r} is retired")
        if self._owns is not None and not self._owns(key):
            raise ValueError(f"table {self._table.name}: {key!r} is not in partition {self.owner!r}")

    def put(self, key: K, value: V) -> None:
        """Sets a row; an equal value changes nothing and tells nobody."""
        self._check(key)
        self._table._put(self.owner, key, value)
        if self._keys is not None:
            self._keys.add(key)

    def drop(self, key: K) -> None:
        """Removes a row; a key that is not there is fine."""
        self._check(key)
        if key in self._held:
            if self._keys is not None:
                self._keys.discard(key)
                self._keys = fitting(self._keys)
            self._table._drop(self.owner, key)

    def replace(
        self, rows: Mapping[K, V] | Iterable[tuple[K, V]], *, keep: Container[K] = frozenset()
    ) -> None:
        """Makes the partition exactly `rows`: only real differences are changes. The first call syncs it.

        Rows of the keys in `keep` stay although they are not in `rows`.
        """
        wanted = dict(rows)
        for key in wanted:
            self._check(key)
        for key in [key for key in self._held if key not in wanted and key not in keep]:
            self.drop(key)
        for key, value in wanted.items():
            self.put(key, value)
        self.complete()

    def complete(self) -> None:
        """Syncs the partition: it holds all that its source has. Only the first call does anything."""
        if not self.synced:
            self.synced = True
            self._table._unsynced -= 1
            self._table._partition_changed()

    def stale(self, since: float | None) -> None:
        """Marks the source as failing since that time, None as healthy; the rows stay."""
        self.stale_since = since

    def retire(self) -> None:
        """Ends the partition and removes its rows; the owner's name is free again."""
        if self._retired:
            return
        for key in list(self._held):
            self.drop(key)
        self.hold(())
        self._retired = True
        self._table._retire(self)


class _Subscription(Generic[K]):
    """What one consumer of `changes()` has not taken yet."""

    __slots__ = ("pending", "wake")

    def __init__(self) -> None:
        self.pending: set[K] = set()
        self.wake = asyncio.Event()

    async def wait(self) -> None:
        await self.wake.wait()
        self.wake.clear()

    def take(self) -> frozenset[K]:
        keys = frozenset(self.pending)
        self.pending.clear()
        return keys
