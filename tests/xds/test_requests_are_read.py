"""Reading requests by comparison gives what parsing everything gives."""

from __future__ import annotations

from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import WireError
from isthmus.xds.request import RequestReader
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
    reader = RequestReader()
    known: dict[str, frozenset[str]] = {}
    for item in sent:
        parts = item if isinstance(item, tuple) else (item,)
        data = b"".join(part.SerializeToString() for part in parts)
        plain = discovery_pb2.DiscoveryRequest.FromString(data)
        found, _ = reader.read(data)
        names = frozenset(plain.resource_names)
        if found.names is not None:
            known[plain.type_url] = found.names
        assert known[plain.type_url] == names
        assert (found.type_url, found.version, found.nonce) == (
            plain.type_url,
            plain.version_info,
            plain.response_nonce,
        )
        expected = plain.error_detail.message if plain.HasField("error_detail") else None
        assert found.error == expected


def test_repeated_names_are_not_parsed_again() -> None:
    reader = RequestReader()
    url = TYPE_URLS[next(iter(TYPE_URLS))]
    first = message(url, ["a", "b"], "", "", None, with_node=True).SerializeToString()
    again = message(url, ["a", "b"], "v", "1", None, with_node=False).SerializeToString()
    assert reader.read(first)[0].names == frozenset({"a", "b"})
    assert reader.read(again)[0].names is None
    reader.forget(url)
    assert reader.read(again)[0].names == frozenset({"a", "b"})


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_a_wire_error(data: bytes) -> None:
    reader = RequestReader()
    try:
        reader.read(data)
        reader.read(data)
    except WireError:
        pass
