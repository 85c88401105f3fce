"""Section 2 of traffic-semantics: who stands on which step, standbys, fallback and unknown clusters."""

from __future__ import annotations

from typing import Any

import pytest
from worked_cases import policy_object

from isthmus.model.cluster import ClusterView
from isthmus.model.names import ClusterId, Locality, Vantage
from isthmus.model.policy import Policy
from isthmus.traffic.accept import accept
from isthmus.traffic.ladder import Ladder, build_ladder, tells_apart

HERE = Vantage("eu", "z1", ClusterId("a"))
PLACES = [
    Locality(ClusterId("a"), "eu", "z1"),
    Locality(ClusterId("a"), "eu", "z2"),
    Locality(ClusterId("b"), "eu", "z1"),
    Locality(ClusterId("c"), "us", "z1"),
    Locality(ClusterId("d"), "", ""),
]


def ladder(
    spec: dict[str, Any], vantage: Vantage = HERE, *, unknown: str = "", labels: str = "", region: str = ""
) -> Ladder:
    policy = accept(policy_object(spec), "member")
    assert isinstance(policy, Policy), policy
    views = {
        ClusterId(name): ClusterView(
            id=ClusterId(name),
            region=region,
            unknown=name in unknown,
            labels=(("gold", "yes"),) if name in labels else (),
        )
        for name in "abcd"
    }
    return build_ladder(policy, vantage, views, PLACES)


def steps(built: Ladder) -> list[str]:
    """Each step as the names of its groups: `a1` is cluster a, zone z1."""
    return [" ".join(p.cluster + p.zone[1:] for p in rung.localities) for rung in built.rungs]


def test_without_a_policy_the_own_cluster_comes_first_then_its_region_then_all() -> None:
    assert steps(ladder({})) == ["a1 a2", "b1", "c1 d"]


def test_locality_puts_the_own_zone_first_even_in_another_cluster() -> None:
    assert steps(ladder({"strategy": "Locality"})) == ["a1 b1", "a2", "c1 d"]


def test_zones_of_the_same_name_in_other_regions_are_other_zones() -> None:
    tiers = [{"match": {"scope": "SameZone"}}]
    assert steps(ladder({"tiers": tiers})) == ["a1 b1"]


def test_an_unknown_zone_or_region_equals_no_other() -> None:
    nowhere = Vantage("", "", ClusterId("d"))
    assert steps(ladder({"strategy": "Locality"}, nowhere)) == ["d", "a1 a2 b1 c1"]
    tiers = [{"match": {"scope": "SameRegion"}}, {"match": {"scope": "SameZone"}}]
    assert steps(ladder({"tiers": tiers}, nowhere)) == []


def test_a_caller_without_a_region_stands_in_its_clusters() -> None:
    caller = Vantage("", "", ClusterId("d"))
    tiers = [{"match": {"scope": "SameRegion"}}]
    assert steps(ladder({"tiers": tiers}, caller, region="us")) == ["c1"]


def test_locality_with_targets_stays_among_them() -> None:
    built = ladder({"strategy": "Locality", "targets": [{"cluster": "c"}, {"region": "eu"}]})
    assert steps(built) == ["a1 b1", "a2", "c1"]
    assert [place.cluster for place in built.outside] == ["d"]


def test_fail_over_puts_the_own_cluster_first_listed_or_not() -> None:
    targets = [{"cluster": "c"}, {"cluster": "a"}, {"cluster": "b"}]
    assert steps(ladder({"strategy": "FailOver", "targets": targets})) == ["a1 a2", "c1", "b1"]
    assert steps(ladder({"strategy": "FailOver", "targets": targets[:1]})) == ["a1 a2", "c1"]


def test_targets_without_priority_are_a_tier_each_and_equal_priorities_share_one() -> None:
    targets = [
        {"cluster": "b", "priority": 5},
        {"cluster": "d", "priority": 1},
        {"region": "us", "priority": 5},
    ]
    assert steps(ladder({"strategy": "FailOver", "targets": targets})) == ["a1 a2", "d", "b1 c1"]


def test_a_fallback_stands_behind_everything_and_takes_the_rest() -> None:
    spec = {"tiers": [{"match": {"clusters": ["c"]}}], "fallback": "Any"}
    built = ladder(spec)
    assert steps(built) == ["c1", "a1 a2 b1 d"]
    assert built.rungs[-1].tier is None
    assert not built.outside


def test_clusters_are_selected_by_the_labels_of_their_objects() -> None:
    selector = {"matchExpressions": [{"key": "gold", "operator": "Exists"}]}
    tiers = [{"match": {"clusterSelector": selector}}]
    assert steps(ladder({"tiers": tiers}, labels="bd")) == ["b1 d"]


def test_standbys_stand_right_behind_their_tier() -> None:
    weights = [{"cluster": "a", "weight": 5}, {"cluster": "b", "weight": 0}]
    tiers = [
        {"match": {"clusters": ["a", "b", "d"]}, "weights": weights},
        {"match": {"scope": "Any"}},
    ]
    built = ladder({"tiers": tiers})
    assert steps(built) == ["a1 a2", "b1 d", "c1"]
    assert [rung.standby for rung in built.rungs] == [False, True, False]


def test_groups_of_unknown_clusters_go_behind_the_last_known_step_in_the_same_order() -> None:
    built = ladder({"fallback": "Any"}, unknown="bd")
    assert steps(built) == ["a1 a2", "c1", "b1", "d"]
    assert [rung.deprioritised for rung in built.rungs] == [False, False, True, True]


def test_unknown_clusters_never_leave_the_ladder_nor_enter_it() -> None:
    targets = [{"cluster": "b"}, {"cluster": "c"}]
    built = ladder({"strategy": "FailOver", "targets": targets}, unknown="bd")
    assert steps(built) == ["a1 a2", "c1", "b1"]


def test_the_own_cluster_is_never_unknown() -> None:
    assert steps(ladder({}, unknown="a")) == ["a1 a2", "b1", "c1 d"]


def test_when_all_remote_clusters_of_the_ladder_are_unknown_nothing_moves() -> None:
    assert steps(ladder({}, unknown="bcd")) == ["a1 a2", "b1", "c1 d"]
    targets = [{"cluster": "b"}]
    spec = {"strategy": "ActiveActive", "targets": [*targets, {"cluster": "a"}]}
    assert steps(ladder(spec, unknown="b")) == ["a1 a2 b1"]


def test_keep_leaves_unknown_clusters_where_they_are() -> None:
    assert steps(ladder({"onClusterUnknown": "Keep"}, unknown="b")) == ["a1 a2", "b1", "c1 d"]


def test_a_cluster_without_an_object_is_a_known_one() -> None:
    policy = accept(policy_object({}), "member")
    assert isinstance(policy, Policy)
    assert steps(build_ladder(policy, HERE, {}, PLACES)) == ["a1 a2", "b1", "c1 d"]


@pytest.mark.parametrize(
    ("spec", "zone", "region"),
    [
        ({}, False, True),
        ({"strategy": "Locality"}, True, True),
        ({"strategy": "Locality", "targets": [{"cluster": "a"}]}, True, True),
        ({"strategy": "ActiveActive"}, False, False),
        ({"tiers": [{"match": {"regions": ["eu"]}}, {"match": {"scope": "SameRegion"}}]}, False, True),
        ({"tiers": [{"match": {"scope": "SameCluster"}}], "fallback": "Any"}, False, False),
    ],
)
def test_places_that_no_tier_tells_apart_have_one_ladder(
    spec: dict[str, Any], zone: bool, region: bool
) -> None:
    policy = accept(policy_object(spec), "member")
    assert isinstance(policy, Policy)
    for other, apart in ((HERE._replace(zone="z2"), zone), (HERE._replace(region="us"), region)):
        assert tells_apart(policy, HERE, other) is apart
        assert (ladder(spec) == ladder(spec, other)) is not apart
