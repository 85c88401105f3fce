"""Keeps the objects we own in one API server equal to a table of desired objects.

Invariants: one field manager; nothing is written while the gate (the lease) is closed; what is equal is not
written, so that a restart writes nothing; an object that is not ours is never touched; every write carries
the uid of the object it was decided on; what could not be done because a gate was closed is `overdue` once it
is open. Level-triggered by `workqueue`: desired and observed rows only mark
keys. Server-side apply: https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from random import Random
from typing import Any, NamedTuple, TypeVar

import structlog

from isthmus.api.labels import MANAGED_BY, MANAGER, SLICE_MANAGED_BY, SLICE_MANAGER
from isthmus.api.meta import Kind, ObjectKey
from isthmus.errors import Conflict, Forbidden, Invalid, KubeError, NotFound, Unreachable
from isthmus.flow import Table
from isthmus.kube.client import Client
from isthmus.kube.comparison import (
    differs,
    fingerprint,
    has_more_conditions,
    residue,
    stamped,
    with_fingerprint,
)
from isthmus.kube.raw import RawObject, raw, unpack
from isthmus.kube.workqueue import Done, Failed, RequeueAfter, Result, Terminal, WorkQueue
from isthmus.model.refusal import Refused

STATUS = "status"
_REFUSALS = frozenset({413, 500})
"""Answers that are about the object: too large for a request, or for the store."""
RESYNC_SECONDS = 60.0
AGAIN_SECONDS = 0.2
"""After which an object that the server would not have is tried first again; then when it was refused for
twice as long, up to the resync. A refusal may be about what is just passing."""
MISSING_SECONDS = 1.0
"""How long an object is missing before it is asked for with what `born` tells it. A server that has just told
of a Service's end gives its addresses back one by one, and asked for both when one is free it refuses the
other and keeps the free one for a minute or more, for nobody (kube-apiserver 1.34, `allocIPs`)."""
LASTING_SECONDS = 20.0
"""How long a refusal stands before an object is created without what `born` would tell it."""
MOST_SECONDS = 30.0
"""How long one object may take, with its few requests."""
YIELD_EVERY = 200

K = TypeVar("K", bound=Hashable)

log = structlog.get_logger()


class ObjectRef(NamedTuple):
    """One object, or its status (`subresource` is "" or "status")."""

    kind: Kind[Any]
    namespace: str
    name: str
    subresource: str = ""

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind.kind}{f'.{self.subresource}' if self.subresource else ''} {self.key}"


def managed(observed: Mapping[str, Any]) -> bool:
    """Whether the object carries our label (or that of EndpointSlices): the usual meaning of ours."""
    labels = observed["metadata"].get("labels") or {}
    return bool(labels.get(MANAGED_BY) == MANAGER or labels.get(SLICE_MANAGED_BY) == SLICE_MANAGER)


class Applier:
    """Applies `desired` to one API server.

    `desired`: the whole object as JSON-able dict (for a status: apiVersion, kind, metadata, status), its
    conditions without times. `observed`: for each kind that is ever desired, what exists, as
    `raw.raw(kind)` reflectors see it; they may be limited to our label, because an object that they do not
    show is read before it is created. Rows of both may be packed (`raw.pack`). An observed object that is
    `ours` and not desired is deleted while `deletes` allows it (it shall not while what is desired follows
    from less than everything); a status is never removed. What `spares` names is neither changed nor deleted:
    who desires may not have heard yet that it is let go of. An object that somebody else made and `adopts` is
    for may be taken over while it is desired. `born` completes an object that is about to be created by what
    only a new one is told, if the server takes that; it is asked when the server has said that there is none,
    which who desires may not have heard yet. `plainer` says an object in words that older servers know too,
    for one that refuses it. `left`: for how many seconds a gate that is open now is ours.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        desired: Table[ObjectRef, Any],
        observed: Mapping[Kind[Any], Table[ObjectKey, Any]],
        *,
        gate: Callable[[], bool],
        deletes: Callable[[], bool] = lambda: True,
        left: Callable[[], float] = lambda: MOST_SECONDS,
        refused: Table[ObjectRef, Refused] | None = None,
        ours: Callable[[Mapping[str, Any]], bool] = managed,
        adopts: Callable[[Mapping[str, Any]], bool] = lambda _found: False,
        spares: Callable[[Mapping[str, Any]], bool] = lambda _found: False,
        born: Callable[[ObjectRef, RawObject], RawObject] = lambda _ref, wanted: wanted,
        plainer: Callable[[RawObject], RawObject] = lambda wanted: wanted,
        manager: str = MANAGER,
        workers: int = 8,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self.refused: Table[ObjectRef, Refused] = Table(f"{name}/refused") if refused is None else refused
        """Desired objects that cannot be applied now, and why (`Foreign`, `NotFound`, …)."""
        self.written: Counter[str] = Counter()
        """Writes that the server accepted, by kind."""
        self.failed: Counter[str] = Counter()
        """Times that an object could not be made as desired, by kind."""
        self._name = name
        self._client = client
        self._desired = desired
        self._observed = observed
        self._gate = gate
        self._deletes = deletes
        self._left = left
        self._missed = False
        """Something was not done because the gate was closed."""
        self._spared = False
        """Something was not deleted because `deletes` did not allow it."""
        self._ours = ours
        self._adopts = adopts
        self._spares = spares
        self._born = born
        self._plainer = plainer
        self._let_go: set[ObjectRef] = set()
        """What would have been changed or deleted, had it not been spared."""
        self._manager = manager
        self._wall = wall
        self._raw = {kind: raw(kind) for kind in observed}
        self._answer = {kind: raw(kind, managed_fields=True) for kind in observed}
        self._resync = asyncio.Event()
        self._doubted: set[ObjectRef] = set()
        self._theirs: dict[ObjectRef, str] = {}
        """uids of objects that carried our label for a moment and are not ours (see `_withdraw`)."""
        self._status_applied: dict[ObjectRef, str] = {}
        self._clock = clock
        self._lacked_at: dict[ObjectRef, float] = {}
        """Since when an object is not had: it is refused each time, or not asked for yet (see `_create`)."""
        self._refusals = self.refused.partition(name)
        self._refusals.replace({})
        self._queue: WorkQueue[ObjectRef] = WorkQueue(
            name, self._reconcile, workers=workers, clock=clock, rng=rng, on_outcome=self._ended
        )
        self._log = log.bind(applier=name, server=client.access.name)

    @property
    def writes(self) -> int:
        """Writes that the server accepted."""
        return self.written.total()

    @property
    def waiting(self) -> int:
        """Objects that wait for a look, now or after a while."""
        return len(self._queue)

    @property
    def oldest(self) -> float:
        """For how many seconds the object that is due longest has been due; 0 where none is."""
        return self._queue.oldest

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing is due."""
        return self._queue.idle and not self._resync.is_set()

    @property
    def errors(self) -> Mapping[ObjectRef, str]:
        """What is wrong with objects whose last write failed."""
        return self._queue.errors

    @property
    def overdue(self) -> bool:
        """Whether something was put off that may be done now; `resync` does it."""
        return (self._missed or (self._spared and self._deletes())) and self._gate()

    def resync(self) -> None:
        """Compares everything again, a little at a time; call it when something is overdue."""
        self._missed = self._spared = False
        self._resync.set()

    async def _resyncs(self) -> None:
        while True:
            await self._resync.wait()
            self._resync.clear()
            async for ref in paced(list(self._desired)):
                self._queue.add(ref)
            await self._mark_observed()

    def retake(self) -> None:
        """Looks again at everything that was spared."""
        for ref in self._let_go:
            self._queue.add(ref)
        self._let_go.clear()

    def hear(self, kind: Kind[Any], everybodys: Table[ObjectKey, Any]) -> None:
        """Looks again at once where another's object has gone that stood in the way of a desired one.

        `everybodys`: all objects of a kind of which `observed` shows only those with our label.
        """

        def observe(key: ObjectKey, _old: object, new: object) -> None:
            if new is None and (ref := ObjectRef(kind, *key)) in self._desired:
                self._queue.add(ref)

        everybodys.observe(observe)

    async def run(self) -> None:
        """Applies until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(), name=f"{self._name}-queue")
            group.create_task(self._resyncs(), name=f"{self._name}-resyncs")
            group.create_task(self._follow_desired(), name=f"{self._name}-desired")
            for kind, table in self._observed.items():
                group.create_task(self._follow(kind, table), name=f"{self._name}-{kind.plural}")

    def _ended(self, ref: ObjectRef, outcome: Result | Failed) -> None:
        if isinstance(outcome, Failed | Terminal):
            self.failed[ref.kind.kind] += 1

    async def _follow_desired(self) -> None:
        first = True
        async for refs in self._desired.changes():
            async for ref in paced(refs):
                self._queue.add(ref)
            del refs  # the first are all, and it may be long until the next
            if first:
                await self._mark_observed()  # what is not desired is known only now
                first = False

    async def _follow(self, kind: Kind[Any], table: Table[ObjectKey, Any]) -> None:
        first = True
        async for keys in table.changes():
            if first:  # what does not exist is known only now
                async for ref in paced([ref for ref in self._desired if ref.kind is kind]):
                    self._queue.add(ref)
                first = False
            async for key in paced(keys):
                self._mark(kind, key, table.get(key))
            del keys

    async def _mark_observed(self) -> None:
        for kind, table in self._observed.items():
            async for key in paced(list(table)):
                self._mark(kind, key, table.get(key))

    def _mark(self, kind: Kind[Any], key: ObjectKey, found: Any) -> None:
        """Marks what a change of an observed object concerns."""
        main, status = ObjectRef(kind, *key), ObjectRef(kind, *key, STATUS)
        if main in self._desired or (found is not None and self._ours(unpack(found))):
            self._queue.add(main)
        if status in self._desired:
            self._queue.add(status)

    async def _reconcile(self, ref: ObjectRef) -> Result:
        table = self._observed.get(ref.kind)
        if table is None:
            return Terminal(f"nothing observes {ref.kind.kind}")
        if not (self._desired.synced and table.synced and self._open()):
            return Done()  # `resync` marks everything when that changes
        try:
            # A write in flight must be over before another may hold the lease that opens our gate.
            async with asyncio.timeout(min(self._left(), MOST_SECONDS)):
                refused = await self._converge(ref, table)
        except TimeoutError as error:
            self._doubted.add(ref)
            raise Unreachable(f"{ref} at {self._client.access.name}: no answer in time") from error
        except (NotFound, Invalid) as error:
            return self._not_had(ref, error)
        except Conflict:
            self._doubted.add(ref)
            raise
        except KubeError as error:
            # Told, and tried again soon: a server that has just started does not know its own roles yet.
            if isinstance(error, Forbidden) or error.status in _REFUSALS:
                self._refusals.put(ref, Refused(reason=type(error).__name__, message=str(error)))
            raise
        if isinstance(refused, RequeueAfter):
            return refused
        self._lacked_at.pop(ref, None)
        if refused is None:
            self._refusals.drop(ref)
            return Done()
        self._refusals.put(ref, refused)
        return Terminal(refused.message, again=RESYNC_SECONDS)

    def _not_had(self, ref: ObjectRef, error: KubeError) -> Result:
        """What follows where the server would not have the object: told at once, and tried again."""
        stood = self._lacked(ref)
        self._refusals.put(ref, Refused(reason=type(error).__name__, message=str(error)))
        return Terminal(str(error), again=min(max(stood, AGAIN_SECONDS), RESYNC_SECONDS))

    def _lacked(self, ref: ObjectRef) -> float:
        """For how many seconds the object is not had; 0 where this is new."""
        now = self._clock()
        return now - self._lacked_at.setdefault(ref, now)

    async def _converge(self, ref: ObjectRef, table: Table[ObjectKey, Any]) -> Refused | RequeueAfter | None:
        row = table.get(ref.key)
        found = None if row is None else unpack(row)
        if ref in self._doubted:
            found = await self._fetch(ref)
            self._doubted.discard(ref)
        if ref not in self._desired:
            await self._remove(ref, found)
            return None
        if ref.subresource:
            if found is not None and not self._let_be(ref, found):
                await self._apply_status(ref, found)
            return None
        if found is None:
            found = await self._fetch(ref)
        # Read again: it may have changed while we waited.
        desired = self._wanted(ref)
        if desired is None:
            await self._remove(ref, found)
            return None
        if found is not None and self._let_be(ref, found):
            return None
        if found is not None and self._adopts(found):
            self._theirs.pop(ref, None)  # it is ours from now on
        elif found is not None and not self._is_ours(ref, found):
            return _foreign(ref)
        body = with_fingerprint(desired)
        if found is None:
            return await self._create(ref, body)
        if differs(body, found) and not found["metadata"].get("deletionTimestamp"):
            return await self._apply(ref, body, found)
        return None

    async def _create(self, ref: ObjectRef, body: RawObject) -> Refused | RequeueAfter | None:
        """Creates the object with what only a new one is told, once it is missing for a moment; without that
        where it is refused for long."""
        whole = self._born(ref, body)
        if whole != body and (early := MISSING_SECONDS - self._lacked(ref)) > 0:
            return RequeueAfter(early)
        try:
            return await self._apply(ref, whole, None)
        except Invalid:
            if whole == body or self._lacked(ref) < LASTING_SECONDS:
                raise
        return await self._apply(ref, body, None)

    def _wanted(self, ref: ObjectRef) -> RawObject | None:
        row = self._desired.get(ref)
        return None if row is None else unpack(row)

    async def _apply_status(self, ref: ObjectRef, found: RawObject) -> None:
        desired = self._wanted(ref)
        if desired is None or found["metadata"].get("deletionTimestamp"):
            return
        print_ = fingerprint(desired)
        # A condition that is not desired any more shows only in what we remember; what was applied before the
        # start is not remembered, so one that is too many is applied away once, if it is ours.
        before = self._status_applied.get(ref)
        if differs(desired, found) or (before != print_ if before else has_more_conditions(desired, found)):
            await self._apply(ref, stamped(desired, found, self._wall()), found)
        self._status_applied[ref] = print_

    async def _apply(self, ref: ObjectRef, body: dict[str, Any], found: RawObject | None) -> Refused | None:
        """Applies `body` over `found` (None: creates it)."""
        if not self._open():
            return None
        uid = found["metadata"].get("uid") if found is not None else None
        if uid:
            body = {**body, "metadata": {**body["metadata"], "uid": uid}}
        try:
            answer = await self._client.apply(
                self._answer[ref.kind],
                body,
                manager=self._manager,
                # Without force a foreign object that appeared since we looked is a conflict, not a capture.
                force=found is not None,
                subresource=ref.subresource,
            )
        except Invalid:
            plainer = self._plainer(body)
            if plainer != body:  # else words that this server does not know would be taken for another's
                changes = found is None or differs(plainer, found)
                return await self._apply(ref, plainer, found) if changes else None
            # Another's entry in a list of ours can make the sum of both invalid.
            if found is None or not await self._repair(ref, body, found):
                raise
            return None
        self.written[ref.kind.kind] += 1
        if found is None and _managers(answer) - {self._manager}:
            await self._withdraw(ref, answer)
            return _foreign(ref)
        await self._repair(ref, body, answer)
        return None

    async def _withdraw(self, ref: ObjectRef, met: RawObject) -> None:
        """Takes back what we applied to somebody's object that appeared between our look and our write."""
        self._theirs[ref] = met["metadata"].get("uid", "")
        metadata = {"name": ref.name, "namespace": ref.namespace, "uid": self._theirs[ref]}
        body = {"apiVersion": ref.kind.api_version, "kind": ref.kind.kind, "metadata": metadata}
        await self._client.apply(self._raw[ref.kind], body, manager=self._manager)
        self.written[ref.kind.kind] += 1

    async def _repair(self, ref: ObjectRef, body: Mapping[str, Any], found: RawObject) -> bool:
        """Takes entries of other writers out of lists that are ours; whether there were any."""
        rest = residue(body, found)
        if not rest or not self._open():
            return False
        rest["metadata"] = {"uid": found["metadata"].get("uid")}
        await self._client.patch(ref.kind, ref.key, rest, subresource=ref.subresource, manager=self._manager)
        self.written[ref.kind.kind] += 1
        self._log.info("foreign list entries removed", object=str(ref))
        return True

    async def _remove(self, ref: ObjectRef, found: RawObject | None) -> None:
        self._status_applied.pop(ref, None)
        if ref.subresource or found is None or not self._is_ours(ref, found):
            return
        metadata = found["metadata"]
        if metadata.get("deletionTimestamp") or not self._open():
            return
        if self._let_be(ref, found):
            return
        if not self._deletes():
            if not self._spared:
                self._log.warning("deletions put off", object=str(ref))
            self._spared = True
            return
        try:
            await self._client.delete(ref.kind, ref.key, uid=metadata.get("uid", ""))
        except NotFound:
            return
        self.written[ref.kind.kind] += 1
        self._log.info("object deleted", object=str(ref))

    def _let_be(self, ref: ObjectRef, found: RawObject) -> bool:
        """Whether the object is spared; it is remembered then."""
        spared = self._spares(found)
        if spared:
            self._let_go.add(ref)
        return spared

    def _open(self) -> bool:
        """Whether the gate is open; that it was not is remembered."""
        is_open = self._gate()
        self._missed = self._missed or not is_open
        return is_open

    def _is_ours(self, ref: ObjectRef, found: RawObject) -> bool:
        if ref in self._theirs:
            if self._theirs[ref] == found["metadata"].get("uid", ""):
                return False
            del self._theirs[ref]
        return self._ours(found)

    async def _fetch(self, ref: ObjectRef) -> RawObject | None:
        try:
            return await self._client.get(self._raw[ref.kind], ref.key)
        except NotFound:
            return None
        except KubeError:
            self._doubted.add(ref)
            raise


async def paced(keys: Iterable[K]) -> AsyncIterator[K]:
    """The keys, with a turn for the loop every few hundred: tens of thousands would hold it up."""
    for taken, key in enumerate(keys, 1):
        yield key
        if taken % YIELD_EVERY == 0:
            await asyncio.sleep(0)


def _foreign(ref: ObjectRef) -> Refused:
    return Refused(reason="Foreign", message=f"{ref} exists and is not ours; rename or remove it")


def _managers(answer: RawObject) -> set[str]:
    """Who owns fields of the object."""
    entries = answer["metadata"].get("managedFields") or []
    return {str(entry.get("manager")) for entry in entries if isinstance(entry, Mapping)}
