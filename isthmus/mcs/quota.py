"""How much one cluster may offer, and which of its services are too many.

A cluster's services are counted in the order of their age, as the exports say it themselves (ties by name),
and as many as fit are heard; all younger ones are refused. So the answer follows from the objects alone: it
is the same in every agent, whatever arrived first, and nothing that one cluster says costs another anything.
The limits are beyond what Kubernetes supports in one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from isthmus.model.names import ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Endpoint, Export

_EXPORT_BYTES = 256
_ENDPOINT_BYTES = 64
_PORT_BYTES = 64
_ADDRESS_BYTES = 16

Age = tuple[float, ServiceKey]
"""Place of a service in its cluster's order: creation time and name."""


class Load(NamedTuple):
    """What something weighs. `bytes` is reckoned from its texts and counts, alike in every agent."""

    services: int = 0
    endpoints: int = 0
    bytes: int = 0

    def plus(self, other: Load) -> Load:
        return Load(
            self.services + other.services, self.endpoints + other.endpoints, self.bytes + other.bytes
        )

    def minus(self, other: Load) -> Load:
        return Load(
            self.services - other.services, self.endpoints - other.endpoints, self.bytes - other.bytes
        )


NOTHING = Load()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The most that one cluster may offer; the same in all agents of a clusterset."""

    services: int = 10_000
    endpoints: int = 150_000
    bytes: int = 64 << 20

    def used(self, load: Load) -> float:
        """How full it is, by what it is fullest of; above 1 some is refused."""
        return max(load.services / self.services, load.endpoints / self.endpoints, load.bytes / self.bytes)

    def exceeded(self, load: Load) -> str:
        """What there is too much of, in words; "" where the load fits."""
        for what, held, most in (
            ("services", load.services, self.services),
            ("endpoints", load.endpoints, self.endpoints),
            ("bytes", load.bytes, self.bytes),
        ):
            if held > most:
                return f"more than {most} {what}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surplus:
    """`first` is the oldest service of a cluster that is too many; it and all younger ones are refused."""

    first: Age
    why: str

    def refuses(self, export: Export) -> Refused | None:
        """Why the export is refused, None where it fits."""
        if age(export) < self.first:
            return None
        message = (
            f"{export.cluster} offers {self.why}, which is all that one cluster may: "
            "its younger services are not heard; export fewer"
        )
        return Refused(reason="QuotaExceeded", message=message)


def surplus(offers: Mapping[Age, Load], quota: Quota) -> Surplus | None:
    """Where a cluster's services, each with its load, exceed the quota; None where they fit."""
    held = NOTHING
    for place in sorted(offers):
        held = held.plus(offers[place])
        if why := quota.exceeded(held):
            return Surplus(first=place, why=why)
    return None


def age(export: Export) -> Age:
    """The export's place in its cluster's order."""
    return export.created, export.key


def export_load(export: Export) -> Load:
    """What an export weighs without its endpoints."""
    texts = sum(len(key) + len(value) for key, value in (*export.labels, *export.annotations))
    return Load(services=1, bytes=_EXPORT_BYTES + _PORT_BYTES * len(export.ports) + texts)


def endpoints_load(endpoints: Iterable[Endpoint]) -> Load:
    """What these endpoints weigh."""
    count = size = 0
    for one in endpoints:
        count += 1
        size += len(one.id) + len(one.hostname) + len(one.node) + _ADDRESS_BYTES * len(one.addresses)
    return Load(endpoints=count, bytes=size + _ENDPOINT_BYTES * count)
