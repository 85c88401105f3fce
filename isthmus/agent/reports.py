"""What this cluster's probes say, told on the hub for people: one HealthReport for each checked service.

Nobody decides by them, so they are allowed to be late and never to be many: every PAUSE seconds at most PACE
reports are renewed, only those whose counts have changed, MOST in all. Half of the pace is for services with
something Down first, half for those that wait longest: trouble is told soon and nobody waits for ever. An
applier of their own writes them, so that nothing about reports can hold up an export.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from isthmus.api import kinds
from isthmus.api.hub import HealthReport, HealthReportSpec
from isthmus.flow import Table
from isthmus.kube.applier import ObjectRef
from isthmus.mcs import hubobjects
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.timestamp import parse_time

PAUSE_SECONDS = 10.0
PACE = 20
MOST = 1_000

Counts = dict[str, Counter[bool | None]]
"""Checks by verdict, by source cluster."""


class Reports:
    """The table `desired` of reports, as of late.

    `complete`: every service that is to have a report has one, so that any other report is too many.

    While `silent` (the cluster leaves the clusterset) there are none. `stored`: the reports that lie on the
    hub, None while that is not known: what an earlier process told and what still holds is not told again.
    """

    def __init__(
        self,
        cluster: ClusterId,
        health: Table[CheckKey, Verdict],
        *,
        silent: Callable[[], bool] = lambda: False,
        stored: Callable[[], Iterable[HealthReport] | None] = lambda: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.desired: Table[ObjectRef, dict[str, Any]] = Table("reports/desired")
        self._writer = self.desired.partition("reports")
        self._writer.replace({})
        self._cluster = cluster
        self._silent = silent
        self._clock = clock
        self._counts: dict[ServiceKey, Counts] = {}
        self._changed: dict[ServiceKey, None] = {}
        """Services whose report is to be renewed, by how long they wait."""
        self._untold: set[ServiceKey] = set()
        """Those of them that have no report yet."""
        self._told: set[ServiceKey] = set()
        """Services that have a report."""
        self._troubled: set[ServiceKey] = set()
        """Services with something Down."""
        self._stored = stored
        self._earlier: dict[ServiceKey, HealthReportSpec] = {}
        """What an earlier process told, of services that this one has told nothing of."""
        self._begun = False
        health.follow(self._observe)

    @property
    def complete(self) -> bool:
        return self._silent() or (self._begun and (not self._untold or self._full))

    @property
    def _full(self) -> bool:
        return len(self.desired) >= MOST

    async def run(self) -> None:
        """Renews reports until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            self.renew()

    def renew(self) -> None:
        """Renews the reports that are due now."""
        if not self._begun:
            stored = self._stored()
            if stored is None:
                return
            self._begun = True
            self._earlier = {_service(one): one.spec for one in stored}
            self._changed = {key: None for key in self._earlier if key in self._untold} | self._changed
        if self._silent():
            self.withdraw()
            return
        self._take_over()
        now = self._clock()
        troubled = [key for key in self._changed if key in self._troubled]
        self._tell([*troubled, *(key for key in self._changed if key not in self._troubled)], PACE // 2, now)
        self._tell(list(self._changed), PACE - PACE // 2, now)

    def _take_over(self) -> None:
        """What an earlier process told counts as told as soon as it holds."""
        for key, spec in list(self._earlier.items()):
            if key not in self._untold or self._full:
                continue
            report = self._report(key, parse_time(spec.observed_at) or 0.0)
            told = [(one.cluster, one.up, one.down, one.unknown) for one in spec.sources]
            if told == [tuple(one.values()) for one in report["spec"]["sources"]]:
                self._put(key, report)

    def _tell(self, due: list[ServiceKey], most: int, now: float) -> None:
        """Renews the first `most` of the reports; who finds no room waits for it."""
        for key in due:
            if not most:
                return
            if key in self._untold and self._full:
                continue
            self._put(key, self._report(key, now))
            most -= 1

    def _put(self, key: ServiceKey, report: dict[str, Any]) -> None:
        self._earlier.pop(key, None)
        del self._changed[key]
        self._untold.discard(key)
        self._told.add(key)
        self._writer.put(self._ref(key), report)

    def _report(self, key: ServiceKey, now: float) -> dict[str, Any]:
        counts = {name: (c[True], c[False], c[None]) for name, c in sorted(self._counts[key].items())}
        return hubobjects.health_report(self._cluster, key, counts, now)

    def withdraw(self) -> bool:
        """Takes all reports back; whether there were none any more. They return when we may speak again."""
        none = not len(self.desired)
        self._writer.replace({})
        self._told.clear()
        self._changed = dict.fromkeys(self._counts)
        self._untold = set(self._counts)
        return none

    def _ref(self, key: ServiceKey) -> ObjectRef:
        namespace = hubobjects.hub_namespace(self._cluster)
        return ObjectRef(kinds.HEALTH_REPORT, namespace, hubobjects.object_name(key))

    def _observe(self, key: CheckKey, old: Verdict | None, new: Verdict | None) -> None:
        if old is not None and new is not None and old.up is new.up:
            return
        counter = self._counts.setdefault(key.service, {}).setdefault(key.cluster, Counter())
        if old is not None:
            counter[old.up] -= 1
        if new is not None:
            counter[new.up] += 1
        elif not counter.total():
            del self._counts[key.service][key.cluster]
        if any(one[False] for one in self._counts[key.service].values()):
            self._troubled.add(key.service)
        else:
            self._troubled.discard(key.service)
        if self._counts[key.service]:
            self._changed[key.service] = None
            if key.service not in self._told:
                self._untold.add(key.service)
        else:
            del self._counts[key.service]
            self._changed.pop(key.service, None)
            self._untold.discard(key.service)
            self._told.discard(key.service)
            self._writer.drop(self._ref(key.service))


def _service(report: HealthReport) -> ServiceKey:
    return ServiceKey(report.spec.service.namespace, report.spec.service.name)
