"""Why a plan looks as it does, as rows for people (`isthmus explain`).

Invariant: explains the very reckoning that the doors draw; it computes nothing of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from isthmus.model.names import Locality
from isthmus.model.plan import TOTAL_BASIS_POINTS, PlanGroup
from isthmus.model.policy import Policy
from isthmus.model.service import Port, Service
from isthmus.traffic.ladder import Rung
from isthmus.traffic.planner import Reckoning
from isthmus.traffic.policychoice import because, ranked
from isthmus.traffic.standing import policy_id
from isthmus.traffic.words import match_words


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step of the ladder: `health` and `share` in percent of all callers' traffic."""

    step: int
    tier: str
    clusters: tuple[str, ...]
    healthy: int
    total: int
    health: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """One endpoint: `share` in percent of all callers' traffic; `reason` where it gets none."""

    cluster: str
    endpoint: str
    place: str
    state: str
    step: int | None
    share: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverruledRow:
    """A policy that speaks of the port too and does not hold; `why` is in words about the one that does."""

    policy: str
    why: str


def explain_overruled(policies: Iterable[Policy], service: Service, port: Port | None) -> list[OverruledRow]:
    """The policies that would hold if the one in force did not, the next one first."""
    speakers = ranked(policies, service, port)
    return [
        OverruledRow(policy=str(policy_id(policy)), why=because(speakers[0][0], rank))
        for rank, policy in speakers[1:]
    ]


def explain_steps(reckoning: Reckoning) -> list[StepRow]:
    """The ladder from the first step to the last."""
    rows = []
    for step, (rung, load) in enumerate(zip(reckoning.ladder.rungs, reckoning.split.loads, strict=True)):
        groups = [reckoning.census.groups[place] for place in rung.localities]
        healthy = sum(len(group.healthy) for group in groups)
        rows.append(
            StepRow(
                step=step,
                tier=_tier_words(rung, reckoning.policy),
                clusters=tuple(sorted({place.cluster for place in rung.localities})),
                healthy=healthy,
                total=healthy + sum(len(group.unhealthy) for group in groups),
                health=_percent(load.health),
                share=_percent(load.share),
            )
        )
    return rows


def explain_endpoints(reckoning: Reckoning) -> list[EndpointRow]:
    """Every endpoint of the service: those with a share first, those left out last."""
    made = reckoning.plan
    rows: list[EndpointRow] = []
    for groups, why in (
        (made.shares, ""),
        (made.standby, "standby: the steps before it take everything"),
        (made.unhealthy, "its probe, or all canaries of its cluster, say Down"),
        (made.draining, "draining: old sessions only"),
    ):
        rows += [row for group in groups for row in _group_rows(group, reckoning, why)]
    for entry in made.left_out:
        rows.append(
            EndpointRow(
                cluster=entry.cluster,
                endpoint=entry.endpoint,
                place="",
                state="left out",
                step=None,
                share=0.0,
                reason=entry.reason,
            )
        )
    return rows


def _group_rows(group: PlanGroup, reckoning: Reckoning, why: str) -> list[EndpointRow]:
    states = _states(reckoning, group.locality)
    share = 100 * group.basis_points / TOTAL_BASIS_POINTS / len(group.backends)
    return [
        EndpointRow(
            cluster=backend.cluster,
            endpoint=backend.id,
            place=str(group.locality),
            state=states[backend.id],
            step=group.step,
            share=share,
            reason=why,
        )
        for backend in group.backends
    ]


def _states(reckoning: Reckoning, place: Locality) -> dict[str, str]:
    group = reckoning.census.groups[place]
    return {
        backend.id: state
        for state, backends in (
            ("healthy", group.healthy),
            ("unhealthy", group.unhealthy),
            ("draining", group.draining),
        )
        for backend in backends
    }


def _tier_words(rung: Rung, policy: Policy) -> str:
    words = "fallback" if rung.tier is None else match_words(policy.tiers[rung.tier].match)
    if rung.standby:
        words += ", standbys"
    return f"{words}, unknown clusters" if rung.deprioritised else words


def _percent(part: Fraction) -> float:
    return float(100 * part)
