"""Other zones: asked of real servers, and of bad ones that the test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from corednslive import ask, coredns
from dnslive import DEADLINE, SVC, Live, worker

from isthmus.dns import row
from isthmus.dns.answer import FORWARD, Responder
from isthmus.dns.fastpath import ASK_PYTHON, FastPath
from isthmus.dns.forward import DEAD_AFTER, Forwarder, ForwardLimits
from isthmus.dns.upstream import Place
from isthmus.dns.zone import Zone
from loadtests.ports import free_port

pytestmark = pytest.mark.usefixtures("path")

ELSEWHERE = "www.example.com"
Bad = Callable[[bytes], list[bytes]]
"""What a server sends back for a query."""


class Upstream(asyncio.DatagramProtocol):
    """A server that answers as a function says, and remembers who asked what."""

    def __init__(self, answer: Bad) -> None:
        self.answer = answer
        self.seen: list[tuple[bytes, int]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.seen.append((data, addr[1]))
        for reply in self.answer(data):
            self.transport.sendto(reply, addr)


@contextlib.asynccontextmanager
async def upstream(
    answer: Bad, *, port: int = 0, tcp: Bad | None = None
) -> AsyncIterator[tuple[Upstream, Place]]:
    loop = asyncio.get_running_loop()
    port = port or free_port()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Upstream(answer), local_addr=("127.0.0.1", port)
    )

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2))
        for reply in (tcp or (lambda _query: []))(await reader.readexactly(size)):
            writer.write(len(reply).to_bytes(2) + reply)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield protocol, Place("127.0.0.1", port)
    finally:
        transport.close()
        server.close()


def good(query: bytes) -> list[bytes]:
    """A reply with one address."""
    asked = dns.message.from_wire(query)
    reply = dns.message.make_response(asked)
    name = asked.question[0].name
    reply.answer.append(dns.rrset.from_text(name, 30, "IN", "A", "192.0.2.1"))
    wire: bytes = reply.to_wire()
    # dnspython keeps the letters of names, but not those that a pointer stands for.
    return [wire[:12] + query[12 : 12 + len(name.to_wire())] + wire[12 + len(name.to_wire()) :]]


def silent(_query: bytes) -> list[bytes]:
    return []


def lowered(query: bytes) -> list[bytes]:
    (reply,) = good(query)
    return [reply[:12] + reply[12:30].lower() + reply[30:]]


def truncated(query: bytes) -> list[bytes]:
    (reply,) = good(query)
    return [reply[:2] + bytes((reply[2] | 2,)) + reply[3:]]


def addresses(reply: dns.message.Message) -> list[str]:
    return sorted(item.to_text() for rrset in reply.answer for item in rrset)


def codes(reply: dns.message.Message) -> list[int]:
    return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]


@pytest.fixture
async def answered(make: Any) -> AsyncIterator[Live]:
    """A worker in front of a server that does nothing wrong."""
    async with upstream(good) as (_, place), worker(make, forward=(place,)) as live:
        yield live


@pytest.mark.realapi("coredns")
async def test_coredns_answers_for_other_zones_over_udp_and_tcp(make: Any, tmp_path: Path) -> None:
    port = free_port()
    many = "".join(f"big 60 IN A 192.0.2.{n}\n" for n in range(200))
    head = "@ 60 IN SOA ns hostmaster 1 7200 1800 86400 5\n@ 60 IN NS ns\nns 60 IN A 192.0.2.53\n"
    (tmp_path / "zone").write_text(f"{head}www 60 IN A 192.0.2.1\n{many}")
    text = f"example.com:{port} {{\n bind 127.0.0.1\n file {tmp_path}/zone\n}}\n"
    async with coredns(text, tmp_path), worker(make, forward=(Place("127.0.0.1", port),)) as live:
        await ask(port, ELSEWHERE)
        for way in (live.udp, live.tcp):
            reply = await way("wWw.Example.com", use_edns=0)
            assert (addresses(reply), reply.question[0].name.to_text()) == (["192.0.2.1"], "wWw.Example.com.")
            assert reply.flags & dns.flags.RA
            reply = await way(ELSEWHERE, "AAAA")
            assert (reply.rcode(), reply.answer, len(reply.authority)) == (dns.rcode.NOERROR, [], 1)
            assert (await way("no.example.com")).rcode() == dns.rcode.NXDOMAIN
            own = await way()
            assert (addresses(own), own.flags & dns.flags.AA > 0) == (["10.96.0.10"], True)
        for size in ({}, {"use_edns": 0}, {"use_edns": 0, "payload": 4096}):
            assert (await live.udp("big.example.com", **size)).flags & dns.flags.TC
        assert len(addresses(await live.tcp("big.example.com"))) == 200
        assert "ANSWER: 200" in await live.dig("big.example.com")


async def test_only_recursion_of_the_internet_class_is_offered(answered: Live) -> None:
    assert addresses(await answered.udp(ELSEWHERE)) == ["192.0.2.1"]
    assert "status: REFUSED" in await answered.dig(ELSEWHERE, "+norecurse")
    assert "status: REFUSED" in await answered.dig("version.bind", "CH", "TXT")
    assert "Transfer failed" in await answered.dig("example.com", "AXFR", "+tcp")
    assert "status: BADVERS" in await answered.dig(ELSEWHERE, "+edns=1", "+noednsneg")
    assert "flags: qr aa rd ra;" in await answered.dig(SVC)
    assert "status: NXDOMAIN" in await answered.dig(f"no.{SVC}")
    reply = await answered.dig(ELSEWHERE, "+subnet=192.0.2.0/24", "+cookie")
    assert "192.0.2.1" in reply


@pytest.mark.parametrize("way", ["udp", "tcp"])
async def test_nobody_answers_and_callers_are_told(make: Any, way: str) -> None:
    nobody = Place("127.0.0.1", free_port())
    async with worker(make, forward=(nobody,)) as live:
        for _ in range(2 * DEAD_AFTER):
            reply = await getattr(live, way)(ELSEWHERE, use_edns=0)
            assert (reply.rcode(), codes(reply)) == (dns.rcode.SERVFAIL, [23])
            assert addresses(await live.udp()) == ["10.96.0.10"]
        reply = await getattr(live, way)(ELSEWHERE)
        assert (reply.rcode(), reply.opt) == (dns.rcode.SERVFAIL, None)
        async with upstream(good, port=nobody.port):
            async with asyncio.timeout(DEADLINE):
                while (await live.udp(ELSEWHERE)).rcode() != dns.rcode.NOERROR:
                    await asyncio.sleep(0.01)


async def test_each_question_has_a_number_a_port_and_letters_of_its_own(make: Any) -> None:
    name = "a-long-name-of-many-letters.example.com"
    async with upstream(good) as (heard, place), worker(make, forward=(place,)) as live:
        for _ in range(50):
            assert addresses(await live.udp(name, id=7)) == ["192.0.2.1"]
        numbers = {query[:2] for query, _ in heard.seen}
        spelt = {query[12:40] for query, _ in heard.seen}
        assert len(heard.seen) == 50
        assert min(len(numbers), len(spelt), len({port for _, port in heard.seen})) > 40


def replaced(reply: bytes, at: int, *others: int) -> bytes:
    return reply[:at] + bytes(others) + reply[at + len(others) :]


async def test_a_reply_that_does_not_repeat_the_question_is_not_taken(make: Any) -> None:
    def forged(query: bytes) -> list[bytes]:
        (reply,) = good(query)
        lie = replaced(reply, len(reply) - 4, 6, 6, 6, 6)
        end = 12 + len(dns.message.from_wire(query).question[0].name.to_wire())
        return [
            replaced(lie, 0, lie[0] ^ 1),  # another number
            replaced(lie, 2, lie[2] & 0x7F),  # no reply
            replaced(lie, 13, ord("x")),  # another name
            replaced(lie, end + 1, 28),  # another type
            replaced(lie, 4, 0, 0),  # no question
            lie[:11],
            reply,
        ]

    async with upstream(forged) as (_, place), worker(make, forward=(place,)) as live:
        for _ in range(20):
            assert addresses(await live.udp(ELSEWHERE)) == ["192.0.2.1"]


@pytest.mark.parametrize("bad", [lowered, lambda query: [b"x" * 12] * 20], ids=["case lost", "guesses"])
async def test_a_server_whose_udp_is_not_to_be_trusted_is_asked_over_tcp(make: Any, bad: Bad) -> None:
    async with upstream(bad, tcp=lowered) as (_, place), worker(make, forward=(place,)) as live:
        reply = await live.udp("WWW.EXAMPLE.com")
        assert (addresses(reply), reply.question[0].name.to_text()) == (["192.0.2.1"], "WWW.EXAMPLE.com.")


async def test_what_is_truncated_is_asked_for_over_tcp_for_who_asks_so(make: Any) -> None:
    async with upstream(truncated, tcp=good) as (_, place), worker(make, forward=(place,)) as live:
        assert (await live.udp(ELSEWHERE)).flags & dns.flags.TC
        reply = await live.tcp(ELSEWHERE)
        assert (addresses(reply), reply.flags & dns.flags.TC) == (["192.0.2.1"], 0)


@pytest.mark.parametrize("first", [silent, lambda query: [replaced(good(query)[0], 3, 5)]])
async def test_another_server_is_asked_where_one_is_silent_or_refuses(make: Any, first: Bad) -> None:
    async with (
        upstream(first) as (_, one),
        upstream(good) as (_, two),
        worker(make, forward=(one, two)) as live,
    ):
        assert addresses(await live.udp(ELSEWHERE)) == ["192.0.2.1"]


async def test_a_resolver_that_sends_everything_back_ends_with_an_answer(make: Any) -> None:
    """The question comes back as a caller's, is in flight already, and waits for itself."""
    port = free_port()
    async with worker(make, port=port, forward=(Place("127.0.0.1", port),)) as live:
        reply = await live.udp(ELSEWHERE, use_edns=0)
        assert (reply.rcode(), codes(reply)) == (dns.rcode.SERVFAIL, [23])


async def test_a_flood_for_silent_servers_does_not_keep_own_answers(make: Any) -> None:
    async with upstream(silent) as (heard, place), worker(make, forward=(place,)) as live:
        limits = ForwardLimits()
        flood = []
        for number in range(limits.per_client + 50):
            flood.append(asyncio.create_task(live.udp(f"n{number}.example.com")))
            if number % 50 == 0:
                assert addresses(await live.udp()) == ["10.96.0.10"]
        async with asyncio.timeout(DEADLINE):
            while len(heard.seen) < limits.per_client:
                assert addresses(await live.udp()) == ["10.96.0.10"]
        replies = await asyncio.gather(*flood)
        assert {reply.rcode() for reply in replies} == {dns.rcode.SERVFAIL}
        assert live.standing.front.forwarder.outcomes["too_many"] >= 50
        assert live.standing.front.forwarder.waiting == 0


async def test_what_waits_is_bounded_in_all_and_one_question_serves_all_who_ask_it() -> None:
    async with upstream(silent) as (heard, place):
        limits = ForwardLimits(patience=0.2, questions=2, waiting=5, per_client=3)
        forwarder = Forwarder((place,), udp_size=1232, limits=limits)
        told: list[str] = []
        asked = [
            ("a", "10.0.0.1"),
            ("a", "10.0.0.1"),
            ("A", "10.0.0.1"),
            ("a", "10.0.0.1"),
        ]  # the last: 4 of 3
        asked += [
            ("b", "10.0.0.2"),
            ("c", "10.0.0.2"),
            ("b", "10.0.0.2"),
            ("b", "10.0.0.3"),
        ]  # 3rd question, 6th
        for number, (name, client) in enumerate(asked):
            query = dns.message.make_query(f"{name}.example.com", "A", id=number, use_edns=0).to_wire()

            def later(reply: bytes) -> None:
                parsed = dns.message.from_wire(reply)
                options = [one.text for one in parsed.options if isinstance(one, dns.edns.EDEOption)]
                told.append(f"{parsed.id} {options[0]}")

            forwarder.take(query, client, "udp", later)
        assert forwarder.waiting == 5
        async with asyncio.timeout(DEADLINE):
            while len(told) < len(asked):
                await asyncio.sleep(0.01)
        many = [f"{number} too many queries at once" for number in (3, 5, 7)]
        none = [f"{number} no upstream answers" for number in (0, 1, 2, 4, 6)]
        assert told[:3] == many
        assert sorted(told[3:]) == none
        assert len({query[12:30].lower() for query, _ in heard.seen}) == 2
        await forwarder.close()


async def test_own_answers_over_tcp_do_not_wait_for_those_of_others(make: Any) -> None:
    async with upstream(good) as (_, place), worker(make, forward=(place,)) as live:
        reader, writer = await asyncio.open_connection(live.where.host, live.where.port)
        for number, name in enumerate((ELSEWHERE, SVC, ELSEWHERE)):
            query = dns.message.make_query(name, "A", id=number).to_wire()
            writer.write(len(query).to_bytes(2) + query)
        writer.write_eof()  # who has said all still hears all
        async with asyncio.timeout(DEADLINE):
            held = await reader.read()
        writer.close()
        replies = []
        while held:
            size = int.from_bytes(held[:2])
            replies.append(dns.message.from_wire(held[2 : 2 + size]))
            held = held[2 + size :]
        assert replies[0].id == 1
        assert sorted(reply.id for reply in replies) == [0, 1, 2]


def test_both_paths_offer_recursion_alike(library: ctypes.CDLL | None, make: Any) -> None:
    """Byte for byte, and both leave other zones to be forwarded only where recursion is desired."""
    if library is None:
        pytest.skip("no C compiler (cc) to build the fast path with")
    fast = FastPath(library, 1232, forwards=True)
    try:
        zone = Zone("clusterset.local", clock=lambda: 1.8e9, mirror=fast)
        zone.synced = True
        zone.put("", row.decode(make.render(make.service("shop/checkout"), ["10.96.0.10"])))
        responder = Responder(zone, forwards=True)
        for name in (SVC, f"no.{SVC}", ELSEWHERE, "."):
            for bits in (0, dns.flags.RD, dns.flags.RD | dns.flags.CD, 0x7800):
                query = dns.message.make_query(name, "A", flags=bits, use_edns=0).to_wire()
                reply = responder.answer(query, "::1", 1.8e9, "udp")
                assert (reply == FORWARD) == (
                    not name.startswith(("checkout", "no")) and bits & 0x7900 == dns.flags.RD
                )
                assert fast.answer(query, "::1", 1.8e9, "udp") == (ASK_PYTHON if reply == FORWARD else reply)
                assert isinstance(reply, str) or (reply is not None and reply[3] & 0x80)
        cut = query[:14]
        assert fast.answer(cut, "::1", 0, "udp") == responder.answer(cut, "::1", 0, "udp")
    finally:
        fast.close()
