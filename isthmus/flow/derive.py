"""Derived tables: rows that are a pure function of other tables.

Laws: nothing is computed before all inputs are synced; only keys that a change affects are computed again; a
`compute` that raises keeps the last value, is counted and shown, is tried again once in a while, and harms no
other key; a decision that depends on time says when it wants to be asked again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar, overload

import structlog

from isthmus.flow.table import K, Table, V

X = TypeVar("X", bound=Hashable)
Y = TypeVar("Y")

RETRY_SECONDS = 30.0
"""After how long a key whose `compute` raised is computed again, if nothing changes before."""

log = structlog.get_logger()


class Priority(IntEnum):
    """Which changes go first: health before what people write before everything read again."""

    HEALTH = 0
    POLICY = 1
    RESYNC = 2


@dataclass(frozen=True, slots=True)
class Again(Generic[V]):
    """A computed row that wants to be computed again after so many seconds."""

    value: V | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Input(Generic[X, Y, K]):
    """An input table and which derived keys a change of one of its rows affects."""

    table: Table[X, Y]
    affects: Callable[[X, Y | None, Y | None], Iterable[K]]
    priority: Priority


@overload
def on(table: Table[X, Y], *, priority: Priority = Priority.RESYNC) -> Input[X, Y, X]: ...
@overload
def on(
    table: Table[X, Y],
    affects: Callable[[X, Y | None, Y | None], Iterable[K]],
    *,
    priority: Priority = Priority.RESYNC,
) -> Input[X, Y, K]: ...
def on(
    table: Table[Any, Any],
    affects: Callable[[Any, Any, Any], Iterable[Any]] | None = None,
    *,
    priority: Priority = Priority.RESYNC,
) -> Input[Any, Any, Any]:
    """Declares an input. `affects(key, old, new)` names the derived keys to compute again and is cheap.

    Without it a changed row affects the derived row of its own key.
    """
    return Input(table, affects or _itself, priority)


def _itself(key: K, _old: object, _new: object) -> Iterable[K]:
    return (key,)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last error of a key whose `compute` raised."""

    error: str
    count: int


class Derived(Table[K, V]):
    """A table whose rows `compute` makes; written by the graph alone."""

    def __init__(
        self, name: str, inputs: tuple[Input[Any, Any, K], ...], compute: Callable[[K], V | Again[V] | None]
    ) -> None:
        super().__init__(name)
        self.inputs = inputs
        self.failures: dict[K, Failure] = {}
        self.computed = 0
        """How many rows were computed so far (each call of `compute`)."""
        self._compute = compute
        self._writer = self.partition("derived")
        self._dirty: tuple[OrderedDict[K, None], ...] = tuple(OrderedDict() for _ in Priority)
        """By priority. Not dicts, whose first key is slow to find once many before it have gone."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._wake: Callable[[Priority], None] = lambda _priority: None
        self._passing: Priority | None = None
        for source in inputs:
            source.table.observe(self._observer(source))

    def _observer(self, source: Input[Any, Any, K]) -> Callable[[Any, Any, Any], None]:
        affects, table, default = source.affects, source.table, source.priority

        def observe(key: Any, old: Any, new: Any) -> None:
            priority = default
            if isinstance(table, Derived) and table._passing is not None:
                priority = min(priority, table._passing)
            dirty = self._dirty[priority]
            for affected in affects(key, old, new):
                dirty[affected] = None
            if dirty:
                self._wake(priority)

        return observe

    @property
    def ready(self) -> bool:
        """Whether every input holds all it should, so that computing makes sense."""
        for source in self.inputs:  # noqa: SIM110 - asked often, and a generator takes twice as long
            if not source.table.synced:
                return False
        return True

    def attach(self, wake: Callable[[Priority], None]) -> None:
        """Tells the runner how to be woken, and by what; called by the graph once."""
        self._wake = wake
        for source in self.inputs:
            source.table.on_sync(lambda: wake(Priority.RESYNC))
            for key, value in source.table.items():
                self._observer(source)(key, None, value)

    def waiting(self, priority: Priority) -> int:
        """How many keys wait to be computed."""
        return len(self._dirty[priority])

    def dirty(self, priority: Priority) -> bool:
        return bool(self._dirty[priority])

    def invalidate(self, keys: Iterable[K], priority: Priority = Priority.POLICY) -> None:
        """Marks keys to be computed again although no input row changed."""
        for key in keys:
            self._dirty[priority][key] = None
        self._wake(priority)

    def step(self, priority: Priority) -> None:
        """Computes one dirty key of that priority."""
        key = next(iter(self._dirty[priority]))
        for dirty in self._dirty:
            dirty.pop(key, None)
            if not dirty:
                dirty.clear()  # emptied one by one it keeps the room of all that it ever held
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self.computed += 1
        try:
            result = self._compute(key)
        except Exception as error:  # one key's failure must not harm the others
            count = self.failures[key].count + 1 if key in self.failures else 1
            self.failures[key] = Failure(f"{type(error).__name__}: {error}", count)
            if count == 1:
                log.exception("derivation failed", table=self.name, key=str(key))
            self._later(key, RETRY_SECONDS)
            return
        self.failures.pop(key, None)
        if isinstance(result, Again):
            self._later(key, result.seconds)
            result = result.value
        self._passing = priority
        try:
            if result is None:
                self._writer.drop(key)
            else:
                self._writer.put(key, result)
        finally:
            self._passing = None

    def _later(self, key: K, seconds: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.invalidate, (key,))

    def settle(self) -> None:
        """Called by the graph when nothing is dirty and the inputs are synced: the table holds everything."""
        self._writer.complete()

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


def derive(
    name: str, *inputs: Input[Any, Any, K], compute: Callable[[K], V | Again[V] | None]
) -> Derived[K, V]:
    """A table computed from others; `compute(key)` reads inputs with `get`; None means no row."""
    if not inputs:
        raise ValueError(f"derived table {name} has no inputs")
    return Derived(name, inputs, compute)
