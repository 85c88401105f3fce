"""What this cluster's probes say, told on the hub for people: one HealthReport for each checked service.

Nobody decides by them, so they are allowed to be late and never to be many: every PAUSE seconds at most PACE
reports are renewed, only those whose counts have changed, services with something Down first; MOST in all. An
applier of their own writes them, so that nothing about reports can hold up an export.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from isthmus.api import kinds
from isthmus.flow import Table
from isthmus.kube.applier import ObjectRef
from isthmus.mcs import hubobjects
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, ServiceKey

PAUSE_SECONDS = 10.0
PACE = 20
MOST = 1_000

Counts = dict[str, Counter[bool | None]]
"""Checks by verdict, by source cluster."""


class Reports:
    """The table `desired` of reports, as of late; `complete` when no change waits to be told.

    While `silent` (the cluster leaves the clusterset) there are none.
    """

    def __init__(
        self,
        cluster: ClusterId,
        health: Table[CheckKey, Verdict],
        *,
        silent: Callable[[], bool] = lambda: False,
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
        self._begun = False
        for key, verdict in health.items():
            self._observe(key, None, verdict)
        health.observe(self._observe)

    @property
    def complete(self) -> bool:
        return self._begun and (self._silent() or not self._changed)

    async def run(self) -> None:
        """Renews reports until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            self.renew()

    def renew(self) -> None:
        """Renews the reports that are due now."""
        self._begun = True
        if self._silent():
            self.withdraw()
            return
        now = self._clock()
        due = sorted(self._changed, key=lambda key: (not self._down(key), key))
        written = 0
        for key in due:
            if written == PACE:
                return
            del self._changed[key]
            ref = self._ref(key)
            if ref not in self.desired and len(self.desired) >= MOST:
                continue
            counts = {name: (c[True], c[False], c[None]) for name, c in sorted(self._counts[key].items())}
            self._writer.put(ref, hubobjects.health_report(self._cluster, key, counts, now))
            written += 1

    def withdraw(self) -> bool:
        """Takes all reports back; whether there were none any more. They return when we may speak again."""
        none = not len(self.desired)
        self._writer.replace({})
        self._changed = dict.fromkeys(self._counts)
        return none

    def _down(self, key: ServiceKey) -> bool:
        return any(counter[False] for counter in self._counts[key].values())

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
        if self._counts[key.service]:
            self._changed[key.service] = None
        else:
            del self._counts[key.service]
            self._changed.pop(key.service, None)
            self._writer.drop(self._ref(key.service))
