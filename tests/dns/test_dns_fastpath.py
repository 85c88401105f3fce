"""The fast path gives the bytes that Python gives, or leaves the query to it; rows come and go under load."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import random
import shlex
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.message
import pytest
from dnsfuzz import Target, corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.dns import compiled, fastpath, library, wire
from isthmus.dns.fastpath import ASK_PYTHON, FastPath
from isthmus.dns.row import DrawRow, Member, PortRow, Row, decode, encode
from isthmus.errors import WireError

SVC = "checkout.shop.svc.clusterset.local"
DB = "db.shop.svc.clusterset.local"
DRAWN = "drawn.shop.svc.clusterset.local"


@pytest.fixture(scope="module")
def lib(library: ctypes.CDLL | None) -> ctypes.CDLL:
    if library is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    return library


@pytest.fixture(scope="module")
def world(lib: ctypes.CDLL, new_server: Callable[..., Any], make: Any) -> Any:
    """A service of each kind."""
    server = new_server()
    server.put(make.service("shop/checkout"), ["10.96.0.10", "fd96::10"])
    pods = [make.backend("eu-1", f"10.64.0.{n}", hostname=f"db-{n}", port=8080) for n in range(3)]
    server.put(make.service("shop/db", headless=True), [], make.plans("shop/db", ("eu-1", 10_000, pods)))
    groups = [
        ("eu-1", 6000, [make.backend("eu-1", f"10.64.1.{n}", f"fd00::{n}", port=80) for n in range(40)]),
        ("eu-2", 3999, ["10.65.1.1", "10.65.1.2"]),
        ("us-1", 1, [make.backend("us-1", "10.64.1.7", "10.66.0.1", port=80)]),
    ]
    server.put(make.service("shop/drawn"), [], make.plans("shop/drawn", *groups))
    return server


def asked(name: str, rtype: str = "A", **more: Any) -> bytes:
    return dns.message.make_query(name, rtype, **more).to_wire()


@pytest.mark.parametrize("rtype", ["A", "AAAA", "MX", "HTTPS"])
@pytest.mark.parametrize("name", [SVC, DB, DRAWN, f"db-1.eu-1.{DB}", f"no.{SVC}", "example.com"])
def test_common_queries_are_answered_without_python(world: Any, name: str, rtype: str) -> None:
    for more in ({}, {"use_edns": 0, "payload": 4096}, {"want_dnssec": True}):
        before = world.answered_fast
        assert world.raw(asked(name, rtype, **more)) is not None
        assert world.answered_fast == before + 1


NAMES = (SVC, DB, DRAWN, f"db-1.eu-1.{DB}", f"eu-1.{DB}", "shop.svc.clusterset.local", "clusterset.local")
NEAR = st.sampled_from([*NAMES, *(f"_http._tcp.{n}" for n in (SVC, DB, DRAWN)), "no.clusterset.local", "."])


@settings(max_examples=500)
@given(
    NEAR,
    st.sampled_from([1, 28, 33, 16, 6, 2, 255, 252, 41, 65]) | st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF) | st.sampled_from([0x0100, 0]),
    st.sampled_from([None, 0, 512, 600, 1232, 4096]),
    st.lists(st.tuples(st.sampled_from([3, 8, 10, 12]), st.binary(max_size=42)), max_size=2),
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
    st.sampled_from(["udp", "tcp"]),
)
def test_near_queries_get_the_bytes_that_python_gives(
    world: Any,
    name: str,
    rtype: int,
    bits: int,
    payload: int | None,
    options: list[tuple[int, bytes]],
    version: int,
    client: int,
    chance: random.Random,
    transport: str,
) -> None:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    folded = b"".join(bytes((len(label),)) + label for label in labels) + b"\x00"
    mixed = bytes(byte ^ 0x20 if 97 <= byte <= 122 and chance.random() < 0.5 else byte for byte in folded)
    data = b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)
    opt = b"" if payload is None else struct.pack("!xHHBBHH", 41, payload, 0, version, 0, len(data)) + data
    raw = struct.pack("!6H", 7, bits, 1, 0, 0, bool(opt)) + mixed + struct.pack("!HH", rtype, 1) + opt
    world.raw(raw, ".".join(map(str, client.to_bytes(4, "big"))), transport)
    if chance.random() < 0.3:
        spoilt = bytearray(raw)
        spoilt[chance.randrange(len(raw))] = chance.randrange(256)
        world.raw(bytes(spoilt[: chance.randrange(len(raw) + 1)]), transport=transport)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_get_the_bytes_that_python_gives(world: Any, raw: bytes) -> None:
    world.raw(raw)


def test_the_fuzzers_corpus_finds_nothing(lib: ctypes.CDLL) -> None:
    inputs = corpus()
    assert len(inputs) > 100
    target = Target(lib)
    try:
        for data in inputs:
            target.feed(data)
        assert target.server.answered_fast > 50
    finally:
        target.server.fast.close()


NUMBERS = st.sampled_from([0, 1, 2, 80, 3000, 10_000] * 5 + [-1, 65_535, 65_536, 1 << 31, 1 << 63])
LABELS = st.sampled_from(["a", "db-0", "eu-1", "eu.west"] * 5 + ["", "A", "x" * 63, "x" * 64, "a.b.c", "\0"])
V4, V6 = (st.lists(st.binary(min_size=n, max_size=n), max_size=9).map(tuple) for n in (4, 16))
MEMBERS = st.lists(st.builds(Member, LABELS, LABELS, V4, V6), max_size=3)


@st.composite
def draws(draw: st.DrawFn, members: int) -> DrawRow:
    """Numbers that fit each other, but for those that one time in some do not."""
    counts = draw(st.lists(st.integers(0, 3), max_size=3)) if members else []
    groups = tuple((draw(NUMBERS), count) for count in counts)
    within = st.integers(0, members - 1) if members else NUMBERS
    indexes = tuple(draw(within) for _ in range(sum(counts)))
    ports = tuple(draw(NUMBERS) for _ in indexes) if draw(st.booleans()) else ()
    return DrawRow(groups, indexes, ports, draw(st.binary(max_size=9)), draw(st.booleans()))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    members = tuple(draw(MEMBERS))
    drawn = st.none() | draws(len(members))
    targets = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=3).map(tuple)
    ports = st.lists(st.builds(PortRow, LABELS, LABELS, targets, drawn), max_size=3).map(tuple)
    return Row(
        draw(LABELS),
        draw(LABELS),
        draw(NUMBERS),
        exists=draw(st.sampled_from([True, True, False])),
        headless=draw(st.booleans()),
        v4=draw(V4),
        v6=draw(V6),
        members=members,
        draw=draw(drawn),
        ports=draw(ports),
    )


def test_a_row_of_any_numbers_is_refused_or_all_its_names_are_answered(lib: ctypes.CDLL) -> None:
    target, held = Target(lib), Counter[str]()

    @settings(max_examples=500)
    @given(rows())
    def judged(row: Row) -> None:
        raw = encode(row)
        target.row(raw)
        try:
            held["drawn" if decode(raw).draw else "fixed"] += 1
        except WireError:
            held["refused"] += 1

    try:
        judged()
    finally:
        target.server.fast.close()
    assert all(held[found] > 50 for found in ("drawn", "fixed", "refused")), held


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 60)), min_size=1, max_size=5),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 2**40)), min_size=1, max_size=20),
)
def test_draws_of_any_shares_are_those_of_python(
    world: Any, make: Any, held: list[tuple[int, int]], mixed: bool, callers: list[tuple[int, int]]
) -> None:
    groups = [
        (
            f"c-{number}",
            points,
            [
                make.backend(
                    f"c-{number}", *([f"fd00::{number}:{n}"] if mixed and n % 3 else [f"10.{number}.1.{n}"])
                )
                for n in range(size)
            ],
        )
        for number, (points, size) in enumerate(held)
    ]
    server = world
    server.put(make.service("shop/any"), [], make.plans("shop/any", *groups))
    before, now = server.answered_fast, server.now
    for client, moment in callers:
        server.now = float(moment)
        packed = client.to_bytes(16, "big")
        for rtype in ("A", "AAAA"):
            server.raw(asked("any.shop.svc.clusterset.local", rtype), str(ipaddress.IPv6Address(packed)))
    server.now = now
    assert server.answered_fast == before + 2 * len(callers)


def test_a_set_of_thousands_is_drawn_from_as_python_draws(world: Any, make: Any) -> None:
    pods = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(20_000)]
    groups = [("eu-1", 7001, pods[:15_000]), ("eu-2", 2999, pods[15_000:])]
    world.put(make.service("shop/large"), [], make.plans("shop/large", *groups))
    seen = set()
    for client in range(300):
        before = world.answered_fast
        reply = world.raw(asked("large.shop.svc.clusterset.local"), f"10.1.2.{client % 256}")
        assert world.answered_fast == before + 1
        seen.add(reply)
    assert len(seen) > 200
    world.drop("shop/large")


@given(
    st.binary(max_size=200)
    | st.lists(st.integers(0, 40), max_size=60).map(lambda n: struct.pack(f"={len(n)}I", *n))
)
def test_a_node_that_is_not_sound_is_refused_or_answered_within_bounds(lib: ctypes.CDLL, node: bytes) -> None:
    fast = FastPath(lib, 1232)
    try:
        fast.zone(b"\x01z\x00", 1, 5, ready=True)
        fast.put(b"\x01a\x01z\x00", node)
        for rtype in range(42):
            fast.answer(
                struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x01a\x01z\x00" + struct.pack("!HH", rtype, 1),
                "::1",
                0,
                "udp",
            )
    finally:
        fast.close()


def named(number: int) -> bytes:
    return b"\x04%04d\x01z\x00" % number


def test_callers_see_whole_names_only_while_names_come_and_go(lib: ctypes.CDLL) -> None:
    """Every reply is that of a name as it was once, or that there is none; and the table grows meanwhile."""
    fast, chance, seen = FastPath(lib, 1232), random.Random(8), Counter[bool]()
    stopped = threading.Event()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller,
    ):
        served.bind(("127.0.0.1", 0))
        caller.connect(served.getsockname())
        caller.settimeout(20)

        def ask() -> None:
            number = 0
            while not stopped.is_set() or not all(seen[found] > 50 for found in (True, False)):
                number = (number + 1) % 2000
                question = named(number) + b"\0\1\0\1"
                caller.send(struct.pack("!6H", number, 0, 1, 0, 0, 0) + question)
                reply = caller.recv(4096)
                assert reply[12 : 12 + len(question)] == question
                seen[reply[7] == 3] += 1
                if reply[7]:
                    assert reply[7] == 3
                    (address,) = {reply[at - 4 : at] for at in (len(reply), len(reply) - 16, len(reply) - 32)}
                    assert address[:2] == struct.pack("!H", number)

        try:
            fast.zone(b"\x01z\x00", 1, 5, ready=True)
            assert fast.serve(served, told=False)
            with ThreadPoolExecutor(1) as pool:
                asking = pool.submit(ask)
                for step in range(60_000):
                    number = chance.randrange(2000)
                    if chance.random() < 0.6:
                        address = struct.pack("!HH", number, step & 0xFFFF)
                        body = wire.rr(1, 5, address) * 3
                        fast.put(named(number), compiled._joined([(1, compiled.FIXED, 3 << 16, body, 0)]))
                    else:
                        fast.drop(named(number))
                stopped.set()
                asking.result()
        finally:
            fast.close()


def test_names_come_and_go_without_a_trace(lib: ctypes.CDLL) -> None:
    """Against a plain dictionary, with many names in one run of the table."""
    fast, held = FastPath(lib, 1232), {}
    try:
        fast.zone(b"\x01z\x00", 1, 5, ready=True)
        chance = random.Random(7)
        for step in range(20_000):
            name = named(chance.randrange(3000))
            if chance.random() < 0.55:
                address = struct.pack("!I", step)
                node = compiled._joined([(1, compiled.FIXED, 1 << 16, wire.rr(1, 5, address), 0)])
                fast.put(name, node)
                held[name] = address
            else:
                fast.drop(name)
                held.pop(name, None)
            assert len(fast) == len(held)
        for number in range(3000):
            name = named(number)
            reply = fast.answer(struct.pack("!6H", 1, 0, 1, 0, 0, 0) + name + b"\0\1\0\1", "::1", 0, "udp")
            assert isinstance(reply, bytes)
            assert reply != ASK_PYTHON
            if name in held:
                assert reply[-4:] == held[name]
            else:
                assert reply[3] & 0xF == wire.NXDOMAIN
    finally:
        fast.close()


@pytest.mark.skipif("FASTPATH_CFLAGS" in os.environ, reason="this is the run within it")
@pytest.mark.parametrize(
    ("sanitisers", "selected"),
    [
        (("address", "undefined"), "near or arbitrary or sound or any_shares or corpus"),
        (("thread",), "callers_see"),
    ],
    ids=["memory", "threads"],
)
def test_sanitisers_have_nothing_to_say(
    library_file: Path | None, sanitisers: Sequence[str], selected: str
) -> None:
    """Some tests once more, in a process where each access to memory is checked (ASan, UBSan; TSan)."""
    if library_file is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    found = []
    for name in sanitisers:
        runtime = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}[name]
        command = [*shlex.split(os.environ.get("CC", "cc")), f"-print-file-name={runtime}"]
        found.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    if not all(map(os.path.isabs, found)):
        pytest.skip(f"the C compiler has no sanitisers for {', '.join(sanitisers)}")
    more = {
        "FASTPATH_CFLAGS": f"-g -fsanitize={','.join(sanitisers)} -fno-sanitize-recover=all",
        "LD_PRELOAD": " ".join(found),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
        "ISTHMUS_NO_SKIPS": "0",
    }
    again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", selected]
    done = subprocess.run(again, check=False, capture_output=True, text=True, env={**os.environ, **more})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_without_a_library_there_is_no_fast_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv(library.OVERRIDE, "off")
    assert fastpath.start(1232) is None
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setenv(library.OVERRIDE, str(broken))
    assert fastpath.start(1232) is None


def test_without_a_compiler_nothing_is_built_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert library.build(tmp_path / "x.so") == "no C compiler: no-such-compiler is not on PATH"
    assert not (tmp_path / "x.so").exists()
