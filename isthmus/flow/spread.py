"""Spreading: rows that hold several things become rows of their own in another table.

A derivation makes one row per key; where one key yields any number of things (the objects of a service, the
checks of its endpoints), it computes a mapping, and `spread` keeps a partition of another table equal to the
union of those mappings, within the same mutation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import structlog

from isthmus.flow.table import K, Table, V

K2 = TypeVar("K2", bound=Hashable)
V2 = TypeVar("V2")

log = structlog.get_logger()


def spread(
    source: Table[K, V], target: Table[K2, V2], rows: Callable[[K, V], Mapping[K2, V2]], *, owner: str = ""
) -> None:
    """Keeps a partition of `target` (named as `owner`, else after `source`) equal to all rows of `source`.

    `rows(key, value)` must give disjoint keys for different source rows. A key that another partition of
    `target` holds stays there; it is logged and left out here.
    """
    writer = target.partition(owner or source.name)

    def observe(key: K, old: V | None, new: V | None) -> None:
        before = rows(key, old) if old is not None else {}
        after = rows(key, new) if new is not None else {}
        for gone in before.keys() - after.keys():
            writer.drop(gone)
        for name, value in after.items():
            if free(name):
                writer.put(name, value)

    def free(name: K2) -> bool:
        holder = target.owner(name)
        if holder is None or holder == writer.owner:
            return True
        log.error(
            "key held by another", table=target.name, key=str(name)[:200], by=holder, not_by=writer.owner
        )
        return False

    def synced() -> None:
        if source.synced:
            writer.complete()  # each row is there already

    source.follow(observe)
    source.on_sync(synced)
    synced()
