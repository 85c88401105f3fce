"""The time of each export in the hub's clock, recorded once on the ServiceExport (precedence, KEP-1645).

An export's age decides conflicts, and clusters' clocks differ. Once the hub has answered, the creation time
corrected by the measured offset is written down, so that a later start with another offset changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from isthmus.agent.chain import Chain
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
            group.create_task(self._follow(self._chain.own_exports), name="exported-at-exports")
            group.create_task(self._follow(self._chain.session), name="exported-at-session")

    async def _follow(self, table: Any) -> None:
        """Any change of an export, and the hub's return, marks what is not recorded yet."""
        async for _keys in table.changes():
            for key in self._chain.own_exports:
                if self._missing(key) is not None:
                    self._queue.add(key)

    def _missing(self, key: ServiceKey) -> dict[str, Any] | None:
        """The record to write for an export, None where there is nothing to write now."""
        outcome = self._chain.own_exports.get(key)
        export = self._chain.member.exports.get(ObjectKey(*key))
        if export is None or not isinstance(outcome, Export) or self._chain.session.get("hub") is not True:
            return None
        record = serviceexport.export_time_record(export, outcome.created)
        wanted = record["metadata"]["annotations"][labels.EXPORTED_AT]
        return None if export.metadata.annotations.get(labels.EXPORTED_AT) == wanted else record

    async def _record(self, key: ServiceKey) -> Result:
        record = self._missing(key)
        if record is None:
            return Done()
        if not self._gate():
            return RequeueAfter(GATE_SECONDS)  # another replica writes it, or we do once we may
        await self._client.apply(kinds.SERVICE_EXPORT, record, manager=MANAGER)
        return Done()
