"""Keeps count of what each cluster offers, and applies the quota (`mcs.quota`) to it.

The count follows each change at the cost of an addition. Only a cluster that offers too much costs more: its
services are put in order again, at most once a second.
"""

from __future__ import annotations

import time
from collections import Counter
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
_Service = tuple[ClusterId, ServiceKey]
L = TypeVar("L", ClusterId, _Service)


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
        """What each cluster offers in all; endpoints without an export are no offer."""
        self._exported: Counter[_Service] = Counter()
        """How many exports name a service."""
        self._told: dict[_Service, Load] = {}
        """What the endpoints of a service weigh, exported or not."""
        self._exports = exports
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

        return derive(name, on(said), on(self.surplus, on_surplus), compute=compute)

    def _count(self, _key: object, old: object, new: object) -> None:
        match old:
            case Export():
                service = old.cluster, old.key
                self._exported[service] -= 1
                _less(self.loads, old.cluster, export_load(old))
                if not self._exported[service]:
                    del self._exported[service]
                    _less(self.loads, old.cluster, self._told.get(service, NOTHING))
            case ImportedEndpoints():
                service = old.cluster, old.key
                _less(self._told, service, old.load)
                if service in self._exported:
                    _less(self.loads, old.cluster, old.load)
        match new:
            case Export():
                service = new.cluster, new.key
                self._exported[service] += 1
                _more(self.loads, new.cluster, export_load(new))
                if self._exported[service] == 1:
                    _more(self.loads, new.cluster, self._told.get(service, NOTHING))
            case ImportedEndpoints():
                service = new.cluster, new.key
                _more(self._told, service, new.load)
                if service in self._exported:
                    _more(self.loads, new.cluster, new.load)

    def _concerned(self, _key: object, old: object, new: object) -> Iterable[ClusterId]:
        """Clusters that are, or were, beyond the quota."""
        for cluster in {row.cluster for row in (old, new) if isinstance(row, Export | ImportedEndpoints)}:
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
        return {
            age(row): export_load(row).plus(self._told.get((cluster, row.key), NOTHING))
            for exported in self._exports
            for row in exported.values()
            if isinstance(row, Export) and row.cluster == cluster
        }


def _more(loads: dict[L, Load], key: L, load: Load) -> None:
    loads[key] = loads.get(key, NOTHING).plus(load)


def _less(loads: dict[L, Load], key: L, load: Load) -> None:
    # A row may weigh nothing: its entry can be gone before it is.
    rest = loads.get(key, NOTHING).minus(load)
    if rest == NOTHING:
        loads.pop(key, None)
    else:
        loads[key] = rest
