"""Where each policy stands at one service: what it holds there, and to whom it lost the rest.

Invariant: says what `policychoice.choose` decides, for every port and for the service as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from isthmus.model.names import ServiceKey
from isthmus.model.policy import Policy
from isthmus.model.service import Port, Service
from isthmus.traffic.fidelity import Gap, Speaks, gaps
from isthmus.traffic.policychoice import because, ranked


class PolicyId(NamedTuple):
    """Where a policy was written (`member` or `hub`), and its namespace and name."""

    origin: str
    key: ServiceKey

    def __str__(self) -> str:
        return f"{self.origin} {self.key}"


class Lost(NamedTuple):
    """A port ("" the service as a whole) that another policy holds, and why that one goes first."""

    port: str
    to: PolicyId
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Ports that the policy holds by name, those it lost, and what the doors cannot express of it there."""

    holds: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    gaps: tuple[Gap, ...] = ()


def standings(service: Service, policies: Iterable[Policy], speaks: Speaks) -> Mapping[PolicyId, Standing]:
    """The standing of each policy that speaks of the service or of one of its ports."""
    policies = tuple(policies)
    held: dict[PolicyId, list[Port | None]] = {}
    lost: dict[PolicyId, list[Lost]] = {}
    values: dict[PolicyId, Policy] = {}
    for port in (None, *service.ports):
        speakers = ranked(policies, service, port)
        for rank, policy in speakers:
            name = policy_id(policy)
            values[name] = policy
            if policy is speakers[0][1]:
                held.setdefault(name, []).append(port)
            else:
                winner_rank, winner = speakers[0]
                entry = Lost(_label(port), policy_id(winner), because(winner_rank, rank))
                lost.setdefault(name, []).append(entry)
    return {
        name: Standing(
            holds=tuple(_label(port) for port in held.get(name, ())),
            lost=tuple(lost.get(name, ())),
            gaps=_gaps(policy, service, held.get(name, ()), speaks),
        )
        for name, policy in values.items()
    }


def policy_id(policy: Policy) -> PolicyId:
    """What tells one policy from all others."""
    return PolicyId(policy.origin, policy.key)


def _gaps(policy: Policy, service: Service, held: Sequence[Port | None], speaks: Speaks) -> tuple[Gap, ...]:
    ports = tuple(port for port in held if port is not None)
    return gaps(policy, service, ports, speaks) if held else ()


def _label(port: Port | None) -> str:
    return "" if port is None else port.given_name
