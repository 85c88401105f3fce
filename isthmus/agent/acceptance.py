"""Which form of each policy is in force: the latest that was accepted, here or before this process began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Derived, Priority, Table, derive, on
from isthmus.model.names import ServiceKey
from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.model.refusal import Refused
from isthmus.traffic.accept import accept

PolicyKey = tuple[str, ObjectKey]
"""Origin (`member` or `hub`) and object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedPolicy:
    """What became of a policy object: the last accepted form stays in force when a newer one is refused.

    `source` is the object in that form.
    """

    in_force: Policy | None
    refused: Refused | None = None
    source: GlobalTrafficPolicy | None = None


def judged(found: GlobalTrafficPolicy, origin: Literal["member", "hub"]) -> Policy | Refused:
    """The policy that an object states, refused also where nothing can be rendered that proxies take."""
    answer = accept(found, origin)
    if isinstance(answer, Refused) or answer.doors == DEFAULT_POLICY.doors:
        return answer
    from isthmus.xds.settings import refusal  # not needed for a first plan without policies

    return refusal(answer.doors) or answer


def accepted_policies(
    member: Table[ObjectKey, GlobalTrafficPolicy],
    hub: Table[ObjectKey, GlobalTrafficPolicy],
    remembered: Table[PolicyKey, GlobalTrafficPolicy],
) -> Derived[PolicyKey, AcceptedPolicy]:
    """Every policy, of the member and of the hub; `remembered` are forms that were in force before."""

    def compute(key: PolicyKey) -> AcceptedPolicy | None:
        origin: Literal["member", "hub"] = "hub" if key[0] == "hub" else "member"
        found = (hub if origin == "hub" else member).get(key[1])
        if found is None:
            return None
        answer = judged(found, origin)
        if not isinstance(answer, Refused):
            return AcceptedPolicy(in_force=answer, source=found)
        before = table.get(key)
        for kept in (before.source if before else None, remembered.get(key)):
            older = _earlier(found, kept)
            if older is not None and isinstance(value := judged(older, origin), Policy):
                return AcceptedPolicy(in_force=value, refused=answer, source=older)
        return AcceptedPolicy(in_force=None, refused=answer)

    table = derive(
        "accepted policies",
        on(member, lambda key, _o, _n: (("member", key),), priority=Priority.POLICY),
        on(hub, lambda key, _o, _n: (("hub", key),), priority=Priority.POLICY),
        on(remembered, priority=Priority.POLICY),
        compute=compute,
    )
    return table


def _earlier(found: GlobalTrafficPolicy, kept: GlobalTrafficPolicy | None) -> GlobalTrafficPolicy | None:
    """The object with the spec that was kept of it, None where that is of another object of the same name."""
    if kept is None or kept.metadata.uid != found.metadata.uid:
        return None
    head = msgspec.structs.replace(found.metadata, generation=kept.metadata.generation)
    return GlobalTrafficPolicy(metadata=head, spec=kept.spec)


def policy_status(key: ObjectKey, status: Mapping[str, Any]) -> dict[str, Any]:
    """What is applied to a policy's status subresource, by a member's agent or by the hub's process."""
    return {
        "apiVersion": kinds.POLICY.api_version,
        "kind": kinds.POLICY.kind,
        "metadata": {"namespace": key.namespace, "name": key.name},
        "status": status,
    }


def named_services(policy: Policy | None) -> Iterable[ServiceKey]:
    """Services a policy names: its targets, or the one of its own name."""
    if policy is None or policy.selector is not None:
        return ()
    return {target.service for target in policy.targets} or (policy.key,)


def selecting_namespaces(policy: Policy | None) -> Iterable[str]:
    """The namespace whose services a policy selects."""
    return () if policy is None or policy.selector is None else (policy.key.namespace,)
