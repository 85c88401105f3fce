"""Collections that follow a table always equal what a scan of it would give."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from isthmus.agent.followers import Forbidden, Named, UpCounts, moved
from isthmus.api import core
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, ServiceKey

CLUSTERS = ("eu-1", "eu-2")
verdicts = st.one_of(st.none(), st.sampled_from([Verdict(up=up) for up in (True, False, None)]))
checks = st.lists(st.tuples(st.sampled_from(CLUSTERS), st.integers(0, 3), verdicts), max_size=40)
spellings = st.lists(
    st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00:0:0::1", "fd00::1", "node-a"]), max_size=3
)


@given(edits=checks, head=st.integers(0, 40))
def test_up_counts_say_what_a_scan_says_and_name_each_turn(
    edits: list[tuple[str, int, Verdict | None]], head: int
) -> None:
    table: Table[CheckKey, Verdict] = Table("health")
    writer = table.partition("prober")
    for position in range(len(edits) + 1):
        if position == head or position == len(edits):
            break
        _edit(writer, *edits[position])
    counts = UpCounts(table)
    turned: list[str] = []
    table.observe(lambda key, old, new: turned.extend(counts.turned(key, old, new)))
    for edit in edits[position:]:
        before = _up(table)
        turned.clear()
        _edit(writer, *edit)
        assert {c for c in CLUSTERS if counts.any(ClusterId(c))} == _up(table)
        assert set(turned) == before ^ _up(table)


def _edit(writer: object, cluster: str, number: int, verdict: Verdict | None) -> None:
    key = CheckKey(ServiceKey("shop", "web"), cluster, EndpointId(str(number)), "TCP/80")
    writer.drop(key) if verdict is None else writer.put(key, verdict)


def _up(table: Table[CheckKey, Verdict]) -> set[str]:
    return {key.cluster for key, verdict in table.items() if verdict.up is True}


@given(edits=st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), spellings)), max_size=20))
def test_forbidden_addresses_are_those_of_api_servers_and_nodes_however_spelt(
    edits: list[tuple[int, list[str] | None]],
) -> None:
    table: Table[ObjectKey, core.Node] = Table("nodes")
    writer = table.partition("reflector")
    forbidden = Forbidden({"10.0.0.1"}, table, Table("services"), Table("slices"))
    names = Named(table, lambda key: key.name)
    held: dict[str, list[str]] = {}
    for number, addresses in edits:
        key = ObjectKey("", f"node-{number}")
        held.pop(key.name, None)
        if addresses is None:
            writer.drop(key)
        else:
            held[key.name] = addresses
            writer.put(key, _node(key.name, addresses))
        canonical = {"fd00:0:0::1": "fd00::1"}
        found = {canonical.get(one, one) for each in held.values() for one in each} - {"node-a"}
        assert forbidden == found | {"10.0.0.1"}
        assert names == {key.name: node for key, node in table.items()}


def test_a_node_that_changes_otherwise_has_not_moved() -> None:
    assert not moved(_node("a", ["fd00:0::1", "a"]), _node("a", ["fd00::1"]))
    assert moved(_node("a", ["fd00::1"]), None)


def _node(name: str, addresses: list[str]) -> core.Node:
    told = [{"type": "InternalIP", "address": address} for address in addresses]
    return msgspec.convert({"metadata": {"name": name}, "status": {"addresses": told}}, core.Node)
