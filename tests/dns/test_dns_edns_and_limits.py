"""The protocol around the names: EDNS, errors, case, truncation (RFC 6891, 8482, 8906, 8914, 9715)."""

from __future__ import annotations

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dnslib
import pytest

SVC = "checkout.shop.svc.clusterset.local"
DB = "db.shop.svc.clusterset.local"


@pytest.fixture
def world(server: Any, make: Any) -> Any:
    """One clusterset IP; a headless service of eight pods and twelve ports, too much for 512 bytes."""
    server.put(make.service("shop/checkout"), ["10.96.0.10"])
    ports = [make.port(f"port-{n}", 9000 + n) for n in range(12)]
    plans = {}
    for port in (None, *ports):
        number = None if port is None else port.port
        pods = [
            make.backend("eu-1", f"10.64.0.{n}", f"fd00::{n}", hostname=f"db-{n}", port=number)
            for n in range(8)
        ]
        plans["" if port is None else f"TCP/{number}"] = make.plan(
            "shop/db", ("eu-1", 10_000, pods), port=port
        )
    server.put(make.service("shop/db", headless=True, ports=ports), [], plans)
    return server


def ede(reply: dns.message.Message) -> list[int]:
    return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]


def test_opt_is_answered_when_and_only_when_it_was_sent(world: Any) -> None:
    for name, rtype in [(SVC, "A"), (SVC, "MX"), ("nope.clusterset.local", "A"), ("example.com", "A")]:
        assert world.ask(name, rtype).edns == -1
        reply = world.ask(name, rtype, use_edns=0, payload=4096)
        assert (reply.edns, reply.payload) == (0, 1232)


def test_the_do_bit_is_copied_and_changes_nothing_else(world: Any) -> None:
    plain, do = world.ask(SVC, use_edns=0), world.ask(SVC, want_dnssec=True)
    assert do.ednsflags & dns.flags.DO
    assert not plain.ednsflags & dns.flags.DO
    assert do.answer == plain.answer


def test_unknown_edns_flags_are_cleared_and_unknown_options_not_echoed(world: Any) -> None:
    reply = world.ask(SVC, use_edns=0, ednsflags=0x0040, options=[dns.edns.GenericOption(100, b"x")])
    assert reply.ednsflags & 0xFFFF == 0
    assert not reply.options


def test_an_unknown_version_is_badvers_with_our_version(world: Any) -> None:
    reply = world.ask(SVC, use_edns=1)
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0
    assert not reply.answer


def test_until_all_rows_were_seen_names_of_the_zone_are_servfail_with_a_reason(new_server: Any) -> None:
    server = new_server()
    server.zone.synced = False
    reply = server.ask(SVC, use_edns=0)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert ede(reply) == [14]
    assert server.ask(SVC).rcode() == dns.rcode.SERVFAIL
    assert server.rcode("example.com") == "REFUSED"
    server.zone.synced = True
    assert server.rcode(SVC) == "NXDOMAIN"


def test_refusals_say_why(world: Any) -> None:
    outside = world.ask("example.com", use_edns=0)
    assert (outside.rcode(), ede(outside)) == (dns.rcode.REFUSED, [20])
    for rtype in ("AXFR", "IXFR"):
        for transport in ("udp", "tcp"):
            asked = dns.message.make_query("clusterset.local", rtype, use_edns=0)
            reply = dns.message.from_wire(world.raw(asked.to_wire(), transport=transport))
            assert (reply.rcode(), ede(reply)) == (dns.rcode.REFUSED, [18])


def test_other_classes_are_refused(world: Any) -> None:
    assert world.rcode("version.bind", "TXT", rdclass="CH") == "REFUSED"
    assert world.rcode(SVC, "A", rdclass="CH") == "REFUSED"
    assert world.rcode(SVC, "A", rdclass="ANY") == "REFUSED"


def test_any_is_answered_by_one_small_record(world: Any) -> None:
    for name in (SVC, DB):
        (hinfo,) = world.ask(name, "ANY").answer
        assert hinfo[0].to_text() == '"RFC8482" ""'
    assert world.rcode("shop.svc.clusterset.local", "ANY") == "NODATA"
    assert world.rcode("nope.shop.svc.clusterset.local", "ANY") == "NXDOMAIN"


@pytest.mark.parametrize("opcode", ["IQUERY", "STATUS", "NOTIFY", "UPDATE"])
def test_other_opcodes_are_not_implemented_and_echoed(world: Any, opcode: str) -> None:
    asked = dns.message.make_query(SVC, "A")
    wire = bytearray(asked.to_wire())
    code = dns.opcode.from_text(opcode)
    wire[2] = code << 3
    reply = world.raw(bytes(wire))
    assert reply[:2] == wire[:2]
    assert reply[2] == 0x80 | code << 3
    assert reply[3] == dns.rcode.NOTIMP


def test_flags_of_a_reply(world: Any) -> None:
    asked = dns.message.make_query(SVC, "A")
    asked.flags = dns.flags.Flag(dns.flags.RD | dns.flags.AD | dns.flags.CD)
    reply = dns.message.from_wire(world.raw(asked.to_wire()))
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.CD
    asked.flags = dns.flags.Flag(0)
    reply = dns.message.from_wire(world.raw(asked.to_wire()))
    assert reply.flags == dns.flags.QR | dns.flags.AA


def test_names_are_compared_without_case_and_echoed_with_it(world: Any) -> None:
    for name in ("cHeCkOuT.sHoP.sVc.ClUsTeRsEt.LoCaL", "NOPE.shop.SVC.clusterset.local"):
        asked = dns.message.make_query(name, "A").to_wire()
        reply = world.raw(asked)
        assert reply[12 : len(asked)] == asked[12:]
    assert world.data("CHECKOUT.SHOP.svc.clusterset.local") == ["10.96.0.10"]
    parsed = dnslib.DNSRecord.parse(
        world.raw(dns.message.make_query("cHeCkOuT.shop.svc.clusterset.local", "A").to_wire())
    )
    assert str(parsed.rr[0].rname) == "cHeCkOuT.shop.svc.clusterset.local."


def test_what_looks_like_the_zone_only_in_bytes_is_outside(world: Any) -> None:
    """One label that contains the bytes of the zone's name is not a name below it."""
    inside = b"\x0aclusterset\x05local"
    name = bytes((len(inside) + 1,)) + b"x" + inside + b"\x00"
    asked = struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + name + b"\x00\x01\x00\x01"
    assert world.raw(asked)[3] & 0xF == dns.rcode.REFUSED


def test_courtesy_records_go_first_when_room_is_short(world: Any) -> None:
    full = world.ask(f"_port-1._tcp.{DB}", "SRV", use_edns=0, payload=1232)
    assert len(full.answer[0]) == 8
    assert full.additional
    short = world.ask(f"_port-1._tcp.{DB}", "SRV", use_edns=0, payload=800)
    assert not short.flags & dns.flags.TC
    assert set(short.answer[0]) == set(full.answer[0])
    assert not short.additional


@pytest.mark.parametrize(
    ("edns", "limit"), [(None, 512), (100, 512), (512, 512), (1232, 1232), (65535, 1232)]
)
def test_a_reply_is_never_longer_than_the_caller_or_we_allow(
    world: Any, edns: int | None, limit: int
) -> None:
    more = {} if edns is None else {"use_edns": 0, "payload": edns}
    asked = dns.message.make_query(DB, "SRV", **more).to_wire()
    reply = world.raw(asked)
    assert len(reply) <= limit
    parsed = dns.message.from_wire(reply)
    assert parsed.flags & dns.flags.TC
    assert not parsed.answer
    assert (parsed.edns == 0) is (edns is not None)


def test_over_tcp_the_same_answer_is_whole(world: Any) -> None:
    reply = world.ask(DB, "SRV", transport="tcp")
    assert not reply.flags & dns.flags.TC
    assert len(reply.answer[0]) == 8 * 12


def test_over_tcp_an_answer_beyond_any_message_is_cut_to_whole_records(server: Any, make: Any) -> None:
    ports = [make.port(f"p{n}", 1000 + n) for n in range(100)]
    cluster = f"{'c' * 60}.{'d' * 40}"
    pods = {
        port: [make.backend(cluster, f"10.64.0.{n}", hostname="h" * 50 + str(n), port=port) for n in range(8)]
        for port in (None, *(p.port for p in ports))
    }
    plans = {"": make.plan("shop/db", (cluster, 10_000, pods[None]))}
    for port in ports:
        plans[f"TCP/{port.port}"] = make.plan("shop/db", (cluster, 10_000, pods[port.port]), port=port)
    server.put(make.service("shop/db", headless=True, ports=ports), [], plans)
    reply = server.raw(dns.message.make_query(DB, "SRV").to_wire(), transport="tcp")
    assert 64_000 < len(reply) <= 65_535
    assert 300 < len(dns.message.from_wire(reply).answer[0]) < 800
