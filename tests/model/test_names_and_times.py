"""Names of clusters and points in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.names import is_cluster_id, is_dns_label
from isthmus.model.service import Port, Protocol
from isthmus.model.timestamp import format_time, parse_time


@pytest.mark.parametrize("text", ["a", "eu-1", "0", "a" * 63])
def test_a_dns_label_is_letters_digits_and_inner_dashes(text: str) -> None:
    assert is_dns_label(text)


@pytest.mark.parametrize("text", ["", "A", "-a", "a-", "a.b", "a" * 64, "a\n", "é", "a b"])
def test_what_is_no_dns_label_is_refused(text: str) -> None:
    assert not is_dns_label(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("eu-1", True),
        ("eu-1.prod", True),
        ("a.b.c", False),
        ("a.", False),
        (".a", False),
        ("a" * 63, True),
        ("a" * 32 + "." + "b" * 31, False),
        ("Eu", False),
    ],
)
def test_a_cluster_id_has_one_or_two_labels_and_fits_a_label_value(text: str, good: bool) -> None:
    assert is_cluster_id(text) is good


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_a_time_survives_being_written_to_the_microsecond(micros: int) -> None:
    seconds = round(micros / 1e6, 6)
    assert parse_time(format_time(seconds)) == seconds


def test_the_times_of_kubernetes_are_read() -> None:
    assert parse_time("2026-01-02T03:04:05Z") == 1767323045.0
    assert parse_time("2026-01-02T03:04:05.250000Z") == 1767323045.25
    assert parse_time("2026-01-02T04:04:05+01:00") == 1767323045.0


@given(st.text(max_size=50))
def test_no_text_makes_the_reading_of_times_raise(text: str) -> None:
    assert parse_time(text) is None or isinstance(parse_time(text), float)


@pytest.mark.parametrize(
    "text",
    ["", "2026-01-02", "2026-01-02T03:04:05", "now", "2026-13-01T00:00:00Z"],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert parse_time(text) is None


def test_a_port_without_a_name_is_given_one() -> None:
    assert Port(name="", protocol=Protocol.TCP, port=80).given_name == "tcp-80"
    assert Port(name="http", protocol=Protocol.TCP, port=80).given_name == "http"
