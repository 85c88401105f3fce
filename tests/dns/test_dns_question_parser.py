"""Reading queries: every malformed class has its outcome, and no bytes make it raise."""

from __future__ import annotations

import struct
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.dns import wire
from isthmus.dns.answer import Responder
from isthmus.dns.question import Malformed, Question, parse

NAME = b"\x05hello\x0aclusterset\x05local\x00"
A_IN = b"\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"


def query(
    body: bytes = NAME + A_IN, *, bits: int = 0x0100, qd: int = 1, an: int = 0, ns: int = 0, ar: int = 0
) -> bytes:
    return struct.pack("!HHHHHH", 0xBEEF, bits, qd, an, ns, ar) + body


def outcome(raw: bytes) -> str:
    match parse(raw):
        case None:
            return "dropped"
        case Malformed(rcode=rcode):
            return {wire.FORMERR: "FORMERR", wire.NOTIMP: "NOTIMP"}[rcode]
        case Question():
            return "asked"


LONG_NAME = b"".join(b"\x3f" + b"a" * 63 for _ in range(4)) + b"\x00"
LEGAL_NAME = b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3d" + b"d" * 61 + b"\x00"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (query(), "asked"),
        (query(NAME + A_IN + b"trailing"), "asked"),
        (query(NAME + A_IN + OPT, ar=1), "asked"),
        (query(LEGAL_NAME + A_IN), "asked"),
        (query(b"\x00" + A_IN), "asked"),
        (b"", "dropped"),
        (query()[:11], "dropped"),
        (query(bits=0x8100), "dropped"),
        (query(bits=0x8000, qd=0), "dropped"),
        (query(b"", qd=0), "FORMERR"),
        (query(NAME + A_IN + NAME + A_IN, qd=2), "FORMERR"),
        (query(NAME), "FORMERR"),
        (query(NAME + A_IN[:3]), "FORMERR"),
        (query(NAME[:-1]), "FORMERR"),
        (query(b"\x05hel"), "FORMERR"),
        (query(b"\xc0\x0c" + A_IN), "FORMERR"),
        (query(b"\x05hello\xc0\x0c" + A_IN), "FORMERR"),
        (query(b"\x40" + b"a" * 64 + b"\x00" + A_IN), "FORMERR"),
        (query(LONG_NAME + A_IN), "FORMERR"),
        (query(NAME + A_IN + OPT + OPT, ar=2), "FORMERR"),
        (query(NAME + A_IN + b"\x01x" + OPT, ar=1), "FORMERR"),
        (query(NAME + A_IN + OPT, an=1), "FORMERR"),
        (query(NAME + A_IN + OPT, ns=1), "FORMERR"),
        (query(NAME + A_IN + OPT[:-1], ar=1), "FORMERR"),
        (query(NAME + A_IN, ar=1), "FORMERR"),
        (query(NAME + A_IN + OPT[:-2] + b"\x00\x04ab", ar=1), "FORMERR"),
        (query(NAME + A_IN + OPT[:-2] + b"\x00\x03\x00\x0a\x00", ar=1), "FORMERR"),
        (query(NAME + A_IN + OPT[:-2] + b"\x00\x04\x00\x0a\x00\x01", ar=1), "FORMERR"),
        (query(NAME + A_IN + OPT, ar=500), "FORMERR"),
        (query(NAME + b"\x00\x29\x00\x01"), "FORMERR"),
        (query(NAME + b"\x00\xfa\x00\x01"), "FORMERR"),
        (query(bits=0x2000), "NOTIMP"),
        (query(bits=0x2800, qd=0), "NOTIMP"),
        (query(bits=0x7800, body=b"anything"), "NOTIMP"),
    ],
)
def test_each_class_of_message_has_its_outcome(raw: bytes, expected: str) -> None:
    assert outcome(raw) == expected


def test_a_question_keeps_its_bytes_and_is_folded_for_lookup() -> None:
    asked = parse(query(b"\x05HeLLo\x00\x00\x41\x00\x01"))
    assert isinstance(asked, Question)
    assert asked.question == b"\x05HeLLo\x00\x00\x41\x00\x01"
    assert asked.folded == b"\x05hello\x00"
    assert asked.qtype == 0x41, "the type HTTPS is the letter A and must not be folded"


def test_only_opcode_rd_and_cd_are_copied_from_the_flags() -> None:
    asked = parse(query(bits=0x07FF & ~0x000F))
    assert isinstance(asked, Question)
    assert asked.flags == wire.RD | wire.CD
    refused = parse(query(bits=0x2100))
    assert isinstance(refused, Malformed)
    assert refused.flags == 0x2100


def test_edns_is_read() -> None:
    opt = b"\x00\x00\x29\x04\xd0\x00\x01\x80\x00\x00\x06\x00\x0a\x00\x02ab"
    asked = parse(query(NAME + A_IN + b"\xc0\x0c" + A_IN + b"\x00" * 4 + b"\x00\x00" + opt, an=1, ar=1))
    assert isinstance(asked, Question)
    assert asked.edns is not None
    assert (asked.edns.size, asked.edns.version, asked.edns.do) == (1232, 1, True)
    assert asked.edns.options == b"\x00\x0a\x00\x02ab"


@pytest.fixture(scope="module")
def responder(new_server: Any, make: Any) -> Responder:
    """With a clusterset IP service `a/b` and a headless `c/b`."""
    server = new_server()
    server.put(make.service("b/a"), ["10.96.0.10", "fd96::10"])
    pods = [make.backend("eu-1", f"10.64.0.{n}", f"fd00::{n}", port=8080) for n in range(30)]
    plans = make.plans("b/c", ("eu-1", 10_000, pods))
    server.put(make.service("b/c", headless=True), [], plans)
    responder: Responder = server.responder
    return responder


def check_reply(raw: bytes, reply: bytes | None) -> None:
    if reply is None:
        assert len(raw) < 12 or raw[2] & 0x80
        return
    assert reply[:2] == raw[:2]
    parsed = dns.message.from_wire(reply)
    assert parsed.flags & dns.flags.QR
    assert not parsed.flags & (dns.flags.RA | dns.flags.AD)
    if not raw[12:] or raw[12:].isascii():
        dnslib.DNSRecord.parse(reply)  # dnslib reads no labels outside ASCII


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise_and_replies_always_parse(responder: Responder, raw: bytes) -> None:
    check_reply(raw, responder.answer(raw, "10.0.0.1", 0.0, "udp"))


LABELS = st.lists(
    st.one_of(
        st.sampled_from([b"a", b"b", b"C", b"svc", b"eu-1", b"_tcp", b"_http"]),
        st.binary(min_size=1, max_size=20),
    ),
    max_size=5,
)
ZONE = b"\x0aclusterset\x05local"
SUFFIXES = [
    b"",
    ZONE,
    b"\x0aClusterSet\x05LOCAL",
    b"\x01b\x03svc" + ZONE,
    b"\x01a\x01B\x03svc" + ZONE,
    b"\x01c\x01b\x03SVC" + ZONE,
]
TAILS = st.one_of(st.just(b""), st.just(OPT), st.binary(max_size=40))


@given(
    LABELS,
    st.sampled_from(SUFFIXES),
    st.sampled_from([0, 0x0100, 0x8100, 0x2800, 0xFFFF]) | st.integers(0, 0xFFFF),
    st.sampled_from([1, 28, 33, 16, 6, 2, 255]) | st.integers(0, 0xFFFF),
    st.sampled_from([1, 1, 1, 3, 255]),
    TAILS,
    st.integers(0, 2),
)
def test_near_queries_never_raise_and_echo_their_question(
    responder: Responder,
    labels: list[bytes],
    suffix: bytes,
    bits: int,
    qtype: int,
    qclass: int,
    tail: bytes,
    ar: int,
) -> None:
    name = b"".join(bytes((len(one),)) + one for one in labels) + suffix + b"\x00"
    question = name + struct.pack("!HH", qtype, qclass)
    raw = query(question + tail, bits=bits, ar=ar)
    reply = responder.answer(raw, "10.0.0.1", 0.0, "udp")
    check_reply(raw, reply)
    if reply is not None and reply[4:6] == b"\x00\x01":
        assert reply[12 : 12 + len(question)] == question
        opt = bool(tail == OPT and ar == 1)
        assert (dns.message.from_wire(reply).edns >= 0) is opt or tail not in (b"", OPT)
