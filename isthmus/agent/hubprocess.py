"""The hub's process: the members' leases become Cluster states, their reports the statuses of policies.

It merges nothing; every agent derives the same from the same objects. Its loss freezes the states.
"""

from __future__ import annotations

from isthmus.agent import logs  # noqa: F401 - first: it keeps what follows small

# isort: split
import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from isthmus.agent import metrics, process, workerstats
from isthmus.agent.followers import Tally
from isthmus.agent.hubpolicies import TOLD_POLICY, PolicySums
from isthmus.agent.identity import identity
from isthmus.agent.inputs import Source
from isthmus.agent.settings import HubSettings
from isthmus.agent.writing import POLICY_STATUS_KINDS, STATUS_KINDS, Writing, compete
from isthmus.api import core, hub, kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.console import http
from isthmus.errors import PlatformError
from isthmus.fleet import hubrole, states
from isthmus.fleet.heartbeat import LEASE_NAME
from isthmus.flow import Again, Graph, Table, derive, on, pulse, spread
from isthmus.flow.stats import READY, STATS, Stats
from isthmus.kube.applier import ObjectRef
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.kube.lease import LeaseHolder
from isthmus.kube.reflector import Reflector, State
from isthmus.mcs.hubobjects import ON_HUB, hub_namespace
from isthmus.model.names import ClusterId

LEADER = "isthmus-hub"
ASK_AGAIN_SECONDS = 0.5
"""A watch that says nothing is asked no more often whether it has said something."""


class Judge:
    """Tables from Cluster objects and leases to the statuses that should be.

    `last_word` is when (on `clock`, monotonic) the watch of leases last brought anything, a bookmark or
    another cluster's lease: time after it is the watch's silence and not a cluster's.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.last_word: Callable[[], float | None] = clock
        self.clusters: Table[ObjectKey, hub.Cluster] = Table("clusters")
        self.leases: Table[ObjectKey, core.Lease] = Table("leases")
        self.desired: Table[ObjectRef, dict[str, object]] = Table("desired statuses")
        self.listening_since: float | None = None
        self.heard = derive(
            "heard", on(self.leases, _clusters_of), on(self.clusters, _ids), compute=self._hear
        )
        self.statuses = derive(
            "statuses", on(self.heard, _same), on(self.clusters, _ids), compute=self._judge
        )
        spread(
            self.statuses, self.desired, lambda key, row: {ObjectRef(kinds.CLUSTER, "", key, "status"): row}
        )

    def listening(self, state: State) -> None:
        """Hears whether the watch of leases stands; time without it is not the clusters' silence."""
        if not state.live:
            self.listening_since = None
        elif self.listening_since is None:
            self.listening_since = self.clock()
            self.statuses.invalidate([ClusterId(key.name) for key in self.clusters])

    def _hear(self, key: ClusterId) -> states.Heard | None:
        lease = self.leases.get(ObjectKey(hub_namespace(key), LEASE_NAME))
        return states.hear(self.heard.get(key), lease, self.clock())

    def _judge(self, key: ClusterId) -> Again[dict[str, object]] | dict[str, object] | None:
        found = self.clusters.get(ObjectKey("", key))
        if found is None:
            return None
        heard, word = self.heard.get(key), self.last_word()
        until = self.clock() if word is None else word
        verdict = states.judge(heard, listening_since=self.listening_since, now=until)
        row = (
            self.statuses.get(key)
            if verdict.state is None
            else hubrole.cluster_status(found, heard, verdict.state)
        )
        return row if verdict.ask_again is None else Again(row, max(verdict.ask_again, ASK_AGAIN_SECONDS))


def main(settings: HubSettings) -> None:
    """Runs the hub's process until it is told to stop."""
    process.run("hub", lambda: run(settings), level=settings.log_level, style=settings.log_format)


async def run(settings: HubSettings) -> None:
    """Judges until cancelled. Raises ConfigError for credentials that cannot be used."""
    access = load_access(settings.hub_kubeconfig, settings.hub_context)
    judge = Judge()
    sums = PolicySums(judge.clusters)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(access))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        leader = LeaseHolder(client, ObjectKey(settings.namespace, LEADER), identity(None))
        members = judge.clusters.partition("reflector")
        beats = judge.leases.partition("reflector")
        clusters = Reflector(client, kinds.CLUSTER, members)
        leases = Reflector(
            client,
            kinds.LEASE,
            beats,
            label_selector=f"{labels.MANAGED_BY}={labels.MANAGER}",
            on_state=judge.listening,
        )
        policies = sums.policies.partition("reflector")
        reports = sums.reports.partition("reflector")
        policy = Reflector(client, kinds.POLICY, policies)
        report = Reflector(client, TOLD_POLICY, reports, label_selector=f"{labels.POLICY_ORIGIN}={ON_HUB}")
        judge.last_word = leases.last_event
        group.create_task(clusters.run(), name="clusters")
        group.create_task(leases.run(), name="leases")
        group.create_task(policy.run(), name="policies")
        group.create_task(report.run(), name="policy-reports")
        group.create_task(sums.run(), name="policy-sums")
        group.create_task(compete(client, settings.namespace, leader), name="leader")
        group.create_task(Graph([judge.statuses]).run(), name="graph")
        writing = Writing(
            client, "hub", judge.desired, lambda: leader.holds, STATUS_KINDS, left=lambda: leader.left
        )
        group.create_task(writing.run(), name="write")
        telling = Writing(
            client,
            "policies",
            sums.desired,
            lambda: leader.holds,
            POLICY_STATUS_KINDS,
            left=lambda: leader.left,
        )
        group.create_task(telling.run(), name="write-policies")
        servers = metrics.Servers(
            sources=(
                Source("hub/clusters", kinds.CLUSTER, judge.clusters, members, clusters, asyncio.Event()),
                Source("hub/leases", kinds.LEASE, judge.leases, beats, leases, asyncio.Event()),
                Source("hub/policies", kinds.POLICY, sums.policies, policies, policy, asyncio.Event()),
                Source("hub/policyreports", TOLD_POLICY, sums.reports, reports, report, asyncio.Event()),
            ),
            clients={"hub": client},
            writings=(writing, telling),
            leads=lambda: leader.holds,
        )
        group.create_task(_console(judge, servers, settings.console_listen, group), name="console")


async def _console(judge: Judge, servers: metrics.Servers, listen: str, group: asyncio.TaskGroup) -> None:
    """Health and metrics. Raises PlatformError where the address cannot be listened on."""
    registry, counted = CollectorRegistry(), Table[str, bytes](STATS)
    states_now = Tally(judge.clusters, _states)

    def ready() -> bool:
        return judge.clusters.synced and judge.leases.synced

    def not_ready() -> list[str]:
        tables = (judge.clusters, judge.leases)
        return [f"{table.name} is not complete" for table in tables if not table.synced]

    workerstats.collect(counted, registry, (READY, *pulse.METRICS))
    workerstats.show(
        registry,
        metrics.HUB_METRICS,
        lambda: (*metrics.kube(servers), *metrics.clusters_by_state(states_now)),
    )
    stats = Stats("hub", counted, prefix="hub/")
    group.create_task(pulse.publish(stats, tuple, ready), name="stats")
    host, port = process.host_and_port(listen)
    try:
        await http.listen(http.vitals(registry, not_ready), host=host, port=port)
    except OSError as error:
        raise PlatformError(f"--console-listen {listen}: {error.strerror}") from error


def _states(cluster: hub.Cluster) -> Iterable[str]:
    if cluster.spec.drain:
        yield "draining"
    yield cluster.status.state.lower() or "unknown"


def _clusters_of(key: ObjectKey, _old: object, new: core.Lease | None) -> Iterable[ClusterId]:
    """The heartbeat's holder is the cluster's id; whose namespace it is decides whether it counts."""
    if new is not None and key.name == LEASE_NAME and new.spec.holder_identity:
        name = ClusterId(new.spec.holder_identity)
        if hub_namespace(name) == key.namespace:
            yield name


def _ids(key: ObjectKey, _old: object, _new: object) -> Iterable[ClusterId]:
    return (ClusterId(key.name),)


def _same(key: ClusterId, _old: object, _new: object) -> Iterable[ClusterId]:
    return (key,)
