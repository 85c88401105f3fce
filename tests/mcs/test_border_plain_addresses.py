"""Most addresses are judged by their first octet; that never lets pass what the whole rules refuse."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcs.border import _is_plain, address_refusal

REFUSED = ("0.1.2.3", "127.0.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192")


@given(st.ip_addresses(v=4))
def test_what_is_plain_is_refused_by_no_rule(address: IPv4Address) -> None:
    if _is_plain(str(address), frozenset(), ()):
        assert address_refusal(address) == ""


@pytest.mark.parametrize("octet", range(256))
def test_every_first_octet_is_plain_or_looked_at(octet: int) -> None:
    for rest in ("0.0.0", "0.0.192", "63.129.16", "100.100.200", "254.169.254", "255.255.255"):
        address = IPv4Address(f"{octet}.{rest}")
        assert not (_is_plain(str(address), frozenset(), ()) and address_refusal(address))


@pytest.mark.parametrize(
    "text", [*REFUSED, "010.1.2.3", "10.1.2", "10.1.2.3 ", "::1", "a", "", "\udc80", "1\x00"]
)
def test_other_texts_are_not_plain(text: str) -> None:
    assert not _is_plain(text, frozenset(), ())


def test_a_forbidden_address_and_an_own_pod_are_not_plain() -> None:
    assert _is_plain("10.1.2.3", frozenset(), ())
    assert not _is_plain("10.1.2.3", frozenset({"10.1.2.3"}), ())
    assert not _is_plain("10.1.2.3", frozenset(), ip_network("10.1.0.0/16"))
