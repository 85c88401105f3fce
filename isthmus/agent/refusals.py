"""What was refused at the border: held by object, counted by cluster and reason, told in the log.

The counts follow each change. The log hears of the first object that a cluster has refused for a reason, and
when the last one is good again. Of a cluster that goes back and forth it hears once a minute, and at most so
much later what holds in the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from isthmus.agent.followers import Named
from isthmus.api import hub
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.mcs.border import ImportedEndpoints
from isthmus.mcs.hubobjects import hub_namespace, object_name
from isthmus.mcs.limits import MAX_ENDPOINTS
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused, RefusedOffer
from isthmus.model.service import Endpoint, Export

QUIET_SECONDS = 60.0
LOOK_SECONDS = 10.0
UNKNOWN = ClusterId("unknown")
"""Stands for whoever writes into a namespace that belongs to no member."""

SourceKey = tuple[ServiceKey, ClusterId]
Parts = tuple[tuple[str, Refused], ...]
"""What was refused of one object: what it is, and why."""

log = structlog.get_logger()


class Ground(NamedTuple):
    """By what refusals are counted: whose namespace, what was refused, and why.

    `what` is `services` (whole exports), `chunks` (whole objects of endpoints) or `endpoints`.
    """

    namespace: str
    what: str
    reason: str


class Refusals:
    """Follows what was heard. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        clusters: Table[ObjectKey, hub.Cluster],
        exports: Table[ObjectKey, Export | Refused],
        endpoints: Table[ObjectKey, ImportedEndpoints | Refused],
        joined: Table[SourceKey, tuple[Endpoint, ...]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[Ground] = Counter()
        """How many things are refused now; never 0."""
        self._clock = clock
        self._members = Named(clusters, lambda key: hub_namespace(ClusterId(key.name)))
        self._held: dict[str, dict[ObjectKey, Parts]] = {}
        """What is refused, by name of the service (as on the hub) and object."""
        self._crowded: set[SourceKey] = set()
        self._logged: dict[Ground, tuple[float, bool]] = {}
        """When the log last heard that a ground has come, and whether that still stands there."""
        exports.observe(self._on_export)
        endpoints.observe(self._on_endpoints)
        joined.observe(self._on_joined)

    def by_cluster(self) -> dict[ClusterId, dict[str, dict[str, int]]]:
        """How many things are refused: by cluster, what they are, and reason."""
        found: dict[ClusterId, dict[str, dict[str, int]]] = {}
        for ground, count in sorted(self.counts.items()):
            reasons = found.setdefault(self._cluster(ground.namespace), {}).setdefault(ground.what, {})
            reasons[ground.reason] = reasons.get(ground.reason, 0) + count
        return found

    def of_service(self, key: ServiceKey) -> Iterator[RefusedOffer]:
        """What was refused of a service, by cluster."""
        for name, parts in sorted(self._held.get(object_name(key), {}).items()):
            for what, refused in parts:
                yield RefusedOffer(self._cluster(name.namespace), what, refused)
        for service, cluster in sorted(self._crowded):
            if service == key:
                message = f"of one cluster's endpoints under one service {MAX_ENDPOINTS} are heard, no more"
                refused = Refused(reason="TooManyEndpoints", message=message)
                yield RefusedOffer(cluster, "endpoints", refused)

    def _cluster(self, namespace: str) -> ClusterId:
        member = self._members.get(namespace)
        return ClusterId(member.metadata.name) if member is not None else UNKNOWN

    def _on_export(self, key: ObjectKey, _old: object, new: Export | Refused | None) -> None:
        self._hold(key.name, key, (("services", new),) if isinstance(new, Refused) else ())

    def _on_endpoints(self, key: ObjectKey, _old: object, new: ImportedEndpoints | Refused | None) -> None:
        parts: Parts = ()
        if isinstance(new, Refused):
            parts = (("chunks", new),)
        elif new is not None:
            parts = tuple(("endpoints", refused) for refused in new.refused)
        self._hold(key.name.rpartition(".")[0], key, parts)

    def _hold(self, service: str, key: ObjectKey, parts: Parts) -> None:
        """Notes all that is refused of an object now."""
        group = self._held.get(service, {})
        before = group.pop(key, ())
        if parts:
            group[key] = parts
            self._held[service] = group
        elif not group:
            self._held.pop(service, None)
        for what, refused in parts:
            self._count(key, what, refused, refused.count)
        for what, refused in before:
            self._count(key, what, refused, -refused.count)

    def _on_joined(self, key: SourceKey, _old: object, new: tuple[Endpoint, ...] | None) -> None:
        if new is not None and len(new) >= MAX_ENDPOINTS:
            self._crowded.add(key)
        else:
            self._crowded.discard(key)

    def _count(self, key: ObjectKey, what: str, refused: Refused, step: int) -> None:
        ground = Ground(key.namespace, what, refused.reason)
        before = self.counts[ground]
        self.counts[ground] = after = before + step
        if not after:
            del self.counts[ground]
        if bool(before) != bool(after):
            self._tell(ground, (key, refused) if after else None)

    def _tell(self, ground: Ground, found: tuple[ObjectKey, Refused] | None) -> None:
        """Logs that a ground for refusals has come (`found`: one of it) or gone."""
        about = log.bind(cluster=self._cluster(ground.namespace), what=ground.what, reason=ground.reason)
        now = self._clock()
        since, told = self._logged.get(ground, (now - QUIET_SECONDS, False))
        if found is None:
            if told:
                about.info("nothing refused any more")
            self._logged[ground] = since, False
        elif now - since >= QUIET_SECONDS:
            about.warning("refused", object=str(found[0]), first=found[1].message)
            self._logged[ground] = now, True

    async def run(self) -> None:
        """Looks after the log until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.remind()

    def remind(self) -> None:
        """Logs what came back so soon that the log did not hear of it, and is refused still."""
        for ground, (since, told) in list(self._logged.items()):
            if told or self._clock() - since < QUIET_SECONDS:
                continue
            if ground in self.counts:
                self._tell(ground, self._one_of(ground))
            else:
                del self._logged[ground]

    def _one_of(self, ground: Ground) -> tuple[ObjectKey, Refused] | None:
        return next(
            (
                (key, refused)
                for group in self._held.values()
                for key, parts in group.items()
                for what, refused in parts
                if (key.namespace, what, refused.reason) == ground
            ),
            None,
        )
