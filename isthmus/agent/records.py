"""The time of each export in the hub's clock, recorded once on the ServiceExport (precedence, KEP-1645).

An export's age decides conflicts, and clusters' clocks differ. Once the hub has answered, the creation time
corrected by the measured offset is written down, so that a later start with another offset changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from isthmus.agent.chain import Chain
from isthmus.agent.ownexports import detached
from isthmus.api import kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.kube.client import Client
from isthmus.kube.workqueue import Done, RequeueAfter, Result, WorkQueue
from isthmus.mcs import serviceexport
from isthmus.model.names import ServiceKey
from isthmus.model.service import Export

GATE_SECONDS = 2.0
MANAGER = "isthmus-exported-at"
"""A field manager of its own: whoever applies other fields of the export never removes the record."""


class Records:
    """Writes the record where it is missing, while `gate()` is open and the hub's session is live."""

    def __init__(self, client: Client, chain: Chain, gate: Callable[[], bool]) -> None:
        self._client = client
        self._chain = chain
        self._gate = gate
        self._queue: WorkQueue[ServiceKey] = WorkQueue("exported-at", self._record, workers=2)

    async def run(self) -> None:
        """Records until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(), name="exported-at-queue")
            group.create_task(self._follow_exports(), name="exported-at-exports")
            group.create_task(self._follow_session(), name="exported-at-session")

    async def _follow_exports(self) -> None:
        async for keys in self._chain.own_exports.changes():
            self._mark(keys)

    async def _follow_session(self) -> None:
        """The hub's return marks everything that is not recorded yet."""
        async for _keys in self._chain.session.changes():
            self._mark(self._chain.own_exports)

    def _mark(self, keys: Iterable[ServiceKey]) -> None:
        for key in keys:
            if self._missing(key) is not None:
                self._queue.add(key)

    def _missing(self, key: ServiceKey) -> dict[str, Any] | None:
        """The patch that records an export's time, None where there is nothing to record now.

        The time is taken anew: the row may be from before the hub's clock was known.
        """
        outcome = self._chain.own_exports.get(key)
        export = self._chain.member.exports.get(ObjectKey(*key))
        if export is None or detached(export) or not isinstance(outcome, Export):
            return None
        if self._chain.session.get("hub") is not True:
            return None
        created = serviceexport.export_time(export, self._chain.place.clock_offset())
        if created is None or created == serviceexport.YOUNGEST:
            return None
        record = serviceexport.export_time_record(export, created)["metadata"]["annotations"]
        if export.metadata.annotations.get(labels.EXPORTED_AT) == record[labels.EXPORTED_AT]:
            return None
        return {"metadata": {"uid": export.metadata.uid, "annotations": record}}

    async def _record(self, key: ServiceKey) -> Result:
        record = self._missing(key)
        if record is None:
            return Done()
        if not self._gate():
            return RequeueAfter(GATE_SECONDS)  # another replica writes it, or we do once we may
        # A patch, because an apply would create an export that its owner has just deleted.
        await self._client.patch(kinds.SERVICE_EXPORT, ObjectKey(*key), record, manager=MANAGER)
        return Done()
