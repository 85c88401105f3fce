"""Writing desired objects: what is observed of each kind, and the applier that compares the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import structlog

from isthmus.api import core, kinds, labels
from isthmus.api.meta import Kind, ObjectKey
from isthmus.errors import ConfigError, KubeError
from isthmus.flow import Table
from isthmus.kube.applier import MOST_SECONDS, Applier, ObjectRef, managed
from isthmus.kube.client import Client
from isthmus.kube.lease import LeaseHolder
from isthmus.kube.raw import Packed, RawObject, packed, status_only
from isthmus.kube.reflector import Reflector
from isthmus.mcs.annotations import is_set
from isthmus.model.refusal import Refused

GATE_SECONDS = 0.2
MAKE_SECONDS = 1.0
OURS = f"{labels.MANAGED_BY}={labels.MANAGER}"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Observed:
    """What an applier needs to see of a kind: a selector, and whether the status alone is enough."""

    kind: Kind[Any]
    selector: str = OURS
    status_alone: bool = False


MEMBER_KINDS = (
    Observed(kinds.SERVICE_IMPORT, selector=""),
    Observed(kinds.SERVICE),
    Observed(kinds.ENDPOINT_SLICE),
    Observed(kinds.SERVICE_EXPORT, selector="", status_alone=True),
    Observed(kinds.POLICY, selector="", status_alone=True),
)
EXPORT_KINDS = (Observed(kinds.SERVICE_EXPORT),)
"""Exports that are made by annotation; those of people do not have our label."""
HUB_KINDS = (Observed(kinds.EXPORTED_SERVICE), Observed(kinds.EXPORTED_ENDPOINTS))
REPORT_KINDS = (Observed(kinds.HEALTH_REPORT),)
POLICY_REPORT_KINDS = (Observed(kinds.POLICY_REPORT),)
OF_PEOPLE = frozenset({kinds.SERVICE_EXPORT.kind, kinds.POLICY.kind, kinds.CLUSTER.kind})
STATUS_KINDS = (Observed(kinds.CLUSTER, selector="", status_alone=True),)
POLICY_STATUS_KINDS = (Observed(kinds.POLICY, selector="", status_alone=True),)


def ours(found: Mapping[str, Any]) -> bool:
    """Whether an object was made by Isthmus, by its label and what only we make.

    Some kinds are people's whatever their labels say; an import owns each Service of ours.
    """
    if not managed(found) or found["kind"] in OF_PEOPLE:
        return False
    owners = found["metadata"].get("ownerReferences") or ()
    return found["kind"] != kinds.SERVICE.kind or any(
        owner["kind"] == kinds.SERVICE_IMPORT.kind for owner in owners
    )


def adopts(found: Mapping[str, Any]) -> bool:
    """Whether the owner of a foreign object hands it over; imports alone, never a Service (design rule 6)."""
    annotations = found["metadata"].get("annotations") or {}
    return found["kind"] == kinds.SERVICE_IMPORT.kind and is_set(annotations, labels.ADOPT)


@dataclass(slots=True)
class Writing:
    """One applier with its reflectors; `namespace` limits what it sees (and so what it may ever delete)."""

    client: Client
    name: str
    desired: Table[ObjectRef, Any]
    gate: Callable[[], bool]
    observed: tuple[Observed, ...]
    namespace: str = ""
    deletes: Callable[[], bool] = lambda: True
    left: Callable[[], float] = lambda: MOST_SECONDS
    refused: Table[ObjectRef, Refused] | None = None
    spares: Callable[[Mapping[str, Any]], bool] = lambda _found: False
    born: Callable[[ObjectRef, RawObject], RawObject] = lambda _ref, wanted: wanted
    plainer: Callable[[RawObject], RawObject] = lambda wanted: wanted
    ours: Callable[[Mapping[str, Any]], bool] = ours
    manager: str = labels.MANAGER
    applier: Applier = field(init=False)
    tables: dict[Kind[Any], Table[ObjectKey, Packed]] = field(init=False)
    """What exists, by kind."""
    _reflectors: list[Reflector[Packed]] = field(init=False)

    def __post_init__(self) -> None:
        self.tables = tables = {}
        self._reflectors = []
        for one in self.observed:
            table: Table[ObjectKey, Packed] = Table(f"{self.name}/{one.kind.plural}")
            tables[one.kind] = table
            self._reflectors.append(
                Reflector(
                    self.client,
                    packed(one.kind, status_only if one.status_alone else None),
                    table.partition("reflector"),
                    namespace=self.namespace,
                    label_selector=one.selector,
                )
            )
        self.applier = Applier(
            self.client,
            self.name,
            self.desired,
            tables,
            gate=self.gate,
            deletes=self.deletes,
            left=self.left,
            refused=self.refused,
            ours=self.ours,
            adopts=adopts,
            spares=self.spares,
            born=self.born,
            plainer=self.plainer,
            manager=self.manager,
        )

    @property
    def found(self) -> int | None:
        """How many objects there are where it writes; None: not known yet."""
        tables = self.tables.values()
        return sum(map(len, tables)) if all(table.synced for table in tables) else None

    async def run(self) -> None:
        """Applies until cancelled; compares everything again whenever a gate opens."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run(), name=f"{self.name}-{reflector.kind.plural}")
            group.create_task(self.applier.run(), name=f"{self.name}-applier")
            group.create_task(self._watch_gates(), name=f"{self.name}-gates")

    async def _watch_gates(self) -> None:
        while True:
            if self.applier.overdue:
                self.applier.resync()
            await asyncio.sleep(GATE_SECONDS)


def found_in(writings: Iterable[Writing]) -> int | None:
    """How many objects there are where these write; None: not known yet."""
    counts = [writing.found for writing in writings]
    return None if None in counts else sum(count or 0 for count in counts)


async def compete(
    client: Client,
    namespace: str,
    lease: LeaseHolder,
    known: Table[ObjectKey, core.Namespace] | None = None,
) -> None:
    """Makes the namespace of the writer's lease where that is allowed, and competes until cancelled.

    `known`: the server's namespaces, as far as they are read; then nothing is made that is there already.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(_make(client, namespace, lease, known), name="namespace")
        group.create_task(lease.run(), name="compete")


async def _make(
    client: Client, namespace: str, lease: LeaseHolder, known: Table[ObjectKey, core.Namespace] | None
) -> None:
    """Tries until a lease was found in the namespace.

    A no may be for a moment: rights are given later, a new server does not know its own roles yet, and what
    exists may be ending.
    """
    if known is not None:
        rows = cast("AsyncGenerator[frozenset[ObjectKey], None]", known.changes())
        async with aclosing(rows) as changes:
            if ObjectKey("", namespace) in await anext(changes):
                return
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    while not lease.holder:
        try:
            await client.create(kinds.NAMESPACE, space)
        except (KubeError, ConfigError) as error:
            log.debug("namespace not made", namespace=namespace, error=str(error))
        await asyncio.sleep(MAKE_SECONDS)
