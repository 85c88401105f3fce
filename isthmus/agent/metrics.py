"""What control tells monitoring about the whole house, read from its parts when it is asked.

Where things happen a number is counted up and nothing else; names and texts are made here. Labels are closed
sets, but for `cluster`: there are as many as members that something is wrong or full with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from isthmus.agent.chain import Chain
from isthmus.agent.followers import Tally
from isthmus.agent.inputs import Source
from isthmus.agent.writing import Writing
from isthmus.flow import Graph, Priority, Table
from isthmus.flow.replica import Publisher
from isthmus.flow.stats import Metric, Sample
from isthmus.kube.client import Client
from isthmus.model.plan import Plan
from isthmus.model.service import Export, Service

CONFLICTS: Final = (
    "PortConflict",
    "TypeConflict",
    "SessionAffinityConflict",
    "SessionAffinityConfigConflict",
    "InternalTrafficPolicyConflict",
    "TrafficDistributionConflict",
    "IPFamilyConflict",
    "LabelsConflict",
    "AnnotationsConflict",
)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=name, help=text, kind="gauge", labels=labels)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=name, help=text, labels=labels)


ROWS = _gauge("isthmus_flow_table_rows", "Rows of each table.", "table")
SYNCED = _gauge("isthmus_flow_table_synced", "1 where the table holds everything it should.", "table")
UNTAKEN = _gauge(
    "isthmus_flow_table_pending_keys",
    "Changed keys that the table's slowest follower has not taken.",
    "table",
)
COMPUTED = _counter("isthmus_flow_computations", "Rows computed, by table.", "table")
FAILING = _gauge(
    "isthmus_flow_failing_keys", "Keys that cannot be computed; their last value serves.", "table"
)
DIRTY = _gauge("isthmus_flow_dirty_keys", "Keys that wait to be computed, by priority.", "priority")
STALE = _gauge(
    "isthmus_flow_source_stale_seconds", "For how long a source has failed; 0: it is heard.", "table"
)

REQUESTS = _counter(
    "isthmus_kube_requests",
    "Requests to API servers; code 0: no answer. A series is there from its first request on.",
    "server",
    "verb",
    "resource",
    "code",
)
OBJECTS = _gauge("isthmus_kube_objects", "Objects held of what is watched.", "table")
LISTS = _counter("isthmus_kube_lists", "Whole lists taken.", "table")
WATCHES = _counter("isthmus_kube_watches", "Watches opened.", "table")
FAILURES = _counter("isthmus_kube_watch_failures", "Lists and watches that ended in an error.", "table")
MALFORMED = _counter("isthmus_kube_objects_malformed", "Objects left out: they cannot be read.", "table")
SILENCE = _gauge(
    "isthmus_kube_last_event_seconds", "Since when the server has said nothing; -1: never.", "table"
)
WRITES = _counter(
    "isthmus_kube_writes",
    "Writes that an API server took (`accepted`) or not (`failed`), by the writer that keeps the objects.",
    "writer",
    "kind",
    "result",
)
QUEUED = _gauge("isthmus_kube_queue_keys", "Objects that wait to be compared or written.", "writer")
OLDEST = _gauge("isthmus_kube_queue_oldest_seconds", "How long the oldest due of them has waited.", "writer")
WITHHELD = _gauge("isthmus_kube_refused_objects", "Desired objects that cannot be written now.", "writer")
LEASE = _gauge("isthmus_kube_lease_held", "1 where this replica writes for the cluster.")

EXPORTS = _gauge("isthmus_mcs_exports", "This cluster's exports that are offered or refused.", "state")
SERVICES = _gauge("isthmus_mcs_services", "Services of the clusterset.")
IN_CONFLICT = _gauge("isthmus_mcs_conflicts", "Services whose exports disagree, by reason.", "reason")
REFUSED = _gauge(
    "isthmus_mcs_refused",
    "What is refused of another cluster now: services, chunks (objects of endpoints) or endpoints. "
    "A series is there while it is not 0.",
    "cluster",
    "what",
    "reason",
)
FILLED = _gauge(
    "isthmus_mcs_quota_used_ratio", "How full a cluster's quota is, by what it is fullest of.", "cluster"
)
HUB_LIVE = _gauge("isthmus_fleet_hub_live", "1 where what is heard of the hub is current.")
CLUSTERS = _gauge("isthmus_fleet_clusters", "Clusters, by how they are seen from here.", "state")

PLANS = _gauge("isthmus_traffic_plans", "Plans, by state.", "state")
REPLANS = _counter("isthmus_traffic_replans", "Plans computed.")

DOOR_ROWS = _gauge("isthmus_doors_rows", "Rows rendered for door workers.", "door")
DOOR_LAG = _gauge("isthmus_doors_pending_rows", "Changed rows that the slowest worker was not sent.", "door")
WORKERS = _gauge("isthmus_doors_workers", "Door workers that are connected.")
EXPECTED = _gauge("isthmus_doors_workers_expected", "Door workers that there should be.")

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of these; control tells them."""
HUB_METRICS: Final = (
    REQUESTS,
    STALE,
    OBJECTS,
    LISTS,
    WATCHES,
    FAILURES,
    MALFORMED,
    SILENCE,
    WRITES,
    QUEUED,
    OLDEST,
    WITHHELD,
    LEASE,
    CLUSTERS,
)
"""Those that the hub's process tells."""

PLAN_STATES: Final = ("all", "panic", "empty", "wavering")
CLUSTER_STATES: Final = ("ready", "unknown", "draining")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What a process reads from API servers and writes to them; `clients` by server."""

    sources: tuple[Source, ...]
    clients: Mapping[str, Client]
    writings: tuple[Writing, ...]
    leads: Callable[[], bool]
    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The parts of control."""

    servers: Servers
    chain: Chain
    graph: Graph
    publisher: Publisher
    doors: Mapping[str, Table[str, bytes]]
    workers: tuple[str, ...]
    live: Callable[[], bool]


def reader(house: House) -> Callable[[], Iterable[Sample]]:
    """A function that reads all there is to tell. What follows tables is set up once, here."""
    chain = house.chain
    plans = Tally(chain.plans, _plan_states)
    conflicts = Tally(chain.services, _conflicts)
    exports = Tally(chain.own_exports, lambda row: ("offered" if isinstance(row, Export) else "refused",))
    clusters = Tally(
        chain.views,
        lambda row: [word for word in ("unknown", "draining") if getattr(row, word)] or ("ready",),
    )

    def read() -> Iterator[Sample]:
        yield from _flow(house)
        yield from kube(house.servers)
        yield from _by(EXPORTS, exports, ("offered", "refused"))
        yield _one(SERVICES, len(chain.services))
        yield from _by(IN_CONFLICT, conflicts, CONFLICTS)
        for cluster, parts in chain.refusals.by_cluster().items():
            for what, reasons in parts.items():
                for reason, count in reasons.items():
                    yield _one(REFUSED, count, cluster, what, reason)
        for cluster, load in chain.quotas.loads.items():
            yield _one(FILLED, chain.quotas.quota.used(load), cluster)
        yield _one(HUB_LIVE, house.live())
        yield from clusters_by_state(clusters)
        yield from _by(PLANS, {**plans, "all": len(chain.plans)}, PLAN_STATES)
        yield _one(REPLANS, chain.plans.computed)
        for door, table in house.doors.items():
            yield _one(DOOR_ROWS, len(table), door)
            yield _one(DOOR_LAG, table.pending, door)
        yield _one(WORKERS, len(house.publisher.workers))
        yield _one(EXPECTED, len(house.workers))

    return read


def _flow(house: House) -> Iterator[Sample]:
    tables: dict[str, Table[Any, Any]] = {table.name: table for table in house.graph.tables}
    tables |= {source.name: source.table for source in house.servers.sources}
    for name, table in tables.items():
        yield _one(ROWS, len(table), name)
        yield _one(SYNCED, table.synced, name)
        yield _one(UNTAKEN, table.pending, name)
    for derived in house.graph.tables:
        yield _one(COMPUTED, derived.computed, derived.name)
        yield _one(FAILING, len(derived.failures), derived.name)
    for priority in Priority:
        waiting = sum(derived.waiting(priority) for derived in house.graph.tables)
        yield _one(DIRTY, waiting, priority.name.lower())


def kube(servers: Servers) -> Iterator[Sample]:
    """What a process has to do with API servers."""
    for server, client in servers.clients.items():
        for (verb, resource, code), count in client.requests.items():
            yield _one(REQUESTS, count, server, verb, resource, str(code))
    now, wall = servers.clock(), servers.wall()
    for source in servers.sources:
        state, since = source.reflector.state, source.writer.stale_since
        yield _one(STALE, 0.0 if since is None else max(0.0, wall - since), source.name)
        yield _one(OBJECTS, len(source.writer), source.name)
        yield _one(LISTS, state.lists, source.name)
        yield _one(WATCHES, state.watches, source.name)
        yield _one(FAILURES, state.failures, source.name)
        yield _one(MALFORMED, state.malformed, source.name)
        yield _one(SILENCE, -1 if state.last_event is None else now - state.last_event, source.name)
    for writing in servers.writings:
        applier, name = writing.applier, writing.name
        for observed in writing.observed:
            kind = observed.kind.kind
            yield _one(WRITES, applier.written[kind], name, kind, "accepted")
            yield _one(WRITES, applier.failed[kind], name, kind, "failed")
        yield _one(QUEUED, applier.waiting, name)
        yield _one(OLDEST, applier.oldest, name)
        yield _one(WITHHELD, len(applier.refused), name)
    yield _one(LEASE, servers.leads())


def clusters_by_state(counts: Mapping[str, int]) -> Iterator[Sample]:
    """How many clusters are in each state."""
    return _by(CLUSTERS, counts, CLUSTER_STATES)


def _plan_states(plan: Plan) -> Iterable[str]:
    if plan.panic:
        yield "panic"
    if not plan.shares:
        yield "empty"
    if plan.wavering:
        yield "wavering"


def _conflicts(service: Service) -> Iterable[str]:
    return {conflict.reason for conflict in service.conflicts}


def _by(metric: Metric, counts: Mapping[str, int], words: Iterable[str]) -> Iterator[Sample]:
    for word in words:
        yield _one(metric, counts.get(word, 0), word)


def _one(metric: Metric, number: float, *labels: str) -> Sample:
    return Sample(metric, labels, (float(number),))
