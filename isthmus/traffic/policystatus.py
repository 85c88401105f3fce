"""What is told on a policy's status: whether it is accepted, where it holds, and what the doors make of it.

The reasons and types follow the Gateway API's policy conditions (Accepted, ResolvedRefs); InForce and
DoorFidelity are our own. Invariant: nothing here depends on health, so a status changes when objects do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isthmus.model.names import ServiceKey
from isthmus.model.refusal import Refused
from isthmus.traffic.fidelity import Gap
from isthmus.traffic.standing import Lost, PolicyId, Standing

TYPES = ("Accepted", "ResolvedRefs", "InForce", "DoorFidelity")
_MESSAGE_LIMIT = 4096
_NAMED = 3
"""So many services are named in a message; the others are counted."""

Standings = Mapping[ServiceKey, Standing]


def policy_conditions(
    generation: int,
    refused: Refused | None,
    *,
    older_in_force: bool,
    unresolved: Sequence[str] = (),
    standings: Standings | None = None,
) -> list[dict[str, Any]]:
    """The conditions of a GlobalTrafficPolicy, without their times.

    `older_in_force`: the object was accepted in an earlier form, which holds until this one is mended.
    `unresolved` is what the policy names and nobody has, in words (see `accept.unresolved`). `standings`: its
    standing at each service that it speaks of.
    """
    told = [_accepted(refused, older_in_force=older_in_force), _resolved(unresolved)]
    if refused is not None and not older_in_force:
        told += [
            ("InForce", "False", "NotAccepted", "No form of it was accepted yet."),
            ("DoorFidelity", "Unknown", "NotAccepted", "No form of it was accepted yet."),
        ]
    else:
        told += [_in_force(standings or {}), _fidelity(standings or {})]
    return [{**_condition(one), "observedGeneration": generation} for one in told]


def standing_status(generation: int, plan: str, conditions: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What every status of a policy says, whoever writes it; `plan` is the ladder on one line."""
    return {"observedGeneration": generation, "plan": plan, "conditions": list(conditions)}


def accepted_condition(refused: Refused | None, *, older_in_force: bool) -> dict[str, Any]:
    """The condition Accepted alone, without its time and generation."""
    return _condition(_accepted(refused, older_in_force=older_in_force))


Told = tuple[str, str, str, str]
"""Type, status, reason, message."""


def _condition(told: Told) -> dict[str, Any]:
    kind, status, reason, message = told
    return {"type": kind, "status": status, "reason": reason, "message": message[:_MESSAGE_LIMIT]}


def _accepted(refused: Refused | None, *, older_in_force: bool) -> Told:
    if refused is None:
        return ("Accepted", "True", "Accepted", "The policy is valid.")
    then = " The last accepted form stays in force." if older_in_force else ""
    return ("Accepted", "False", refused.reason, f"{refused.message.rstrip('.')}.{then}")


def _resolved(unresolved: Sequence[str]) -> Told:
    if not unresolved:
        return ("ResolvedRefs", "True", "ResolvedRefs", "")
    return ("ResolvedRefs", "False", "RefNotFound", f"The clusterset does not have: {', '.join(unresolved)}.")


def _in_force(standings: Standings) -> Told:
    """Where the policy holds; the loser names the winner."""
    holds = {key: standing for key, standing in standings.items() if standing.holds}
    losing = {key: standing for key, standing in standings.items() if standing.lost}
    if not holds and not losing:
        return ("InForce", "False", "NoService", "No service that it speaks of is in the clusterset.")
    parts = []
    if holds:
        names = (key.name + _ports(one.holds if one.lost else ()) for key, one in sorted(holds.items()))
        parts.append(f"Holds for {_listed(names)}.")
    if losing:
        words = (words for key, one in sorted(losing.items()) for words in _losses(key, one))
        parts.append(f"Overruled for {_listed(words, '; ')}.")
    reason = "PartlyOverruled" if holds and losing else "InForce" if holds else "Overruled"
    return ("InForce", "True" if holds else "False", reason, " ".join(parts))


def _losses(key: ServiceKey, standing: Standing) -> Iterable[str]:
    by_winner: dict[tuple[PolicyId, str], list[Lost]] = {}
    for lost in standing.lost:
        by_winner.setdefault((lost.to, lost.why), []).append(lost)
    whole = len(by_winner) == 1 and not standing.holds
    for (winner, why), entries in by_winner.items():
        ports = _ports(() if whole else tuple(lost.port for lost in entries))
        yield f"{key.name}{ports} by {winner} ({why})"


def _fidelity(standings: Standings) -> Told:
    where: dict[Gap, list[str]] = {}
    holds = False
    for key, standing in sorted(standings.items()):
        holds = holds or bool(standing.holds)
        for gap in standing.gaps:
            where.setdefault(gap, []).append(key.name)
    if not holds:
        return ("DoorFidelity", "Unknown", "NotInForce", "It holds for no service.")
    if not where:
        return ("DoorFidelity", "True", "Exact", "Every door can express it.")
    # One line where all gaps concern the same services, as with a policy of one service.
    everywhere = len({tuple(names) for names in where.values()}) == 1
    by_door: dict[str, list[str]] = {}
    for gap, names in sorted(where.items()):
        words = gap.what if everywhere else f"{gap.what} ({_listed(names)})"
        by_door.setdefault(gap.door, []).append(words)
    head = f"{_listed(next(iter(where.values())))}: " if everywhere else ""
    told = "; ".join(f"{door} {', '.join(found)}" for door, found in by_door.items())
    return ("DoorFidelity", "False", "Approximated", f"{head}{told}.")


def _ports(ports: Sequence[str]) -> str:
    return f" ({', '.join(port or 'as a whole' for port in ports)})" if ports else ""


def _listed(names: Iterable[str], between: str = ", ") -> str:
    found = list(names)
    more = f"{between}and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return between.join(found[:_NAMED]) + more
