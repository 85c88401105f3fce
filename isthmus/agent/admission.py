"""Which of the other clusters' exports this cluster may import: those of members, that are for it.

Invariants: what lies in the namespace of a cluster that is no member (it has no Cluster object) counts for
nothing; an export whose audience (`isthmus.dev/export-to`) does not name this cluster takes no part in
anything here: no merge, no plan, no import. The hub shows it all the same; an audience is an order, not a
secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isthmus.api.meta import ObjectKey
from isthmus.flow import Index, Table
from isthmus.model.cluster import Cluster
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Export


class Admission:
    """The exports heard of other clusters, by service, as far as they are for cluster `me`.

    `clusters`: the members.
    """

    def __init__(
        self,
        heard: Table[ObjectKey, Export | Refused],
        clusters: Table[ClusterId, Cluster],
        me: ClusterId,
        region: str,
    ) -> None:
        self._heard = heard
        self._clusters = clusters
        self._me = me
        self._region = region
        self._by_service = Index(heard, lambda _key, row: (row.key,) if isinstance(row, Export) else ())
        self._by_cluster = Index(heard, lambda _key, row: (row.cluster,) if isinstance(row, Export) else ())
        self._restricted = Index(heard, _limited)

    def admitted(self, key: ServiceKey) -> list[Export]:
        """What other clusters export of a service to this one."""
        return [export for export in self._of(key) if self._admits(export)]

    def withheld(self, key: ServiceKey) -> tuple[ClusterId, ...]:
        """Clusters that export a service, and not to this one."""
        return tuple(sorted(export.cluster for export in self._of(key) if not self._admits(export)))

    @property
    def services(self) -> Iterable[ServiceKey]:
        """Everything that anybody exports."""
        return self._by_service.groups()

    def concerned(self, cluster: ClusterId, old: object, new: object) -> Iterable[ServiceKey]:
        """Services that a change of a Cluster concerns.

        Those it exports, where it joined or left; those with an audience, where it is our own.
        """
        if cluster == self._me:
            return list(self._restricted.groups())
        if (old is None) == (new is None):
            return ()
        rows = [self._heard.get(name) for name in self._by_cluster.of(cluster)]
        return {row.key for row in rows if isinstance(row, Export)}

    def _of(self, key: ServiceKey) -> Iterator[Export]:
        for name in self._by_service.of(key):
            row = self._heard.get(name)
            if isinstance(row, Export) and row.cluster != self._me and row.cluster in self._clusters:
                yield row

    def _admits(self, export: Export) -> bool:
        if export.audience is None:
            return True
        own = self._clusters.get(self._me)
        region, labels = (own.region, dict(own.labels)) if own is not None else (self._region, {})
        return export.audience.admits(self._me, region, labels)


def _limited(_key: ObjectKey, row: Export | Refused) -> Iterable[ServiceKey]:
    return (row.key,) if isinstance(row, Export) and row.audience is not None else ()
