"""Transitions in words: (old, new) becomes a sentence, "" where people need not hear of it.

Pure. A sentence says what changed for whom; times, subjects and numbers are added by who tells it.
"""

from __future__ import annotations

from isthmus.model.cluster import ClusterView
from isthmus.model.health import Verdict
from isthmus.model.names import ClusterId
from isthmus.model.plan import Plan, PlanKey
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused

SILENT = "is Unknown: silent, and nothing of it is Up from here"
NOWHERE = "nowhere: no endpoint can serve"


def plan_subject(key: PlanKey) -> str:
    """Whose traffic: service, port and place of its callers."""
    place = f"{key.vantage.cluster}/{key.vantage.zone}" if key.vantage.zone else key.vantage.cluster
    return f"{key.service} {key.port} from {place}".replace("  ", " ")


def plan_sentence(old: Plan | None, new: Plan | None) -> str:
    """Shares that moved between clusters; panic; a policy that took over."""
    if new is None:
        return "" if old is None else "is no longer served"
    after = _shares(new)
    if old is None:
        return f"goes to {_spread(after)}"
    before = _shares(old)
    parts = []
    if before != after:
        parts.append(_moves(before, after) if before and after else f"goes to {_spread(after)}")
    if new.panic and not old.panic:
        parts.append("panic: nothing counts as healthy, so everything does")
    if old.panic and not new.panic:
        parts.append("panic is over")
    if new.policy != old.policy:
        parts.append(f"now follows {new.policy or 'the default policy'}")
    return "; ".join(parts)


def verdict_sentence(old: Verdict | None, new: Verdict | None) -> str:
    """An endpoint that went Down, or came back."""
    was, is_ = (None if row is None else row.up for row in (old, new))
    if is_ is False and was is not False and new is not None:
        return f"is Down: {new.reason}" if new.reason else "is Down"
    return "is Up again" if is_ is True and was is False else ""


def cluster_sentence(old: ClusterView | None, new: ClusterView | None) -> str:
    """A cluster that came, went, fell silent, spoke again, or is being drained."""
    if new is None:
        return "" if old is None else "has left the clusterset"
    if old is None:
        return "has joined the clusterset"
    parts = []
    if new.unknown != old.unknown:
        parts.append(
            "is Unknown: silent, and nothing of it is Up from here" if new.unknown else "is known again"
        )
    if new.draining != old.draining:
        parts.append("is being drained" if new.draining else "is no longer drained")
    if new.region != old.region:
        parts.append(f"is now in region {new.region or '(none)'}")
    return "; ".join(parts)


def policy_sentence(
    old: tuple[Policy | None, Refused | None] | None, new: tuple[Policy | None, Refused | None] | None
) -> str:
    """A policy's acceptance: (the form in force, why the newest form was refused)."""
    if new is None:
        return "" if old is None else "was deleted"
    if old == new:
        return ""
    in_force, refused = new
    if refused is not None:
        stays = "; its last accepted form stays in force" if in_force is not None else ""
        return f"was refused ({refused.reason}): {refused.message}{stays}"
    return "is accepted" if old is None or old[0] is None else "is accepted as changed"


def _shares(plan: Plan) -> dict[ClusterId, int]:
    """Basis points by cluster."""
    found: dict[ClusterId, int] = {}
    for group in plan.shares:
        found[group.locality.cluster] = found.get(group.locality.cluster, 0) + group.basis_points
    return found


def _spread(shares: dict[ClusterId, int]) -> str:
    return ", ".join(f"{cluster} {_percent(shares[cluster])}" for cluster in sorted(shares)) or NOWHERE


def _moves(before: dict[ClusterId, int], after: dict[ClusterId, int]) -> str:
    return ", ".join(
        f"{cluster} {_percent(before.get(cluster, 0))} -> {_percent(after.get(cluster, 0))}"
        for cluster in sorted({*before, *after})
        if before.get(cluster, 0) != after.get(cluster, 0)
    )


def _percent(points: int) -> str:
    return f"{points / 100:g}%"
