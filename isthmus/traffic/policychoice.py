"""Which accepted policy speaks for a service port (traffic-semantics, section 2, precedence).

Invariant: the order is total, so that every agent that sees the same policies follows the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.model.service import Port, Service

_SECTION, _NAME, _SELECTOR = range(3)
_HUB, _MEMBER, _YIELDING = range(3)


class Rank(NamedTuple):
    """Where a policy stands among those that speak for a port; the smallest holds."""

    level: int
    specificity: int
    created: float
    name: str


def choose(policies: Iterable[Policy], service: Service, port: Port | None) -> Policy:
    """The policy in force for the port, or (None) for the service as a whole; without one, the default."""
    speakers = ranked(policies, service, port)
    return speakers[0][1] if speakers else DEFAULT_POLICY


def ranked(
    policies: Iterable[Policy], service: Service, port: Port | None
) -> tuple[tuple[Rank, Policy], ...]:
    """Every policy that speaks for the port, the one in force first; each later one is overruled by it.

    Hub policies come first, except overridable ones where a member's own policy speaks as well; then the more
    specific, the older, the name.
    """
    speakers = [
        (specificity, policy)
        for policy in policies
        if (specificity := _specificity(policy, service, port)) is not None
    ]
    member_speaks = any(policy.origin == "member" for _, policy in speakers)

    def rank(specificity: int, policy: Policy) -> Rank:
        level = _MEMBER
        if policy.origin == "hub":
            level = _YIELDING if policy.overridable and member_speaks else _HUB
        return Rank(level, specificity, policy.created, policy.key.name)

    found = ((rank(specificity, policy), policy) for specificity, policy in speakers)
    return tuple(sorted(found, key=lambda speaker: speaker[0]))


def because(winner: Rank, loser: Rank) -> str:
    """Why one policy goes before another, in words about the winner."""
    if winner.level != loser.level:
        return "a policy of the hub goes first" if winner.level == _HUB else "the hub's is overridable"
    if winner.specificity != loser.specificity:
        return "it names the port" if winner.specificity == _SECTION else "it names the service"
    if winner.created != loser.created:
        return "it is older"
    return "its name comes first"


def _specificity(policy: Policy, service: Service, port: Port | None) -> int | None:
    """How closely a policy names the port, smaller is closer; None where it does not speak of it."""
    if policy.key.namespace != service.key.namespace:
        return None
    found: int | None = None
    for target in policy.targets:
        if target.service != service.key:
            continue
        if not target.section:
            found = _NAME if found is None else min(found, _NAME)
        elif port is not None and target.section == port.name:
            found = _SECTION
    if found is None and policy.selector is not None and policy.selector.matches(dict(service.labels)):
        return _SELECTOR
    return found
