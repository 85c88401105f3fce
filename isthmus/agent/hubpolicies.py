"""The statuses of the hub's policies: what every member reported, summed up by the hub's process.

Reports come one by one while a change travels through the members, so that a status is renewed at most every
PAUSE seconds. Who speaks is told by a report's namespace; what others than members say is not counted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from isthmus.agent.acceptance import judged, policy_status
from isthmus.api import hub, kinds
from isthmus.api.meta import Kind, ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Index, Table
from isthmus.kube.applier import ObjectRef
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from isthmus.model.refusal import Refused
from isthmus.traffic.policysum import Report, Told, status
from isthmus.traffic.words import plan_line

PAUSE_SECONDS = 1.0
AT_A_TIME = 10
"""So many statuses are summed up before others get a turn; each is of one report for each member."""
TOLD_POLICY = Kind(
    kinds.POLICY_REPORT.group,
    kinds.POLICY_REPORT.version,
    kinds.POLICY_REPORT.kind,
    kinds.POLICY_REPORT.plural,
    True,
    hub.ToldPolicy,
)
"""PolicyReports without the specs in force, of which there is one for each member and policy."""


class PolicySums:
    """Tables `policies` and `reports` (of the hub's policies) become `desired` statuses."""

    def __init__(self, clusters: Table[ObjectKey, hub.Cluster]) -> None:
        self.policies: Table[ObjectKey, GlobalTrafficPolicy] = Table("policies")
        self.reports: Table[ObjectKey, hub.ToldPolicy] = Table("policy reports")
        self.desired: Table[ObjectRef, dict[str, object]] = Table("desired policy statuses")
        self._clusters = clusters
        self._writer = self.desired.partition("sums")
        self._by_policy = Index(self.reports, lambda _key, row: (_policy(row),))
        self._changed: dict[ObjectKey, None] = {}
        self.policies.follow(lambda key, _old, _new: self._changed.update({key: None}))
        self.reports.follow(lambda _key, old, new: self._changed.update(dict.fromkeys(_policies(old, new))))
        clusters.follow(self._on_cluster)

    async def run(self) -> None:
        """Renews statuses until cancelled."""
        while True:
            more = self.renew()
            await asyncio.sleep(0 if more else PAUSE_SECONDS)

    def renew(self) -> bool:
        """Renews statuses of which something changed, once everything was read. Says whether more are due."""
        if not (self.policies.synced and self.reports.synced and self._clusters.synced):
            return False
        for key in list(itertools.islice(self._changed, AT_A_TIME)):
            del self._changed[key]
            ref = ObjectRef(kinds.POLICY, *key, "status")
            found = self.policies.get(key)
            if found is None:
                self._writer.drop(ref)
            else:
                self._writer.put(ref, self._status(key, found))
        if not self._changed and not self._writer.synced:
            self._writer.complete()
        return bool(self._changed)

    def _on_cluster(self, _key: ObjectKey, old: hub.Cluster | None, new: hub.Cluster | None) -> None:
        if old is None or new is None:
            self._changed.update(dict.fromkeys(self.policies))

    def _status(self, key: ObjectKey, found: GlobalTrafficPolicy) -> dict[str, object]:
        members = [ClusterId(cluster.name) for cluster in self._clusters]
        namespaces = {hub_namespace(name): name for name in members}
        said = {
            namespaces[name.namespace]: row.spec
            for name in self._by_policy.of(key)
            if (row := self.reports.get(name)) is not None
            and name.namespace in namespaces
            and row.spec.uid == found.metadata.uid
        }
        answer = judged(found, "hub")
        if isinstance(answer, Refused):
            refused, plan = answer, next((spec.plan for spec in said.values() if spec.plan), "")
        else:
            refused, plan = None, plan_line(answer)
        reports = {name: _report(spec) for name, spec in said.items()}
        return policy_status(key, status(found.metadata.generation, refused, plan, members, reports))


def _report(spec: hub.ToldPolicySpec) -> Report:
    return Report(
        observed=spec.observed_generation,
        in_force=spec.in_force_generation,
        conditions={
            one.type: Told(status=one.status, reason=one.reason, message=one.message)
            for one in spec.conditions
        },
    )


def _policy(row: hub.ToldPolicy) -> ObjectKey:
    return ObjectKey(row.spec.policy.namespace, row.spec.policy.name)


def _policies(*rows: hub.ToldPolicy | None) -> Iterable[ObjectKey]:
    return (_policy(row) for row in rows if row is not None)
