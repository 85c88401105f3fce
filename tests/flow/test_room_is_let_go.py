"""Tables and indexes let go of the room for what has gone."""

from __future__ import annotations

import sys

from isthmus.flow import Index, Table
from isthmus.flow.table import Writer


def test_room_for_rows_that_have_gone_is_let_go() -> None:
    table: Table[int, int] = Table("t")
    by_parity = Index(table, lambda key, _row: (key % 2, f"own of {key}"))
    writers = [table.partition("a"), table.partition("b")]
    for number in range(40_000):
        writers[number % 4 // 2].put(number, number)
    full = room(table) + room(by_parity)
    for number in range(40_000):
        if number % 100:
            writers[number % 4 // 2].drop(number)
    assert room(table) + room(by_parity) < full / 20
    assert sorted(table) == sorted(by_parity.of(0)) == list(range(0, 40_000, 100))
    assert [len(writer) for writer in writers] == [400, 0]
    for number in list(table):
        writers[0].drop(number)
    assert not table
    assert not by_parity.of(0)
    assert room(table) + room(by_parity) < 100_000


def room(of: object) -> int:
    """Bytes of the dicts and sets of tables, their writers and indexes."""
    held = [value for value in vars(of).values() if isinstance(value, dict | set)]
    inner = [value for one in held if isinstance(one, dict) for value in one.values()]
    own = [value for value in inner if isinstance(value, dict | set)]
    return sum(map(sys.getsizeof, (*held, *own))) + sum(room(one) for one in inner if isinstance(one, Writer))
