"""Properties of drawing members from shares."""

from __future__ import annotations

from fractions import Fraction
from math import floor, sqrt

from hypothesis import given
from hypothesis import strategies as st

from isthmus.dns import draw

WHOLE = 10_000


@st.composite
def groups(made: st.DrawFn) -> list[tuple[int, int]]:
    """Groups with a share, at least one basis point each, summing to the whole."""
    count = made(st.integers(1, 6))
    cuts = sorted(made(st.sets(st.integers(1, WHOLE - 1), min_size=count - 1, max_size=count - 1)))
    points = [high - low for low, high in zip([0, *cuts], [*cuts, WHOLE], strict=True)]
    return [(share, made(st.integers(1, 40))) for share in points]


def exact(given_groups: list[tuple[int, int]]) -> list[Fraction]:
    """Each member's share."""
    return [Fraction(points, WHOLE * n) for points, n in given_groups for _ in range(n)]


@given(groups(), st.integers(0, 2**64 - 1))
def test_a_draw_has_k_distinct_members_that_exist(held: list[tuple[int, int]], number: int) -> None:
    shares = draw.shares(held)
    picked = draw.pick(shares, number)
    assert len(picked) == len(set(picked)) == shares.size
    assert all(0 <= member < sum(n for _, n in held) for member in picked)


@given(groups())
def test_k_is_at_most_eight_all_members_and_one_over_the_largest_share(held: list[tuple[int, int]]) -> None:
    n = sum(count for _, count in held)
    size = draw.shares(held).size
    allowed = min(8, n, floor(1 / max(exact(held))))
    # Basis points are rounded: shares that are equal but for that are taken as equal, and all are named.
    spread = max(exact(held)) - min(exact(held))
    assert size == allowed or (size == n <= 8 and spread <= Fraction(2, WHOLE))


@given(groups(), st.integers(0, 2**32 - 1))
def test_a_member_is_included_with_k_times_its_share_exactly(held: list[tuple[int, int]], low: int) -> None:
    """Over an even grid of the upper half of the seed, inclusion is off by less than one step of the grid."""
    shares = draw.shares(held)
    steps = 512
    seen = [0] * sum(n for _, n in held)
    for step in range(steps):
        for member in draw.pick(shares, ((step << 32) // steps << 32) | low):
            seen[member] += 1
    wanted = exact(held)
    if shares.size == len(wanted):
        wanted = [Fraction(1, len(wanted))] * len(wanted)
    for count, share in zip(seen, wanted, strict=True):
        assert abs(count - shares.size * share * steps) < 2


@given(groups(), st.integers(0, 2**32 - 1))
def test_whoever_is_in_an_answer_is_first_as_often_as_any_other(
    held: list[tuple[int, int]], high: int
) -> None:
    shares = draw.shares(held)
    steps = shares.size * 16
    first = [draw.pick(shares, (high << 32) | ((2 * step + 1) << 31) // steps)[0] for step in range(steps)]
    assert {first.count(member) for member in first} == {16}


def test_equal_shares_of_up_to_eight_are_named_whole() -> None:
    for n in range(1, 9):
        assert sorted(draw.pick(draw.shares([(WHOLE, n)]), draw.seed(b"v", "10.0.0.1", n))) == list(range(n))


def test_shares_that_differ_by_rounding_alone_are_equal() -> None:
    assert draw.shares([(3334, 1), (3333, 1), (3333, 1)]).size == 3
    assert draw.shares([(1429, 1)] * 4 + [(1428, 1)] * 3).size == 7
    assert draw.shares([(1667, 1), (1667, 1), (6666, 4)]).size == 6


def test_shares_that_really_differ_are_not_levelled() -> None:
    assert draw.shares([(8000, 1), (2000, 1)]).size == 1
    assert draw.shares([(5000, 1), (5000, 2)]).size == 2


def test_without_shares_nothing_is_drawn() -> None:
    assert draw.pick(draw.shares([]), 7) == []
    assert draw.pick(draw.shares([(0, 3)]), 7) == []


def test_a_group_without_a_share_is_never_drawn() -> None:
    shares = draw.shares([(0, 2), (6000, 3), (0, 1), (4000, 2), (0, 4)])
    drawn = {m for n in range(300) for m in draw.pick(shares, draw.seed(b"v", f"10.0.0.{n}", n))}
    assert drawn == {2, 3, 4, 6, 7}


def test_a_seed_depends_on_version_client_and_window() -> None:
    seeds = {draw.seed(*a) for a in [(b"v", "c", 1), (b"w", "c", 1), (b"v", "d", 1), (b"v", "c", 2)]}
    assert len(seeds) == 4
    assert draw.seed(b"v", "10.0.0.1", 360_000_000) == draw.seed(b"v", "10.0.0.1", 360_000_000)


def test_one_address_of_one_answer_follows_the_shares_over_clients_and_windows() -> None:
    """Property 8 of the traffic semantics, for the first address of an answer."""
    held = [(5915, 3), (1972, 1), (2113, 4)]
    shares = draw.shares(held)
    n = 20_000
    counts = [0, 0, 0]
    for client in range(n):
        seed = draw.seed(b"version1", f"10.{client >> 8}.{client & 255}.9", client % 50)
        member = draw.pick(shares, seed)[0]
        counts[0 if member < 3 else 1 if member < 4 else 2] += 1
    for count, (points, _) in zip(counts, held, strict=True):
        p = points / WHOLE
        assert abs(count / n - p) <= 5 * sqrt(p * (1 - p) / n) + 0.002
