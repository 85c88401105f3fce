"""The frames of the replica link."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import WireError
from isthmus.flow import frames
from isthmus.flow.frames import Begin, Drops, End, Hello, Rows

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.binary(max_size=50)
rows = st.lists(st.builds(lambda k, v: (k, frames.version_of(v), v), texts, values), max_size=5)
any_frame = st.one_of(
    st.builds(Hello, protocol=st.integers(0, 100), name=texts, takes=st.tuples(texts, texts)),
    st.builds(Begin, table=texts),
    st.builds(End, table=texts),
    st.builds(Rows, table=texts, rows=rows),
    st.builds(Drops, table=texts, keys=st.lists(texts, max_size=5)),
)


def split(data: bytes) -> list[frames.Frame]:
    out = []
    while data:
        size = frames.length(data[: frames.HEADER_BYTES])
        data = data[frames.HEADER_BYTES :]
        out.append(frames.decode(data[:size]))
        data = data[size:]
    return out


@given(any_frame)
def test_a_frame_decodes_to_itself(frame: frames.Frame) -> None:
    assert split(frames.encode(frame)) == [frame]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_wire_error(data: bytes) -> None:
    try:
        frame = frames.decode(data)
    except WireError:
        return
    assert isinstance(frame, Hello | Begin | Rows | Drops | End)


@given(any_frame, st.data())
def test_a_cut_frame_is_a_wire_error(frame: frames.Frame, data: st.DataObject) -> None:
    payload = frames.encode(frame)[frames.HEADER_BYTES :]
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(WireError):
        frames.decode(payload[:cut])


def test_a_row_that_differs_from_its_version_is_a_wire_error() -> None:
    payload = msgspec.msgpack.encode(Rows("t", [("key", frames.version_of(b"other"), b"value")]))
    with pytest.raises(WireError, match="differs from its version"):
        frames.decode(payload)


@pytest.mark.parametrize("header", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_an_impossible_length_is_a_wire_error(header: bytes) -> None:
    with pytest.raises(WireError):
        frames.length(header)


@given(st.dictionaries(texts, st.none() | st.binary(max_size=40_000), max_size=20))
def test_batches_hold_every_row_and_are_not_much_larger_than_their_bound(
    rows: dict[str, bytes | None],
) -> None:
    held: dict[str, bytes | None] = {}
    for batch in frames.batches("t", rows.items()):
        assert len(batch) <= frames.BATCH_BYTES + 41_000
        for frame in split(batch):
            match frame:
                case Rows():
                    held.update({key: value for key, _, value in frame.rows})
                case Drops():
                    held.update(dict.fromkeys(frame.keys))
    assert held == rows
    small = [None, b"x" * 10]
    assert len(list(frames.batches("t", ((str(n), small[n % 2]) for n in range(100))))) == 1


def test_the_largest_row_that_fits_is_a_frame_the_other_side_takes() -> None:
    key, value = "é" * frames.MAX_KEY, bytes(frames.MAX_ROW)
    assert frames.fits(key, value)
    assert not frames.fits(key, value + b"x")
    assert not frames.fits(key + "x", b"")
    (batch,) = frames.batches("t", [("a", b"x" * (frames.BATCH_BYTES - 100)), (key, value)])
    assert split(batch)[0].rows[1][0] == key  # type: ignore[union-attr]  # a batch with rows begins with Rows
