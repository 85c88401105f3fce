"""The graph: the only runner of derived tables.

It makes topological passes over dirty keys, the more urgent priority first, and gives the loop back every few
milliseconds; after each such pause it starts again at the most urgent work. Where all else on a busy loop
(checks, writes) takes longer turns than that, the next slice is as long as it was away, up to a bound: what
callers wait for has its part of the processor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from isthmus.flow.derive import Derived, Priority
from isthmus.flow.table import Table

SLICE_SECONDS = 0.004
LONGEST_SLICE_SECONDS = 0.008


class Graph:
    """Runs derived tables; give it the ones you need, their inputs are found."""

    def __init__(
        self, tables: Iterable[Table[Any, Any]], *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.tables: tuple[Derived[Any, Any], ...] = ()
        self._clock = clock
        self._wake = asyncio.Event()
        self._marked = Priority.RESYNC
        """The most urgent work that was marked since the last look at all tables."""
        self.add(tables)

    def add(self, tables: Iterable[Table[Any, Any]]) -> None:
        """Runs these tables (and their inputs) too; also while the graph runs."""
        known = frozenset(self.tables)
        self.tables = _in_order((*self.tables, *tables))
        for table in self.tables:
            if table not in known:
                table.attach(self._mark)
        self._wake.set()

    def _mark(self, priority: Priority) -> None:
        if priority < self._marked:
            self._marked = priority
        self._wake.set()

    async def run(self) -> None:
        """Computes until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._drain()
        finally:
            for table in self.tables:
                table.stop()

    async def _drain(self) -> None:
        until = self._clock() + SLICE_SECONDS
        while (work := self._next()) is not None:
            table, priority = work
            self._marked = Priority.RESYNC
            # A step marks only what is downstream, so the next one is the same table's unless that is urgent.
            while table.dirty(priority) and self._marked >= priority:
                table.step(priority)
                if (left := self._clock()) >= until:
                    await asyncio.sleep(0)
                    back = self._clock()
                    until = back + min(max(SLICE_SECONDS, back - left), LONGEST_SLICE_SECONDS)
                    break

    def _next(self) -> tuple[Derived[Any, Any], Priority] | None:
        """The most urgent dirty table, upstream first; settles tables that became complete."""
        for priority in Priority:
            for table in self.tables:
                if table.dirty(priority) and table.ready:
                    return table, priority
        for table in self.tables:
            if not table.synced and table.ready:
                table.settle()
                return self._next()
        return None


def _in_order(tables: Iterable[Table[Any, Any]]) -> tuple[Derived[Any, Any], ...]:
    """All derived tables that are reachable, each after its inputs. Raises ValueError on a cycle."""
    done: dict[Derived[Any, Any], None] = {}
    open_: set[Derived[Any, Any]] = set()

    def visit(table: Table[Any, Any]) -> None:
        if not isinstance(table, Derived) or table in done:
            return
        if table in open_:
            raise ValueError(f"derived table {table.name} depends on itself")
        open_.add(table)
        for source in table.inputs:
            visit(source.table)
        open_.discard(table)
        done[table] = None

    for table in tables:
        visit(table)
    return tuple(done)
