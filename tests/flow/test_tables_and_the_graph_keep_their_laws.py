"""The laws of flow: one writer per partition, silent equals, atomic replaces, cost follows the change."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.flow import Again, Graph, Table, derive, on
from isthmus.flow.derive import Derived, Priority

Rows = dict[int, int]
rows = st.dictionaries(st.integers(0, 8), st.integers(0, 3), max_size=8)


async def until(condition: object, seconds: float = 60.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


class Running:
    """A graph that runs for the length of a test."""

    def __init__(self, *tables: Table[object, object]) -> None:
        self.graph = Graph(tables)

    async def __aenter__(self) -> Graph:
        self._task = asyncio.create_task(self.graph.run(), name="graph")
        return self.graph

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def same(key: int, _old: object, _new: object) -> Iterable[int]:
    return (key,)


def source(name: str = "source", content: Rows | None = None) -> tuple[Table[int, int], object]:
    table: Table[int, int] = Table(name)
    writer = table.partition("test")
    if content is not None:
        writer.replace(content)
    return table, writer


def test_a_partition_has_exactly_one_live_writer() -> None:
    table: Table[int, int] = Table("t")
    first = table.partition("a")
    with pytest.raises(ValueError, match="already has a writer"):
        table.partition("a")
    first.retire()
    table.partition("a")


def test_a_writer_cannot_touch_a_row_of_another_partition() -> None:
    table: Table[int, int] = Table("t")
    table.partition("a").put(1, 1)
    other = table.partition("b")
    with pytest.raises(ValueError, match="belongs to 'a'"):
        other.put(1, 2)
    other.drop(1)
    assert table.get(1) == 1


def test_a_second_writer_finds_the_rows_of_the_first_taken() -> None:
    table: Table[str, int] = Table("t")
    first = table.partition("first")
    first.replace({"a": 1, "b": 2})
    second = table.partition("second")
    assert table.owner("a") == "first"
    with pytest.raises(ValueError, match="belongs to 'first'"):
        second.put("a", 3)
    second.replace({"c": 3})
    first.drop("c")
    assert (first.keys(), second.keys(), len(first), len(second)) == ({"a", "b"}, {"c"}, 2, 1)
    first.replace({"a": 1})
    assert dict(table.items()) == {"a": 1, "c": 3}
    first.retire()
    assert (dict(table.items()), len(first), table.owner("c")) == ({"c": 3}, 0, "second")


def test_a_writer_cannot_leave_its_keys_and_a_refused_replace_changes_nothing() -> None:
    table: Table[int, int] = Table("t")
    writer = table.partition("even", owns=lambda key: key % 2 == 0)
    writer.replace({2: 2})
    with pytest.raises(ValueError, match="not in partition"):
        writer.replace({4: 4, 5: 5})
    assert dict(table.items()) == {2: 2}


def test_a_retired_writer_is_refused_and_its_rows_are_gone() -> None:
    table: Table[int, int] = Table("t")
    writer = table.partition("a")
    writer.replace({1: 1})
    writer.retire()
    assert len(table) == 0
    with pytest.raises(ValueError, match="retired"):
        writer.put(1, 1)


def test_a_failing_source_keeps_its_rows_and_is_marked_stale() -> None:
    table: Table[int, int] = Table("t")
    writer = table.partition("a")
    writer.replace({1: 1})
    writer.stale(12.5)
    assert (table.get(1), table.stale) == (1, {"a": 12.5})
    writer.stale(None)
    assert table.stale == {}


def test_a_table_is_synced_when_each_partition_had_a_full_replace() -> None:
    table: Table[int, int] = Table("t")
    assert not table.synced
    first, second = table.partition("a"), table.partition("b")
    first.replace({})
    second.put(1, 1)
    assert not table.synced
    second.replace({1: 1})
    assert table.synced


@given(before=rows, after=rows)
def test_a_replace_tells_exactly_the_differences(before: Rows, after: Rows) -> None:
    table: Table[int, int] = Table("t")
    writer = table.partition("a")
    writer.replace(before)
    seen: dict[int, tuple[int | None, int | None]] = {}
    table.observe(lambda key, old, new: seen.__setitem__(key, (old, new)))
    writer.replace(after)
    assert dict(table.items()) == after
    assert seen == {
        key: (before.get(key), after.get(key))
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    }


async def test_changes_begin_with_all_keys_then_coalesce_and_end_on_close() -> None:
    table: Table[int, int] = Table("t")
    writer = table.partition("a")
    batches: AsyncIterator[frozenset[int]] = table.changes()
    first = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    writer.replace({1: 1, 2: 2})
    assert await first == {1, 2}
    for value in range(10):
        writer.put(1, 100 + value)
    writer.drop(2)
    assert await anext(batches) == {1, 2}
    writer.put(3, 3)
    table.close()
    assert [batch async for batch in batches] == [{3}]


@given(
    start=rows,
    edits=st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 3))), max_size=30),
)
def test_a_derived_table_equals_its_function_of_the_source(
    start: Rows, edits: list[tuple[int, int | None]]
) -> None:
    async def scenario() -> None:
        table: Table[int, int] = Table("source")
        writer = table.partition("test")
        writer.replace(start)
        doubled: Derived[int, int] = derive(
            "doubled", on(table, same), compute=lambda key: None if (v := table.get(key)) is None else 2 * v
        )
        parity: Derived[int, int] = derive(
            "sum",
            on(doubled, lambda key, _o, _n: (key % 2,)),
            compute=lambda key: sum(v for k, v in doubled.items() if k % 2 == key),
        )
        async with Running(parity):
            for key, value in edits:
                if value is None:
                    writer.drop(key)
                else:
                    writer.put(key, value)
            await until(
                lambda: parity.synced and not any(parity.dirty(p) or doubled.dirty(p) for p in Priority)
            )
        assert dict(doubled.items()) == {key: 2 * value for key, value in table.items()}
        for odd, total in parity.items():
            assert total == sum(v for k, v in doubled.items() if k % 2 == odd)

    asyncio.run(scenario())


async def test_only_affected_keys_are_computed_again() -> None:
    table, writer = source(content=dict.fromkeys(range(100), 0))
    copy = derive("copy", on(table, same), compute=table.get)
    async with Running(copy):
        await until(lambda: copy.synced)
        before = copy.computed
        writer.put(7, 1)
        await until(lambda: copy.get(7) == 1)
        assert copy.computed == before + 1


async def test_an_equal_result_stops_the_change() -> None:
    table, writer = source(content={1: 3})
    sign = derive("sign", on(table, same), compute=lambda key: 1 if (table.get(key) or 0) > 0 else 0)
    after = derive("after", on(sign, same), compute=sign.get)
    async with Running(after):
        await until(lambda: after.synced)
        computed = (sign.computed, after.computed)
        writer.put(1, 5)
        await until(lambda: sign.computed == computed[0] + 1)
        assert after.computed == computed[1]


async def test_nothing_is_computed_before_every_input_is_synced() -> None:
    rows_, _writer = source(content={1: 1})
    late, late_writer = source("late")
    both = derive(
        "both",
        on(rows_, same),
        on(late, same),
        compute=lambda key: (rows_.get(key) or 0) + (late.get(key) or 0),
    )
    async with Running(both):
        for _ in range(20):
            await asyncio.sleep(0)
        assert (both.computed, both.synced) == (0, False)
        late_writer.replace({1: 10})
        await until(lambda: both.synced)
        assert both.get(1) == 11


async def test_a_compute_that_raises_keeps_the_last_value_and_harms_no_other_key() -> None:
    table, writer = source(content={1: 1, 2: 2})

    def compute(key: int) -> int | None:
        value = table.get(key)
        if value == 13:
            raise RuntimeError("unlucky")
        return value

    derived = derive("fragile", on(table, same), compute=compute)
    async with Running(derived):
        await until(lambda: derived.synced)
        writer.put(1, 13)
        writer.put(2, 20)
        await until(lambda: derived.get(2) == 20 and 1 in derived.failures)
        assert derived.get(1) == 1
        assert "unlucky" in derived.failures[1].error
        writer.put(1, 4)
        await until(lambda: derived.get(1) == 4)
        assert derived.failures == {}


async def test_a_compute_that_raised_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Derived.__module__], "RETRY_SECONDS", 0.01)
    table, _ = source(content={1: 1})
    tried: list[int] = []

    def compute(key: int) -> int:
        tried.append(key)
        if len(tried) == 1:
            raise RuntimeError("once")
        return 7

    derived = derive("fragile", on(table, same), compute=compute)
    async with Running(derived):
        await until(lambda: derived.get(1) == 7)
        assert derived.failures == {}


async def test_a_decision_that_depends_on_time_is_asked_again() -> None:
    table, _ = source(content={1: 1})
    asked: list[int] = []

    def compute(key: int) -> Again[int] | int:
        asked.append(key)
        return Again(0, 0.01) if len(asked) < 3 else 9

    derived = derive("timed", on(table, same), compute=compute)
    async with Running(derived):
        await until(lambda: derived.get(1) == 9)
    assert asked == [1, 1, 1]


async def test_health_goes_before_policy_before_resync() -> None:
    slow, slow_writer = source("slow", {})
    urgent, urgent_writer = source("urgent", {})
    order: list[int] = []

    def compute(key: int) -> int:
        order.append(key)
        return key

    derived = derive(
        "ordered",
        on(slow, same, priority=Priority.RESYNC),
        on(urgent, same, priority=Priority.HEALTH),
        compute=compute,
    )
    async with Running(derived):
        await until(lambda: derived.synced)
        for key in range(5):
            slow_writer.put(key, 1)
        urgent_writer.put(99, 1)
        await until(lambda: len(order) == 6)
    assert order[0] == 99


def busy() -> tuple[Graph, Derived[int, int], list[float]]:
    """A graph with 500 rows to compute, each for 1 ms of the clock that is given with it."""
    table, _ = source(content=dict.fromkeys(range(500), 0))
    now = [0.0]

    def compute(_key: int) -> int:
        now[0] += 0.001
        return 1

    derived = derive("busy", on(table, same), compute=compute)
    return Graph([derived], clock=lambda: now[0]), derived, now


async def test_the_graph_gives_the_loop_back_while_it_works() -> None:
    graph, derived, _ = busy()
    task = asyncio.create_task(graph.run(), name="graph")
    turns = 0
    while not derived.synced:
        await asyncio.sleep(0)
        turns += 1
        assert turns < 10_000
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert turns >= 500 * 0.001 / 0.005


async def test_the_graph_has_its_part_of_a_loop_that_others_keep_busy() -> None:
    """Others take 10 ms each time; in a fixed slice of 4 ms the graph would have less than a third."""
    graph, derived, now = busy()
    task = asyncio.create_task(graph.run(), name="graph")
    while not derived.synced:
        await asyncio.sleep(0)
        now[0] += 0.010
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert now[0] < 2.5 * 500 * 0.001


def test_a_cycle_is_refused() -> None:
    table, _ = source(content={})
    first = derive("first", on(table, same), compute=table.get)
    second = derive("second", on(first, same), compute=first.get)
    first.inputs = (*first.inputs, on(second, same))
    with pytest.raises(ValueError, match="depends on itself"):
        Graph([second])
