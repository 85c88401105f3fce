"""Cutting sets into bounded chunks with names that do not move."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.chunks import chunks, short_hash

KEYS = st.sets(st.text(min_size=1, max_size=8), max_size=120)


def _cut(keys: set[str], limit: int = 8) -> dict[int, list[str]]:
    return chunks({key: key for key in keys}, limit)


@given(KEYS)
def test_every_item_is_in_exactly_one_chunk_and_no_chunk_is_too_big(keys: set[str]) -> None:
    cut = _cut(keys)
    assert sorted(key for part in cut.values() for key in part) == sorted(keys)
    assert all(0 < len(part) <= 8 for part in cut.values())


@given(KEYS, st.randoms(use_true_random=False))
def test_the_cut_follows_from_the_set_alone(keys: set[str], rng: random.Random) -> None:
    shuffled = sorted(keys)
    rng.shuffle(shuffled)
    assert chunks({key: key for key in shuffled}, 8) == _cut(keys)


def test_a_small_set_is_never_split() -> None:
    assert list(_cut({str(n) for n in range(8)})) == [0]
    assert len(_cut({str(n) for n in range(9)})) > 1


def test_nothing_makes_no_chunk() -> None:
    assert _cut(set()) == {}


@pytest.mark.parametrize("start", [0, 499, 500, 999, 1000, 2400])
def test_one_more_item_changes_at_most_two_chunks(start: int) -> None:
    keys = {f"pod-{n}" for n in range(start)}
    before = _cut(keys, 500)
    for n in range(start, start + 20):
        keys.add(f"pod-{n}")
        after = _cut(keys, 500)
        changed = [index for index in before.keys() | after.keys() if before.get(index) != after.get(index)]
        assert 1 <= len(changed) <= 2
        before = after


def test_a_split_takes_nothing_to_a_third_chunk() -> None:
    keys = {f"pod-{n}" for n in range(1, 2001)}
    before = _cut(keys, 500)
    for gone in ("pod-7", "pod-1999"):
        after = _cut(keys - {gone}, 500)
        changed = [index for index in before.keys() | after.keys() if before.get(index) != after.get(index)]
        assert 1 <= len(changed) <= 2


def test_the_short_hash_tells_sequences_apart() -> None:
    assert short_hash(("a", "b")) == short_hash(["a", "b"])
    assert len({short_hash(parts) for parts in [("a", "b"), ("b", "a"), ("ab",), ("a",), ()]}) == 5
    assert len(short_hash(())) == 8
