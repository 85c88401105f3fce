"""Keeps count of what each cluster offers, and applies the quota (`mcs.quota`) to it.

The count follows each change at the cost of an addition. Only a cluster that offers too much costs more: its
services are put in order again, at most once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from isthmus.api.meta import ObjectKey
from isthmus.flow import Again, Derived, Priority, Table, derive, on
from isthmus.mcs.border import ImportedEndpoints
from isthmus.mcs.quota import NOTHING, Age, Load, Quota, Surplus, age, export_load, surplus
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Export

ORDER_SECONDS = 1.0

K = TypeVar("K", ServiceKey, ObjectKey)


class Quotas:
    """What clusters offer, this one too, and which of it is too much; `clock` is monotonic, in seconds.

    `exports` and `endpoints` are tables of what was said, before any quota.
    """

    def __init__(
        self,
        quota: Quota,
        exports: tuple[Table[ServiceKey, Export | Refused], Table[ObjectKey, Export | Refused]],
        endpoints: tuple[Table[ServiceKey, ImportedEndpoints], Table[ObjectKey, ImportedEndpoints | Refused]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quota = quota
        self.loads: dict[ClusterId, Load] = {}
        """What each cluster offers in all."""
        self._exports = exports
        self._endpoints = endpoints
        self._clock = clock
        self._ordered: dict[ClusterId, float] = {}
        for exported in exports:
            exported.observe(self._count)
        for told in endpoints:
            told.observe(self._count)
        own, heard = exports
        own_endpoints, heard_endpoints = endpoints
        self.surplus: Derived[ClusterId, Surplus] = derive(
            "quotas",
            on(own, self._concerned),
            on(heard, self._concerned),
            on(own_endpoints, self._concerned, priority=Priority.HEALTH),
            on(heard_endpoints, self._concerned, priority=Priority.HEALTH),
            compute=self._compute,
        )

    def within(self, said: Table[K, Export | Refused], name: str) -> Derived[K, Export | Refused]:
        """The exports of a table, those that are too many as refused."""

        def compute(key: K) -> Export | Refused | None:
            row = said.get(key)
            if not isinstance(row, Export) or (over := self.surplus.get(row.cluster)) is None:
                return row
            return over.refuses(row) or row

        def on_surplus(cluster: ClusterId, _old: object, _new: object) -> Iterable[K]:
            return [key for key, row in said.items() if isinstance(row, Export) and row.cluster == cluster]

        return derive(
            name, on(said, lambda key, _o, _n: (key,)), on(self.surplus, on_surplus), compute=compute
        )

    def _count(self, _key: object, old: object, new: object) -> None:
        for cluster, load in _load(old):
            # A row may weigh nothing: its cluster's entry can be gone before it is.
            rest = self.loads.get(cluster, NOTHING).minus(load)
            if rest == NOTHING:
                self.loads.pop(cluster, None)
            else:
                self.loads[cluster] = rest
        for cluster, load in _load(new):
            self.loads[cluster] = self.loads.get(cluster, NOTHING).plus(load)

    def _concerned(self, _key: object, old: object, new: object) -> Iterable[ClusterId]:
        """Clusters that are, or were, beyond the quota."""
        for cluster in {cluster for cluster, _ in (*_load(old), *_load(new))}:
            if cluster in self.surplus or self.quota.exceeded(self.loads.get(cluster, NOTHING)):
                yield cluster

    def _compute(self, cluster: ClusterId) -> Again[Surplus] | Surplus | None:
        if not self.quota.exceeded(self.loads.get(cluster, NOTHING)):
            self._ordered.pop(cluster, None)
            return None
        last, now = self._ordered.get(cluster), self._clock()
        if last is not None and now - last < ORDER_SECONDS:
            return Again(self.surplus.get(cluster), ORDER_SECONDS - (now - last))
        self._ordered[cluster] = now
        return surplus(self._offers(cluster), self.quota)

    def _offers(self, cluster: ClusterId) -> dict[Age, Load]:
        """Each service of a cluster with what it weighs."""
        loads: dict[ServiceKey, Load] = {}
        for told in self._endpoints:
            for row in told.values():
                if isinstance(row, ImportedEndpoints) and row.cluster == cluster:
                    loads[row.key] = loads.get(row.key, NOTHING).plus(row.load)
        return {
            age(row): export_load(row).plus(loads.get(row.key, NOTHING))
            for exported in self._exports
            for row in exported.values()
            if isinstance(row, Export) and row.cluster == cluster
        }


def _load(row: object) -> tuple[tuple[ClusterId, Load], ...]:
    match row:
        case Export():
            return ((row.cluster, export_load(row)),)
        case ImportedEndpoints():
            return ((row.cluster, row.load),)
        case _:
            return ()
