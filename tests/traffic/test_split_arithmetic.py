"""The arithmetic of shares by itself: falling loads, weights, largest remainders."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.names import ClusterId, Locality
from isthmus.model.plan import TOTAL_BASIS_POINTS
from isthmus.traffic.ladder import Rung
from isthmus.traffic.split import Counts, basis_points, fall, split


def place(name: str, zone: str = "") -> Locality:
    return Locality(ClusterId(name), "eu", zone)


def rung(*places: Locality, **weights: int) -> Rung:
    return Rung(tier=0, localities=places, weights={ClusterId(name): w for name, w in weights.items()})


@given(st.lists(st.integers(min_value=0, max_value=1000), max_size=6))
def test_load_falls_without_loss(percents: list[int]) -> None:
    health = [Fraction(min(p, 100), 100) for p in percents]
    loads = fall(health)
    assert sum(loads) == (1 if any(health) else 0)
    assert all(not load or part for load, part in zip(loads, health, strict=True))


@pytest.mark.parametrize(
    ("health", "loads"),
    [
        (["1", "1"], ["1", "0"]),
        (["7/10", "1"], ["7/10", "3/10"]),
        (["7/10", "1/10", "1"], ["7/10", "1/10", "1/5"]),
        (["1/4", "1/4"], ["1/2", "1/2"]),
        (["0", "0"], ["0", "0"]),
        ([], []),
    ],
)
def test_each_step_takes_what_it_can_of_what_is_left(health: list[str], loads: list[str]) -> None:
    assert fall([Fraction(h) for h in health]) == [Fraction(load) for load in loads]


@given(
    st.dictionaries(
        st.sampled_from([place(name, zone) for name in "abcdef" for zone in "12"]),
        st.integers(min_value=1, max_value=10**6),
        min_size=1,
    )
)
def test_rounding_is_exact_and_off_by_less_than_one_point(pulls: dict[Locality, int]) -> None:
    whole = sum(pulls.values())
    shares = {where: Fraction(pull, whole) for where, pull in pulls.items()}
    points = basis_points(pulls)
    assert sum(points.values()) == TOTAL_BASIS_POINTS
    assert all(points.values())
    raised = sum(1 for share in shares.values() if share * TOTAL_BASIS_POINTS < 1)
    for where, share in shares.items():
        assert abs(points[where] - share * TOTAL_BASIS_POINTS) < 1 + raised


def test_a_tie_of_remainders_goes_to_the_first_by_cluster_region_and_zone() -> None:
    thirds = {place(name): 1 for name in "cab"}
    assert basis_points(thirds) == {place("a"): 3334, place("b"): 3333, place("c"): 3333}


def test_a_tiny_share_gets_one_point_from_the_largest() -> None:
    pulls = {place("a"): 99_999, place("b"): 99_999, place("c"): 2}
    assert basis_points(pulls) == {place("a"): 4999, place("b"): 5000, place("c"): 1}


def test_seventy_stay_and_thirty_go() -> None:
    near, far = place("a"), place("b")
    divided = split([rung(near), rung(far)], {near: Counts(2, 2, 0), far: Counts(4, 0, 0)}, {}, 140)
    assert divided.shares == {near: Fraction(7, 10), far: Fraction(3, 10)}
    assert not divided.panic


def test_weights_hold_between_clusters_and_not_between_zones() -> None:
    counts = {place("a", "1"): Counts(3, 0, 0), place("a", "2"): Counts(1, 0, 0), place("b"): Counts(9, 0, 0)}
    divided = split([rung(*counts, a=75, b=25)], counts, {}, 140)
    assert divided.shares == {
        place("a", "1"): Fraction(9, 16),
        place("a", "2"): Fraction(3, 16),
        place("b"): Fraction(1, 4),
    }


def test_expected_endpoints_do_not_apply_in_panic() -> None:
    near, far = place("a"), place("b")
    counts = {near: Counts(0, 1, 0), far: Counts(0, 5, 0)}
    divided = split([rung(near), rung(far)], counts, {ClusterId("a"): 100}, 140)
    assert divided.panic
    assert divided.shares == {near: Fraction(1)}


def test_expected_endpoints_of_an_empty_cluster_add_nothing() -> None:
    near, far = place("a"), place("b")
    counts = {near: Counts(0, 0, 3), far: Counts(2, 0, 0)}
    divided = split([rung(near, far)], counts, {ClusterId("a"): 100}, 140)
    assert divided.shares == {far: Fraction(1)}


def test_endpoints_in_zones_beyond_the_ladder_count_as_present() -> None:
    near, other, far = place("a", "1"), place("a", "2"), place("b")
    counts = {near: Counts(2, 0, 0), other: Counts(2, 0, 0), far: Counts(4, 0, 0)}
    divided = split([rung(near), rung(far)], counts, {ClusterId("a"): 4}, 140)
    assert divided.shares == {near: Fraction(1)}


def test_an_empty_ladder_gives_an_empty_split_without_panic() -> None:
    divided = split([], {}, {}, 140)
    assert divided.shares == {}
    assert not divided.panic
    assert basis_points({}) == {}
