"""For whom a resolver asks: EDNS Client Subnet (RFC 7871)."""

from __future__ import annotations

import struct
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.dns import subnet

SVC = "checkout.shop.svc.clusterset.local"
DB = "db.shop.svc.clusterset.local"


@pytest.fixture
def world(server: Any, make: Any) -> Any:
    """One clusterset IP; a headless service of a hundred pods."""
    server.put(make.service("shop/checkout"), ["10.96.0.10"])
    pods = [f"10.64.0.{n}" for n in range(100)]
    server.put(make.service("shop/db", headless=True), [], make.plans("shop/db", ("eu-1", 10_000, pods)))
    return server


def ask(server: Any, name: str, text: str, length: int, rtype: str = "A", **more: Any) -> dns.message.Message:
    option = dns.edns.ECSOption(text, length)
    reply: dns.message.Message = server.ask(name, rtype, use_edns=0, options=[option], **more)
    return reply


def echoed(reply: dns.message.Message) -> tuple[str, int, int]:
    (option,) = reply.options
    assert isinstance(option, dns.edns.ECSOption)
    return option.address, option.srclen, option.scopelen


def addresses(reply: dns.message.Message) -> list[str]:
    return [item.to_text() for item in reply.answer[0]]


def test_a_drawn_answer_is_the_subnets_own_and_says_so(world: Any) -> None:
    for text, length in [("10.9.8.0", 24), ("10.9.8.128", 25), ("2001:db8::", 56)]:
        reply = ask(world, DB, text, length)
        assert echoed(reply) == (text, length, length)
        assert addresses(reply) == world.data(DB, client=text)
    draws = {tuple(addresses(ask(world, DB, f"10.9.{n}.0", 24))) for n in range(50)}
    assert len(draws) > 25, "many subnets behind one resolver are many callers"


def test_srv_of_pods_is_drawn_for_the_subnet_too(world: Any) -> None:
    reply = ask(world, f"_http._tcp.{DB}", "10.9.8.0", 24, "SRV")
    assert echoed(reply) == ("10.9.8.0", 24, 24)
    assert reply.answer == world.ask(f"_http._tcp.{DB}", "SRV", client="10.9.8.0", use_edns=0).answer


@pytest.mark.parametrize(
    ("name", "rtype"),
    [(SVC, "A"), (SVC, "AAAA"), (f"nope.{SVC}", "A"), (DB, "MX"), (DB, "ANY"), (f"10-64-0-1.eu-1.{DB}", "A")],
)
def test_what_is_the_same_for_everybody_has_scope_zero(world: Any, name: str, rtype: str) -> None:
    assert echoed(ask(world, name, "10.9.8.0", 24, rtype)) == ("10.9.8.0", 24, 0)


def test_who_asks_not_to_be_told_apart_is_drawn_for_as_the_resolver(world: Any) -> None:
    reply = ask(world, DB, "0.0.0.0", 0, client="10.0.0.7")
    assert echoed(reply) == ("0.0.0.0", 0, 0)
    assert addresses(reply) == world.data(DB, client="10.0.0.7")


def test_it_is_never_sent_unasked(world: Any) -> None:
    assert not world.ask(DB, use_edns=0).options
    assert not world.ask(SVC, use_edns=0, options=[dns.edns.GenericOption(10, b"12345678")]).options


MALFORMED = {
    "cut": b"\x00\x01\x18",
    "empty": b"",
    "family 0 with an address": b"\x00\x00\x08\x00\x0a",
    "family 3": b"\x00\x03\x08\x00\x0a",
    "longer than IPv4": struct.pack("!HBB", 1, 33, 0) + b"\x0a\x00\x00\x00\x00",
    "longer than IPv6": struct.pack("!HBB", 2, 129, 0) + bytes(17),
    "a scope in a query": b"\x00\x01\x18\x18\x0a\x09\x08",
    "an address too short": b"\x00\x01\x18\x00\x0a\x09",
    "an address too long": b"\x00\x01\x18\x00\x0a\x09\x08\x00",
    "bits behind the prefix": b"\x00\x01\x14\x00\x0a\x09\x08",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_one_is_formerr(world: Any, data: bytes) -> None:
    reply = world.ask(DB, use_edns=0, options=[Raw(data)])
    assert reply.rcode() == dns.rcode.FORMERR
    assert (reply.edns, reply.options) == (0, ())
    assert world.rcode(DB) == "NOERROR"


def test_two_of_them_are_formerr(world: Any) -> None:
    options = [dns.edns.ECSOption("10.9.8.0", 24), dns.edns.ECSOption("10.9.7.0", 24)]
    assert world.rcode(DB, use_edns=0, options=options) == "FORMERR"


def test_family_zero_of_length_zero_is_an_opt_out(world: Any) -> None:
    """What `dig +subnet=0` sends."""
    found = subnet.find(struct.pack("!HHHBB", subnet.OPTION, 4, 0, 0, 0))
    assert isinstance(found, subnet.Subnet)
    assert found.client is None
    asked = dns.message.make_query(DB, "A", use_edns=0, options=[Raw(bytes(4))]).to_wire()
    assert world.raw(asked)[3] & 0xF == dns.rcode.NOERROR


class Raw(dns.edns.GenericOption):
    """The option with any data."""

    def __init__(self, data: bytes) -> None:
        super().__init__(dns.edns.OptionType(subnet.OPTION), data)


@given(st.binary(max_size=24))
def test_what_is_read_is_given_back(data: bytes) -> None:
    found = subnet.find(struct.pack("!HH", subnet.OPTION, len(data)) + data)
    assert found is not None
    if isinstance(found, subnet.Subnet):
        assert found.reply(tailored=False)[4:] == data
        assert found.reply(tailored=True)[4 + 3] == found.source
