"""The tests of RFC 8906, section 8, by the options of dig that it names, over a worker's own sockets."""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

import pytest
from dnslive import worker

pytestmark = [
    pytest.mark.usefixtures("path"),
    pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (bind9-dnsutils)"),
]

ZONE = "clusterset.local"
SOA = "IN\tSOA\tns.dns.clusterset.local."


class Case(NamedTuple):
    """The arguments of dig, what its output has, and what it has not."""

    section: str
    arguments: str
    expected: tuple[str, ...]
    absent: tuple[str, ...] = ()


NO_EDNS = ("OPT PSEUDOSECTION",)
OPT = "EDNS: version: 0, flags:; udp:"
OPT_DO = "EDNS: version: 0, flags: do; udp:"

CASES = [
    Case("8.1.1", "+noedns +noad +norec soa {}", ("status: NOERROR", "flags: qr aa;", SOA), NO_EDNS),
    Case(
        "8.1.2",
        "+noedns +noad +norec type1000 {}",
        ("status: NOERROR", "ANSWER: 0", "flags: qr aa;"),
        NO_EDNS,
    ),
    Case("8.1.3.1", "+noedns +noad +norec +cd soa {}", ("status: NOERROR", "flags: qr aa cd;", SOA), NO_EDNS),
    Case("8.1.3.2", "+noedns +norec +ad soa {}", ("status: NOERROR", "flags: qr aa;", SOA), NO_EDNS),
    Case(
        "8.1.3.3", "+noedns +noad +norec +zflag soa {}", ("status: NOERROR", "flags: qr aa;", SOA), ("MBZ",)
    ),
    Case("8.1.3.4", "+noedns +noad soa {}", ("status: NOERROR", "flags: qr aa rd;", SOA), NO_EDNS),
    Case(
        "8.1.4",
        "+noedns +noad +opcode=15 +norec +header-only",
        ("status: NOTIMP", "opcode: RESERVED15"),
        NO_EDNS,
    ),
    Case("8.1.5", "+noedns +noad +norec +tcp soa {}", ("status: NOERROR", "flags: qr aa;", SOA), NO_EDNS),
    Case("8.2.1", "+nocookie +edns=0 +noad +norec soa {}", ("status: NOERROR", "flags: qr aa;", SOA, OPT)),
    Case(
        "8.2.2",
        "+nocookie +edns=1 +noednsneg +noad +norec soa {}",
        ("status: BADVERS", OPT, "flags: qr;"),
        (SOA,),
    ),
    Case(
        "8.2.3",
        "+nocookie +edns=0 +noad +norec +ednsopt=100 soa {}",
        ("status: NOERROR", "flags: qr aa;", SOA, OPT),
        ("OPT=100",),
    ),
    Case(
        "8.2.4",
        "+nocookie +edns=0 +noad +norec +ednsflags=0x40 soa {}",
        ("status: NOERROR", SOA, OPT),
        ("MBZ",),
    ),
    Case(
        "8.2.5",
        "+nocookie +edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa {}",
        ("status: BADVERS", OPT),
        ("MBZ", SOA),
    ),
    Case(
        "8.2.6",
        "+nocookie +edns=1 +noednsneg +noad +norec +ednsopt=100 soa {}",
        ("status: BADVERS", OPT),
        ("OPT=100", SOA),
    ),
    Case("8.2.7", "+norec +dnssec +bufsize=512 +ignore dnskey {}", ("status: NOERROR", "ANSWER: 0", OPT_DO)),
    Case(
        "8.2.8 DO",
        "+nocookie +edns=0 +noad +norec +dnssec soa {}",
        ("status: NOERROR", "flags: qr aa;", SOA, OPT_DO),
    ),
    Case(
        "8.2.8 DO, version 1",
        "+nocookie +edns=1 +noednsneg +noad +norec +dnssec soa {}",
        ("status: BADVERS", OPT_DO),
        (SOA,),
    ),
    Case(
        "8.2.9",
        "+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 soa {}",
        ("status: NOERROR", "flags: qr aa;", SOA, OPT),
        ("NSID", "EXPIRE:", "COOKIE:"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.section for case in CASES])
async def test_dig_finds_what_rfc_8906_asks_for(make: Any, case: Case) -> None:
    async with worker(make) as live:
        told = await live.dig(*case.arguments.format(ZONE).split())
        missing = [text for text in case.expected if text not in told]
        surplus = [text for text in case.absent if text in told]
        assert not missing, told
        assert not surplus, told
