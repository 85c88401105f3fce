"""The properties of traffic-semantics, section 6, that concern the plan alone: 1, 2, 3, 5 and 7."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st
from worlds import World, worlds

from isthmus.model.plan import TOTAL_BASIS_POINTS, Plan, PlanGroup
from isthmus.model.service import Endpoint
from isthmus.traffic.ladder import matcher
from isthmus.traffic.planner import Reckoning


def groups_of(plan: Plan) -> list[PlanGroup]:
    return [*plan.shares, *plan.standby, *plan.unhealthy, *plan.draining]


def step_share(reckoning: Reckoning, endpoint: Endpoint) -> Fraction:
    """The exact share of the endpoint's tier."""
    for rung, load in zip(reckoning.ladder.rungs, reckoning.split.loads, strict=True):
        for place in rung.localities:
            if (place.cluster, place.region, place.zone) == (
                endpoint.cluster,
                endpoint.region,
                endpoint.zone,
            ):
                return load.share
    return Fraction(0)


def endpoints_of(world: World) -> list[Endpoint]:
    return [endpoint for members in world.endpoints.values() for endpoint in members]


@given(worlds())
def test_shares_sum_to_the_whole_when_anything_on_the_ladder_can_serve(world: World) -> None:
    reckoning = world.reckon()
    on_ladder = bool(groups_of(reckoning.plan))
    assert on_ladder == bool(reckoning.ladder.rungs)
    total = sum(group.basis_points for group in reckoning.plan.shares)
    assert total == (TOTAL_BASIS_POINTS if on_ladder else 0)
    assert sum(reckoning.split.shares.values()) == (1 if on_ladder else 0)
    assert all(group.basis_points > 0 for group in reckoning.plan.shares)


@given(worlds())
def test_nothing_left_out_is_drawn_and_every_endpoint_is_accounted_for_once(world: World) -> None:
    plan = world.reckon().plan
    drawn = [(b.cluster, b.id) for group in groups_of(plan) for b in group.backends]
    left_out = [(entry.cluster, entry.endpoint) for entry in plan.left_out]
    assert sorted(drawn + left_out) == sorted((e.cluster, e.id) for e in endpoints_of(world))
    assert all(entry.reason for entry in plan.left_out)


@given(worlds(), st.randoms(use_true_random=False))
def test_permuting_inputs_changes_nothing(world: World, random: Random) -> None:
    names = list(world.endpoints)
    random.shuffle(names)
    views = list(world.clusters.items())
    random.shuffle(views)
    exports = list(world.service.exports)
    random.shuffle(exports)
    shuffled = replace(
        world,
        service=replace(world.service, exports=tuple(exports)),
        endpoints={name: random.sample(world.endpoints[name], len(world.endpoints[name])) for name in names},
        clusters=dict(views),
    )
    assert shuffled.reckon().plan == world.reckon().plan


@given(worlds())
def test_planning_twice_changes_nothing(world: World) -> None:
    assert world.reckon().plan == world.reckon().plan


@given(worlds(), st.data())
def test_an_endpoint_that_turns_unhealthy_never_raises_its_tiers_share(
    world: World, data: st.DataObject
) -> None:
    ready = [endpoint for endpoint in endpoints_of(world) if endpoint.ready]
    assume(ready)
    chosen = data.draw(st.sampled_from(ready))
    up, down = world.turned(chosen, up=True).reckon(), world.turned(chosen, up=False).reckon()
    assume(not up.plan.panic and not down.plan.panic)
    assert step_share(down, chosen) <= step_share(up, chosen)


@given(worlds())
def test_without_fallback_nothing_outside_the_tiers_ever_gets_traffic(world: World) -> None:
    world = replace(world, policy=replace(world.policy, fallback_any=False))
    plan = world.reckon().plan
    for group in groups_of(plan):
        assert any(
            matcher(tier.match, world.clusters, world.vantage)(group.locality) for tier in world.policy.tiers
        )


@given(worlds(), st.data())
def test_killing_whole_clusters_never_causes_panic_while_another_has_a_healthy_endpoint(
    world: World, data: st.DataObject
) -> None:
    dead = data.draw(st.sets(st.sampled_from(sorted(world.endpoints))))
    before = world.reckon()
    survivors = {
        place.cluster
        for rung in before.ladder.rungs
        for place in rung.localities
        if place.cluster not in dead and before.census.groups[place].healthy
    }
    assume(survivors)
    plan = world.with_dead(dead).reckon().plan
    assert not plan.panic
    drawn = {backend.cluster for group in plan.shares for backend in group.backends}
    assert drawn <= {cluster for cluster in world.endpoints if cluster not in dead}


@given(worlds())
def test_panic_is_entered_only_when_nothing_on_the_ladder_is_healthy(world: World) -> None:
    reckoning = world.reckon()
    groups = [reckoning.census.groups[place] for rung in reckoning.ladder.rungs for place in rung.localities]
    assert reckoning.plan.panic == (bool(groups) and not any(group.healthy for group in groups))
    if reckoning.plan.panic:
        assert not reckoning.plan.unhealthy
        assert not reckoning.plan.draining


@given(worlds())
def test_endpoints_of_one_cluster_within_a_tier_have_equal_exact_shares(world: World) -> None:
    reckoning = world.reckon()
    each: dict[tuple[str, int], set[Fraction]] = {}
    for group in reckoning.plan.shares:
        share = reckoning.split.shares[group.locality] / len(group.backends)
        each.setdefault((group.locality.cluster, group.step), set()).add(share)
    assert all(len(shares) == 1 for shares in each.values())


@given(worlds())
def test_a_group_stands_on_one_step_and_steps_are_in_ladder_order(world: World) -> None:
    reckoning = world.reckon()
    places = [place for rung in reckoning.ladder.rungs for place in rung.localities]
    assert len(places) == len(set(places))
    for groups in (reckoning.plan.shares, reckoning.plan.standby, reckoning.plan.unhealthy):
        steps = [group.step for group in groups]
        assert steps == sorted(steps)
