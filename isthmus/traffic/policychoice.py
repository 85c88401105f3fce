"""Which accepted policy speaks for a service port (traffic-semantics, section 2, precedence).

Invariant: the order is total, so that every agent that sees the same policies follows the same one.
"""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.model.policy import DEFAULT_POLICY, Policy
from isthmus.model.service import Port, Service

_SECTION, _NAME, _SELECTOR = range(3)
_HUB, _MEMBER, _YIELDING = range(3)


def choose(policies: Iterable[Policy], service: Service, port: Port | None) -> Policy:
    """The policy in force for the port, or (None) for the service as a whole; without one, the default."""
    speakers = ranked(policies, service, port)
    return speakers[0] if speakers else DEFAULT_POLICY


def ranked(policies: Iterable[Policy], service: Service, port: Port | None) -> tuple[Policy, ...]:
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

    def rank(speaker: tuple[int, Policy]) -> tuple[int, int, float, str]:
        specificity, policy = speaker
        level = _MEMBER
        if policy.origin == "hub":
            level = _YIELDING if policy.overridable and member_speaks else _HUB
        return level, specificity, policy.created, policy.key.name

    return tuple(policy for _, policy in sorted(speakers, key=rank))


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
