"""What is told of policies: statuses in the member, and one PolicyReport on the hub for each policy.

A member's own policies have their status from here; those of the hub are reported, and the hub's process sums
up what all members reported (`hubpolicies`). A report also keeps the spec that is in force (`recall`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.agent.acceptance import PolicyKey, named_services, policy_status
from isthmus.agent.chain import Chain, turned
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Derived, Index, Table, derive, on, spread
from isthmus.kube.applier import ObjectRef
from isthmus.kube.raw import Packed, pack
from isthmus.mcs.hubobjects import hub_namespace, policy_report
from isthmus.model.cluster import ClusterView
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.service import Port
from isthmus.traffic.accept import unresolved
from isthmus.traffic.policystatus import policy_conditions, standing_status
from isthmus.traffic.standing import PolicyId, Standing, standings
from isthmus.traffic.words import plan_line
from isthmus.xds.appprotocol import app_protocol

Objects = Mapping[ObjectRef, Packed]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """What this cluster made of one policy."""

    generation: int
    uid: str
    plan: str
    conditions: tuple[dict[str, Any], ...]
    in_force: msgspec.Raw | None
    in_force_generation: int


class PolicyStatuses:
    """`statuses` for the member's API server; `reports` (with the table `desired` of all) for the hub."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._sources = {"member": chain.member.policies, "hub": chain.hub.policies}
        self.standings = self._standings()
        self._at = Index(self.standings, lambda _key, row: row)
        self.states = self._states()
        self.statuses = self._statuses()
        self.reports = self._reports()
        self.desired: Table[ObjectRef, Packed] = Table("policy reports/desired")
        spread(self.reports, self.desired, lambda _key, row: row)
        self.tables: list[Table[Any, Any]] = [self.standings, self.states, self.statuses, self.reports]

    def _standings(self) -> Derived[ServiceKey, Mapping[PolicyId, Standing]]:
        chain = self._chain

        def compute(key: ServiceKey) -> Mapping[PolicyId, Standing] | None:
            service, policies = chain.services.get(key), chain.policies.get(key)
            return standings(service, policies, _speaks) or None if service and policies else None

        return derive("policy standings", on(chain.policies), on(chain.services), compute=compute)

    def _states(self) -> Derived[PolicyKey, PolicyState]:
        chain = self._chain

        def compute(key: PolicyKey) -> PolicyState | None:
            found, row = self._sources[key[0]].get(key[1]), chain.accepted.get(key)
            if found is None or row is None:
                return None
            missing: set[str] = set()
            if row.in_force is not None:
                services = [chain.services.get(name) for name in named_services(row.in_force)] or [None]
                for service in services:
                    missing.update(unresolved(row.in_force, chain.views_by_cluster, service))
            name = _policy_id(key)
            here = {at: self.standings.get(at) for at in self._at.of(name)}
            conditions = policy_conditions(
                found.metadata.generation,
                row.refused,
                older_in_force=row.refused is not None and row.in_force is not None,
                unresolved=sorted(missing),
                standings={at: one[name] for at, one in here.items() if one is not None},
            )
            source = row.source
            return PolicyState(
                generation=found.metadata.generation,
                uid=found.metadata.uid,
                plan=plan_line(row.in_force) if row.in_force is not None else "",
                conditions=tuple(conditions),
                in_force=source.spec if source is not None else None,
                in_force_generation=source.metadata.generation if source is not None else 0,
            )

        def on_standing(
            _key: ServiceKey,
            old: Mapping[PolicyId, Standing] | None,
            new: Mapping[PolicyId, Standing] | None,
        ) -> Iterable[PolicyKey]:
            before, after = old or {}, new or {}
            for name in before.keys() | after.keys():
                if before.get(name) != after.get(name):
                    yield name.origin, ObjectKey(*name.key)

        def on_view(_key: ClusterId, old: ClusterView | None, new: ClusterView | None) -> Iterable[PolicyKey]:
            known = old is not None and new is not None and old.region == new.region
            return () if known else list(chain.accepted)

        return derive(
            "policy states",
            on(chain.accepted),
            on(self._sources["member"], lambda key, _o, _n: (("member", key),)),
            on(self._sources["hub"], lambda key, _o, _n: (("hub", key),)),
            on(self.standings, on_standing),
            on(chain.views, on_view),
            on(chain.services, lambda key, _o, _n: chain.policies_naming(key)),
            compute=compute,
        )

    def _statuses(self) -> Derived[PolicyKey, Objects]:
        """Of this cluster's own policies; those of the hub are the hub's to tell about."""

        def compute(key: PolicyKey) -> Objects | None:
            state = self.states.get(key)
            if state is None or key[0] != "member":
                return None
            told = standing_status(state.generation, state.plan, state.conditions)
            return {ObjectRef(kinds.POLICY, *key[1], "status"): pack(policy_status(key[1], told))}

        return derive("policy statuses", on(self.states), compute=compute)

    def _reports(self) -> Derived[PolicyKey, Objects]:
        chain = self._chain
        cluster = chain.place.cluster

        def compute(key: PolicyKey) -> Objects | None:
            state = self.states.get(key)
            if state is None or chain.standing.withdrawn:
                return None
            wanted = policy_report(
                cluster,
                ServiceKey(*key[1]),
                from_hub=key[0] == "hub",
                uid=state.uid,
                generation=state.generation,
                plan=state.plan,
                conditions=state.conditions,
                in_force=state.in_force,
                in_force_generation=state.in_force_generation,
            )
            name = wanted["metadata"]["name"]
            return {ObjectRef(kinds.POLICY_REPORT, hub_namespace(cluster), name, ""): pack(wanted)}

        return derive(
            "policy reports",
            on(self.states),
            on(chain.membership, lambda _key, old, new: list(self.states) if turned(old, new) else ()),
            compute=compute,
        )


def _speaks(port: Port) -> str:
    return app_protocol(port).value


def _policy_id(key: PolicyKey) -> PolicyId:
    return PolicyId(key[0], ServiceKey(*key[1]))
