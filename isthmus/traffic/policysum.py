"""What all members made of a policy of the hub, summed up for its status.

Invariant: a member counts as following the policy only where it says that the latest form is in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.model.names import ClusterId
from isthmus.model.refusal import Refused
from isthmus.traffic.policystatus import TYPES, accepted_condition, standing_status

MAX_CLUSTERS = 500
MAX_TEXT = 256
_NAMED = 3
_RANK = {"False": 0, "Unknown": 1, "True": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One condition of a member's report."""

    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a member says of the policy; `in_force` is the generation that holds there, 0 where none does."""

    observed: int
    in_force: int
    conditions: Mapping[str, Told]


def status(
    generation: int,
    refused: Refused | None,
    plan: str,
    members: Sequence[ClusterId],
    reports: Mapping[ClusterId, Report],
) -> dict[str, Any]:
    """The status of a hub policy, conditions without their times.

    `refused` is the hub's own look at the object, `plan` the ladder in force on one line.
    `reports` are those of the members that told of this very object (its uid).
    """
    followers = [_cluster(name, generation, reports.get(name)) for name in sorted(members)]
    applied = sum(entry["applied"] for entry in followers)
    followers.sort(key=lambda entry: (entry["applied"], entry["cluster"]))
    older = refused is not None and any(report.in_force for report in reports.values())
    here = {name: reports[name] for name in sorted(members) if name in reports}
    conditions = [accepted_condition(refused, older_in_force=older)]
    conditions += [_summed(kind, here) for kind in TYPES if kind != "Accepted"]
    told = ({**one, "observedGeneration": generation} for one in conditions)
    return {
        **standing_status(generation, plan, told),
        "applied": f"{applied}/{len(members)}",
        "clusters": followers[:MAX_CLUSTERS],
    }


def _cluster(name: ClusterId, generation: int, report: Report | None) -> dict[str, Any]:
    """Whether a member follows the latest form, or why it does not."""
    why, applied = _why(generation, report)
    return {
        "cluster": name,
        "applied": applied,
        "generation": report.in_force if report is not None else 0,
        "reason": why.reason,
        "message": why.message[:MAX_TEXT],
    }


def _why(generation: int, report: Report | None) -> tuple[Told, bool]:
    if report is None:
        text = "Nothing was reported yet: its agent is silent, or does not know policy reports."
        return Told(status="False", reason="NoReport", message=text), False
    if report.observed != generation:
        text = f"It has not seen generation {generation} yet."
        return Told(status="False", reason="Pending", message=text), False
    accepted, in_force = report.conditions.get("Accepted"), report.conditions.get("InForce")
    if accepted is None or accepted.status != "True":
        return accepted or Told(status="False", reason="NotAccepted", message=""), False
    if in_force is None:
        return Told(status="False", reason="NotInForce", message=""), False
    return in_force, in_force.status == "True"


def _summed(kind: str, reports: Mapping[ClusterId, Report]) -> dict[str, Any]:
    """The worst of what members say, with every different message and who says it."""
    said: dict[Told, list[ClusterId]] = {}
    for name, report in reports.items():
        if (told := report.conditions.get(kind)) is not None:
            said.setdefault(told, []).append(name)
    if not said:
        return _condition(kind, Told(status="Unknown", reason="NoReport", message="No member reported yet."))
    ordered = sorted(said, key=lambda told: (_RANK.get(told.status, 1), -len(said[told]), told.message))
    worst = ordered[0]
    if len(ordered) == 1:
        return _condition(kind, worst)
    parts = [f"{_names(said[told])}: {told.message[:MAX_TEXT] or told.reason}" for told in ordered[:_NAMED]]
    if len(ordered) > _NAMED:
        parts.append(f"and {len(ordered) - _NAMED} other answers")
    return _condition(kind, Told(status=worst.status, reason=worst.reason, message="; ".join(parts)))


def _condition(kind: str, told: Told) -> dict[str, Any]:
    return {"type": kind, "status": told.status, "reason": told.reason, "message": told.message}


def _names(clusters: Iterable[ClusterId]) -> str:
    found = list(clusters)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
