"""What people are told by Kubernetes Events, where there is no condition of ours to say it.

A notice is a row as long as its cause lasts; each is told once, by an Event whose name follows from what it
says, so that a restart or another replica does not tell it again. Events are for people: nothing reads them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from isthmus.agent.inputs import Member
from isthmus.api import core, kinds, labels
from isthmus.api.meta import Kind, ObjectKey, ObjectMeta
from isthmus.errors import Conflict, Forbidden, NotFound
from isthmus.flow import Derived, Index, Table, derive, on, spread
from isthmus.kube.applier import ObjectRef
from isthmus.kube.client import Client
from isthmus.kube.workqueue import Done, RequeueAfter, Result, Terminal, WorkQueue
from isthmus.mcs.annotations import flag, misplaced
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.timestamp import format_time

GATE_SECONDS = 2.0
MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell about one object (of that uid), in one word and in words."""

    uid: str
    reason: str
    message: str


NoticeKey = tuple[ObjectRef, str]
"""The object that is spoken of, and the reason."""

Told = Mapping[NoticeKey, Notice]


class Notices:
    """All notices of one cluster; `refused` is what the applier cannot write, `held` who has an import."""

    def __init__(
        self,
        member: Member,
        services: Table[ServiceKey, Any],
        refused: Table[ObjectRef, Refused],
        held: Callable[[ServiceKey], str],
    ) -> None:
        self.rows: Table[NoticeKey, Notice] = Table("notices")
        self.tables: list[Table[Any, Told]] = [
            _of_imports(member, services, refused, held),
            _of_annotated(kinds.SERVICE, member.services),
            _of_annotated(kinds.NAMESPACE, member.namespaces),
        ]
        for table in self.tables:
            spread(table, self.rows, lambda _key, row: row)


def _of_imports(
    member: Member,
    services: Table[ServiceKey, Any],
    refused: Table[ObjectRef, Refused],
    held: Callable[[ServiceKey], str],
) -> Derived[ObjectKey, Told]:
    imports = member.imports
    by_derived = Index(imports, lambda key, _row: (_derived(key),))

    def compute(key: ObjectKey) -> Told | None:
        found = imports.get(key)
        if found is None:
            return None
        annotations = found.metadata.annotations
        wrong = [flag(annotations, name)[1] for name in (labels.DETACH, labels.ADOPT)]
        told = {"InvalidAnnotation": _joined([*wrong, *misplaced(annotations, "ServiceImport")])}
        if who := held(ServiceKey(*key)):
            told["ImportHeld"] = (
                f"This import is held by {who} and left alone; DNS, Envoy and kube-proxy serve the service "
                f'all the same. To hand it over, annotate it with {labels.ADOPT}: "true".'
            )
        taken = refused.get(ObjectRef(kinds.SERVICE, *_derived(key)))
        if taken is not None and taken.reason == "Foreign":
            told["DerivedServiceTaken"] = (
                f"{taken.message}; until then the service has no clusterset IP here."
            )
        return _told(ObjectRef(kinds.SERVICE_IMPORT, *key), found.metadata, told)

    return derive(
        "notices of imports",
        on(imports),
        on(services, lambda key, _o, _n: (ObjectKey(*key),)),
        on(refused, lambda ref, _o, _n: by_derived.of(ref.key)),
        compute=compute,
    )


def _of_annotated(
    kind: Kind[Any], table: Table[ObjectKey, core.Service] | Table[ObjectKey, core.Namespace]
) -> Derived[ObjectKey, Told]:
    """Wrong annotations of what `isthmus.dev/auto-export` may stand on."""

    def compute(key: ObjectKey) -> Told | None:
        found = table.get(key)
        if found is None:
            return None
        annotations = found.metadata.annotations
        wrong = [flag(annotations, labels.AUTO_EXPORT)[1], *misplaced(annotations, kind.kind)]
        return _told(ObjectRef(kind, *key), found.metadata, {"InvalidAnnotation": _joined(wrong)})

    source: Table[ObjectKey, Any] = table
    return derive(f"notices of {kind.plural}", on(source), compute=compute)


def _told(ref: ObjectRef, metadata: ObjectMeta, messages: Mapping[str, str]) -> Told | None:
    rows = {
        (ref, reason): Notice(uid=metadata.uid, reason=reason, message=message)
        for reason, message in messages.items()
        if message
    }
    return rows or None


def _joined(problems: Iterable[str]) -> str:
    return "; ".join(problem for problem in problems if problem)


def _derived(key: ObjectKey) -> ObjectKey:
    return ObjectKey(key.namespace, derived_name(ServiceKey(*key)))


class Teller:
    """Writes an Event for every notice, while `gate()` is open."""

    def __init__(
        self,
        client: Client,
        rows: Table[NoticeKey, Notice],
        gate: Callable[[], bool],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._rows = rows
        self._gate = gate
        self._wall = wall
        self._queue: WorkQueue[NoticeKey] = WorkQueue("notices", self._tell, workers=2)

    async def run(self) -> None:
        """Tells until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(), name="notices-queue")
            group.create_task(self._follow(), name="notices-rows")

    async def _follow(self) -> None:
        async for keys in self._rows.changes():
            for key in keys:
                self._queue.add(key)

    async def _tell(self, key: NoticeKey) -> Result:
        notice = self._rows.get(key)
        if notice is None:
            return Done()
        if not self._gate():
            return RequeueAfter(GATE_SECONDS)
        body = event(key[0], notice, self._wall())
        try:
            await self._client.create(kinds.EVENT, body, manager=labels.MANAGER)
        except (Conflict, NotFound):
            return Done()  # it was told before, or its namespace has gone
        except Forbidden as error:
            return Terminal(str(error))
        return Done()


def event(ref: ObjectRef, notice: Notice, wall: float) -> dict[str, Any]:
    """The Event that tells a notice; its name says the same of the same notice."""
    print_ = sha256(f"{notice.uid} {notice.reason} {notice.message}".encode()).hexdigest()[:16]
    stamp = format_time(wall)[:19] + "Z"
    regarding = {
        "apiVersion": ref.kind.api_version,
        "kind": ref.kind.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "uid": notice.uid,
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": ref.namespace or "default", "name": f"{ref.name}.{print_}"},
        "involvedObject": {name: value for name, value in regarding.items() if value},
        "reason": notice.reason,
        "message": notice.message[:MESSAGE_LIMIT],
        "type": "Warning",
        "source": {"component": labels.MANAGER},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
