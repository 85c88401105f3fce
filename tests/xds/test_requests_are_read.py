"""Reading requests by comparison gives what parsing everything gives."""

from __future__ import annotations

from contextlib import suppress

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import WireError
from isthmus.xds.names import AGE_SECONDS, NameSets
from isthmus.xds.refusal import TooManyNames
from isthmus.xds.request import FEW_NAMES, RequestReader, read_delta
from isthmus.xds.snapshot import TYPE_URLS

URLS = st.sampled_from([*TYPE_URLS.values(), "type.googleapis.com/unknown", ""])
NAMES = st.lists(st.sampled_from(["a", "b", "a.b.svc.clusterset.local:80", "", "x" * 200]), max_size=4)


def message(
    url: str, names: list[str], version: str, nonce: str, error: str | None, with_node: bool
) -> discovery_pb2.DiscoveryRequest:
    found = discovery_pb2.DiscoveryRequest(
        type_url=url, resource_names=names, version_info=version, response_nonce=nonce
    )
    if with_node:
        found.node.id = "n" * 200
    if error is not None:
        found.error_detail.code = 3
        found.error_detail.message = error
    return found


MESSAGES = st.builds(
    message,
    URLS,
    NAMES,
    st.text(max_size=5),
    st.text(max_size=5),
    st.one_of(st.none(), st.text(max_size=5)),
    st.booleans(),
)


@given(st.lists(st.one_of(MESSAGES, st.tuples(MESSAGES, MESSAGES)), max_size=12))
def test_a_stream_of_requests_reads_as_if_each_were_parsed(sent: list[object]) -> None:
    """Pairs are two messages in one: legal, though nobody writes their fields in that order."""
    reader = RequestReader(NameSets())
    known: dict[str, frozenset[str]] = {}
    for item in sent:
        parts = item if isinstance(item, tuple) else (item,)
        data = b"".join(part.SerializeToString() for part in parts)
        plain = discovery_pb2.DiscoveryRequest.FromString(data)
        found = reader.read(data)
        names = frozenset(plain.resource_names)
        if found.names is not None:
            known[plain.type_url] = found.names.held
        assert known[plain.type_url] == names
        assert (found.type_url, found.nonce) == (plain.type_url, plain.response_nonce)
        assert found.node == plain.node
        expected = plain.error_detail.message if plain.HasField("error_detail") else None
        assert found.error == expected


def delta_message(
    url: str, add: list[str], leave: list[str], versions: dict[str, str], nonce: str, with_node: bool
) -> discovery_pb2.DeltaDiscoveryRequest:
    found = discovery_pb2.DeltaDiscoveryRequest(
        type_url=url,
        resource_names_subscribe=add,
        resource_names_unsubscribe=leave,
        initial_resource_versions=versions,
        response_nonce=nonce,
    )
    if with_node:
        found.node.id = "n" * 200
    return found


MANY = [f"s{number}" for number in range(FEW_NAMES + 4)]
DELTA_MESSAGES = st.builds(
    delta_message,
    URLS,
    st.one_of(st.integers(0, len(MANY)).map(lambda count: MANY[:count]), st.just([*MANY, *MANY]), NAMES),
    NAMES,
    st.dictionaries(st.sampled_from("ab"), st.text(max_size=3), max_size=2),
    st.text(max_size=5),
    st.booleans(),
)


@given(st.lists(st.one_of(DELTA_MESSAGES, st.tuples(DELTA_MESSAGES, DELTA_MESSAGES)), max_size=12))
def test_delta_requests_read_as_if_each_were_parsed(sent: list[object]) -> None:
    sets = NameSets()
    for item in sent:
        parts = item if isinstance(item, tuple) else (item,)
        data = b"".join(part.SerializeToString() for part in parts)
        plain = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
        found = read_delta(data, sets)
        assert found.subscribe == frozenset(plain.resource_names_subscribe)
        assert found.unsubscribe == frozenset(plain.resource_names_unsubscribe)
        assert found.versions == dict(plain.initial_resource_versions)
        assert (found.type_url, found.nonce) == (plain.type_url, plain.response_nonce)
        assert found.node == plain.node


def test_many_names_of_a_delta_request_are_recognised() -> None:
    sets = NameSets()
    url = TYPE_URLS[next(iter(TYPE_URLS))]
    first = delta_message(url, MANY, [], {}, "", with_node=True).SerializeToString()
    again = delta_message(url, MANY, [], {}, "1", with_node=False).SerializeToString()
    assert read_delta(again, sets).subscribe is read_delta(first, sets).subscribe


def test_repeated_names_are_not_parsed_again() -> None:
    reader = RequestReader(NameSets())
    url = TYPE_URLS[next(iter(TYPE_URLS))]
    first = message(url, ["a", "b"], "", "", None, with_node=True).SerializeToString()
    again = message(url, ["a", "b"], "v", "1", None, with_node=False).SerializeToString()
    names = reader.read(first).names
    assert names is not None
    assert names.held == frozenset({"a", "b"})
    assert reader.read(again).names is None
    reader.forget(url)
    assert reader.read(again).names is names


def test_the_next_stream_with_the_same_names_holds_the_same_set() -> None:
    sets = NameSets()
    url = TYPE_URLS[next(iter(TYPE_URLS))]
    data = message(url, ["a", "b"], "", "", None, with_node=True).SerializeToString()
    turned = message(url, ["b", "a"], "", "", None, with_node=True).SerializeToString()
    readers = [RequestReader(sets) for _ in range(3)]
    found = [readers[0].read(data), readers[1].read(data), readers[2].read(turned)]
    assert len({id(request.names) for request in found}) == 1
    assert sets.total == 2
    again = message(url, ["b", "a"], "v", "1", None, with_node=False).SerializeToString()
    assert readers[2].read(again).names is None
    del found, readers
    sets.recent.clear()
    assert sets.total == 0


def test_a_set_that_nobody_holds_is_forgotten_and_one_that_is_written_again_is_not() -> None:
    sets = NameSets()
    url = TYPE_URLS[next(iter(TYPE_URLS))]

    def written(*names: str) -> bytes:
        return message(url, list(names), "", "", None, with_node=True).SerializeToString()

    held = RequestReader(sets).read(written("a", "b")).names
    RequestReader(sets).read(written("c"))
    assert sets.total == 3
    for turn in range(9):
        sets.tick(turn * AGE_SECONDS)
        sets.tick((turn + 0.9) * AGE_SECONDS)
        if turn == 3:
            assert RequestReader(sets).read(written("a", "b")).names is held
            assert list(sets.recent) == [held]
    assert not sets.recent
    assert sets.total == 2
    assert RequestReader(sets).read(written("b", "a")).names is held


@pytest.mark.parametrize(("most", "in_all"), [(3, 1000), (1000, 3)], ids=["in one", "in all"])
def test_too_many_names_are_an_error(most: int, in_all: int) -> None:
    sets = NameSets(most, in_all)
    url = TYPE_URLS[next(iter(TYPE_URLS))]
    fine = message(url, ["a", "b", "c"], "", "", None, with_node=False)
    RequestReader(sets).read(fine.SerializeToString())
    with pytest.raises(TooManyNames):
        RequestReader(sets).read(
            message(url, list("defg"), "", "", None, with_node=False).SerializeToString()
        )


def test_too_many_names_in_a_delta_request_are_an_error() -> None:
    for field in ("resource_names_subscribe", "resource_names_unsubscribe"):
        request = discovery_pb2.DeltaDiscoveryRequest(**{field: list("abcd")})  # type: ignore[arg-type]
        with pytest.raises(TooManyNames):
            read_delta(request.SerializeToString(), NameSets(3))
    request = discovery_pb2.DeltaDiscoveryRequest(initial_resource_versions=dict.fromkeys("abcd", "1"))
    with pytest.raises(TooManyNames):
        read_delta(request.SerializeToString(), NameSets(3))


def test_an_endless_name_is_an_error() -> None:
    with pytest.raises(TooManyNames, match="1024"):
        NameSets().of(["x" * 2000])


@pytest.mark.parametrize("tag", [b"\x0a", b"\x12"], ids=["first field", "second field"])
def test_an_endless_length_is_read_no_further_than_a_length_goes(tag: bytes) -> None:
    """Else each of its bytes would cost as much as all before it."""
    data = tag + b"\xff" * 10_000
    for read in (RequestReader(NameSets()).read, lambda found: read_delta(found, NameSets(10))):
        with pytest.raises(WireError, match="more than 10 bytes"):
            read(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_a_wire_error(data: bytes) -> None:
    reader = RequestReader(NameSets())
    for read in (reader.read, reader.read, lambda found: read_delta(found, NameSets(10))):
        with suppress(WireError):
            read(data)
