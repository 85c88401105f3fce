"""An index and a spread partition always equal what a scan of their source would give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.flow import Index, Table, spread

edits = st.lists(
    st.tuples(st.integers(0, 5), st.one_of(st.none(), st.frozensets(st.sampled_from("abcd"), max_size=3))),
    max_size=40,
)


@given(edits=edits, head=st.integers(0, 40))
def test_an_index_equals_a_scan(edits: list[tuple[int, frozenset[str] | None]], head: int) -> None:
    table: Table[int, frozenset[str]] = Table("t")
    writer = table.partition("w")
    index: Index[str, int, frozenset[str]] | None = None
    for position, (key, value) in enumerate(edits):
        if position == head:
            index = Index(table, lambda _key, row: row)
        writer.drop(key) if value is None else writer.put(key, value)
    index = index or Index(table, lambda _key, row: row)
    for group in "abcd":
        assert set(index.of(group)) == {key for key, row in table.items() if group in row}
    assert set(index.groups()) == {group for _key, row in table.items() for group in row}


@given(edits=edits)
def test_a_spread_partition_is_the_union_of_its_rows(edits: list[tuple[int, frozenset[str] | None]]) -> None:
    table: Table[int, frozenset[str]] = Table("source")
    target: Table[tuple[int, str], int] = Table("target")
    writer = table.partition("w")
    spread(table, target, lambda key, row: {(key, letter): len(row) for letter in row})
    for key, value in edits:
        writer.drop(key) if value is None else writer.put(key, value)
        expected = {(k, letter): len(row) for k, row in table.items() for letter in row}
        assert dict(target.items()) == expected


def test_the_target_is_synced_with_its_source() -> None:
    table: Table[int, int] = Table("source")
    target: Table[int, int] = Table("target")
    writer = table.partition("w")
    spread(table, target, lambda key, row: {key: row})
    assert not target.synced
    writer.replace({1: 1})
    assert target.synced
    assert target.get(1) == 1


def test_a_key_of_another_partition_is_left_out_and_harms_no_other() -> None:
    table: Table[int, int] = Table("source")
    target: Table[int, str] = Table("target")
    target.partition("other").replace({2: "theirs"})
    writer = table.partition("w")
    spread(table, target, lambda _key, row: {row: "ours", row + 1: "ours"})
    writer.replace({1: 1})
    assert dict(target.items()) == {1: "ours", 2: "theirs"}
    writer.put(5, 2)
    assert dict(target.items()) == {1: "ours", 2: "theirs", 3: "ours"}
    writer.drop(5)
    assert dict(target.items()) == {1: "ours", 2: "theirs"}


def test_a_listener_that_raises_harms_neither_the_writer_nor_the_others() -> None:
    table: Table[int, int] = Table("t")

    def broken(_key: int, _old: int | None, _new: int | None) -> None:
        raise KeyError("a defect")

    table.observe(broken)
    seen: list[int] = []
    table.observe(lambda key, _old, _new: seen.append(key))
    writer = table.partition("w")
    writer.replace({1: 1, 2: 2})
    writer.drop(1)
    assert dict(table.items()) == {2: 2}
    assert seen == [1, 2, 1]
