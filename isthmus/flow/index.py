"""An index over a table: which of its keys belong to something else.

Maintained within each mutation, so that a `compute` that looks something up by another name never scans.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from isthmus.flow.room import fitting
from isthmus.flow.table import K, Table, V

G = TypeVar("G", bound=Hashable)


class Index(Generic[G, K, V]):
    """Keys of `table` grouped by what `by(key, value)` names (any number of groups for a row)."""

    def __init__(self, table: Table[K, V], by: Callable[[K, V], Iterable[G]]) -> None:
        self._by = by
        self._groups: dict[G, dict[K, None] | tuple[K]] = {}
        """A key that is alone in its group stands there without a dict: most are, and there are many."""
        table.follow(self._observe)

    def _observe(self, key: K, old: V | None, new: V | None) -> None:
        before = set(self._by(key, old)) if old is not None else set()
        after = set(self._by(key, new)) if new is not None else set()
        for group in before - after:
            members = self._groups[group]
            if isinstance(members, dict):
                members.pop(key, None)
            if isinstance(members, tuple) or not members:
                del self._groups[group]
                self._groups = fitting(self._groups)
            else:
                self._groups[group] = fitting(members)
        for group in after - before:
            members = self._groups.setdefault(group, (key,))
            if isinstance(members, dict):
                members[key] = None
            elif members[0] != key:
                self._groups[group] = {members[0]: None, key: None}

    def of(self, group: G) -> Iterable[K]:
        """The keys of that group, in order of arrival."""
        return self._groups.get(group, ())

    def groups(self) -> Iterable[G]:
        return self._groups.keys()
