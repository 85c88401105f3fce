"""Who exports what in a large world: a pure function of its size and a seed.

One service in a hundred is exported by every cluster; the others share what is left of two exports a name on
average. Three exports in a hundred have exactly `SLICE` endpoints, the others share the rest.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property

SLICE = 100
EVERYBODY_PERCENT, LARGE_PERCENT = 1, 3
NAMESPACES = 50
SERVICES_A_CLUSTER, ENDPOINTS_A_SERVICE = 100, 20
OWN = 0
"""Number of the cluster whose agent is measured."""


@dataclass(frozen=True, slots=True)
class Export:
    """One cluster's export of one service; its endpoints have the numbers `first` and following."""

    service: int
    cluster: int
    endpoints: int
    first: int
    everybody: bool


@dataclass(frozen=True)
class Layout:
    """A world by its size; `exports` are in order of service and cluster."""

    clusters: int
    services: int
    endpoints: int
    seed: int = 1
    namespaces: int = field(default=NAMESPACES)

    @classmethod
    def of(cls, clusters: int, services: int | None = None, endpoints: int | None = None) -> Layout:
        """The world of so many clusters; what is not said grows with it: 100 services each, 20 endpoints."""
        services = clusters * SERVICES_A_CLUSTER if services is None else services
        return cls(clusters, services, services * ENDPOINTS_A_SERVICE if endpoints is None else endpoints)

    @cached_property
    def exports(self) -> tuple[Export, ...]:
        chance = random.Random(self.seed)
        everybody = set(chance.sample(range(self.services), max(1, self.services * EVERYBODY_PERCENT // 100)))
        others = self.services - len(everybody)
        left = max(others, 2 * self.services - len(everybody) * self.clusters)
        doubled, each = left % others, left // others
        more = set(chance.sample([n for n in range(self.services) if n not in everybody], doubled))
        pairs: list[tuple[int, int]] = []
        for service in range(self.services):
            count = self.clusters if service in everybody else each + (service in more)
            pairs += [
                (service, one)
                for one in sorted(chance.sample(range(self.clusters), min(count, self.clusters)))
            ]
        large = set(chance.sample(range(len(pairs)), max(2, len(pairs) * LARGE_PERCENT // 100)))
        mean = max(1, (self.endpoints - SLICE * len(large)) // max(1, len(pairs) - len(large)))
        made: list[Export] = []
        first = 0
        for index, (service, cluster) in enumerate(pairs):
            count = SLICE if index in large else chance.randint(1, 2 * mean - 1)
            made.append(Export(service, cluster, count, first, service in everybody))
            first += count
        return tuple(made)

    @cached_property
    def victims(self) -> tuple[Export, ...]:
        """Exports of other clusters with a slice of `SLICE` endpoints, of services that few export."""
        few = tuple(e for e in self.exports if e.endpoints == SLICE and e.cluster != OWN and not e.everybody)
        return few or tuple(e for e in self.exports if e.endpoints == SLICE and e.cluster != OWN)

    @cached_property
    def crowds(self) -> tuple[Export, ...]:
        """Exports like `victims`, of services that every cluster exports."""
        return tuple(e for e in self.exports if e.endpoints == SLICE and e.cluster != OWN and e.everybody)

    def cluster_name(self, number: int) -> str:
        return f"c{number:03}"

    def service_name(self, number: int) -> str:
        return f"svc-{number:05}"

    def namespace_of(self, number: int) -> str:
        return f"team-{number % self.namespaces:02}"
