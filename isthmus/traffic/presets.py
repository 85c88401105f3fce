"""What a strategy stands for: its tiers (traffic-semantics, section 2, the table of forms).

Invariant: what a strategy cannot mean (a weight under Locality, a priority under ActiveActive, a tier that
can never take a share) is a flaw that names its field, never a silent guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

from isthmus.model.names import ClusterId
from isthmus.model.policy import Match, Scope, Tier

_CASCADE = (Scope.SAME_ZONE, Scope.SAME_CLUSTER, Scope.SAME_REGION, Scope.ANY)


class Flaw(ValueError):
    """A policy that states something meaningless: the reason in one word, the field, and why."""

    def __init__(self, reason: str, field: str, why: str) -> None:
        self.reason = reason
        self.message = f"{field}: {why}"
        super().__init__(self.message)


class PresetTarget(NamedTuple):
    """One entry of `targets`: a cluster or a region, as written."""

    cluster: ClusterId | None
    region: str | None
    weight: int | None
    priority: int | None


def resolve_strategy(
    strategy: Literal["Locality", "FailOver", "ActiveActive"], targets: Sequence[PresetTarget]
) -> tuple[Tier, ...]:
    """The tiers a strategy stands for; raises Flaw."""
    _check_targets(targets)
    match strategy:
        case "Locality":
            return _locality(targets)
        case "FailOver":
            return _fail_over(targets)
        case "ActiveActive":
            return _active_active(targets)
        case _:
            assert_never(strategy)


def _check_targets(targets: Sequence[PresetTarget]) -> None:
    """Each target names one cluster or one region, each of them once, and weighs only clusters."""
    seen: set[tuple[str | None, str | None]] = set()
    for index, target in enumerate(targets):
        path = f"spec.targets[{index}]"
        if (target.cluster is None) == (target.region is None):
            raise Flaw("TargetKey", path, "needs exactly one of cluster and region")
        name = (target.cluster, target.region)
        if name in seen:
            raise Flaw("Duplicate", path, f"{target.cluster or target.region} is already a target")
        seen.add(name)
        if target.weight is not None and target.cluster is None:
            raise Flaw("MisplacedWeight", f"{path}.weight", "is for clusters, not for regions")


def _locality(targets: Sequence[PresetTarget]) -> tuple[Tier, ...]:
    """From near to far, among the targets only where there are any."""
    _forbid_weights(targets, "Locality")
    _forbid_priorities(targets, "Locality")
    within = _match(targets) if targets else None
    return tuple(Tier(match=Match(scope=scope, within=within)) for scope in _CASCADE)


def _fail_over(targets: Sequence[PresetTarget]) -> tuple[Tier, ...]:
    """The own cluster first, then one tier per priority; without priorities, each target its own tier."""
    given = [index for index, target in enumerate(targets) if target.priority is not None]
    if given and len(given) < len(targets):
        lacking = next(index for index, target in enumerate(targets) if target.priority is None)
        raise Flaw(
            "MisplacedPriority", f"spec.targets[{lacking}].priority", "must be on all targets or on none"
        )
    by_priority: dict[int, list[tuple[int, PresetTarget]]] = {}
    for index, target in enumerate(targets):
        priority = index if target.priority is None else target.priority
        by_priority.setdefault(priority, []).append((index, target))
    tiers = [Tier(match=Match(scope=Scope.SAME_CLUSTER))]
    tiers += [_weighed(members) for _, members in sorted(by_priority.items())]
    return tuple(tiers)


def _active_active(targets: Sequence[PresetTarget]) -> tuple[Tier, ...]:
    """All at once, by weight where weights are given; without targets, every cluster."""
    _forbid_priorities(targets, "ActiveActive")
    if not targets:
        return (Tier(match=Match(scope=Scope.ANY)),)
    return (_weighed(list(enumerate(targets))),)


def _weighed(members: Sequence[tuple[int, PresetTarget]]) -> Tier:
    """One tier of these targets; weights are on all of them or on none, and not all zero."""
    weights: list[tuple[ClusterId, int]] = []
    lacking: list[int] = []
    for index, target in members:
        if target.weight is None or target.cluster is None:
            lacking.append(index)
        else:
            weights.append((target.cluster, target.weight))
    if weights and lacking:
        path = f"spec.targets[{lacking[0]}].weight"
        raise Flaw("MisplacedWeight", path, "must be on all targets of a tier or on none")
    if weights and not any(weight for _, weight in weights):
        raise Flaw("AllWeightsZero", f"spec.targets[{members[0][0]}].weight", "all weights of its tier are 0")
    return Tier(match=_match([target for _, target in members]), weights=tuple(sorted(weights)))


def _match(targets: Sequence[PresetTarget]) -> Match:
    return Match(
        clusters=frozenset(t.cluster for t in targets if t.cluster is not None),
        regions=frozenset(t.region for t in targets if t.region is not None),
    )


def _forbid_weights(targets: Sequence[PresetTarget], strategy: str) -> None:
    for index, target in enumerate(targets):
        if target.weight is not None:
            field = f"spec.targets[{index}].weight"
            raise Flaw("MisplacedWeight", field, f"has no meaning with strategy {strategy}")


def _forbid_priorities(targets: Sequence[PresetTarget], strategy: str) -> None:
    for index, target in enumerate(targets):
        if target.priority is not None:
            field = f"spec.targets[{index}].priority"
            raise Flaw("MisplacedPriority", field, f"has no meaning with strategy {strategy}")
