"""Answers from what was heard long ago say so (RFC 8914), and are given all the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from dnslive import SVC, worker

sys.path.append(str(Path(__file__).parents[1] / "agent"))  # test folders are not packages

from spine import Spine, both_serve
from spineservers import Embedded, settles

from isthmus.dns.row import STALE_KEY

DB = "db.shop.svc.clusterset.local"


def codes(reply: dns.message.Message) -> list[int]:
    return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]


def test_each_kind_of_answer_says_that_it_is_stale_to_who_speaks_edns(server: Any, make: Any) -> None:
    server.put(make.service("shop/checkout"), ["10.96.0.10"])
    pods = [make.backend("eu-1", f"10.64.0.{n}", port=80) for n in range(20)]
    server.put(make.service("shop/db", headless=True), [], make.plans("shop/db", ("eu-1", 10_000, pods)))
    asked = {
        (SVC, "A"): 3,
        (SVC, "AAAA"): 3,
        (f"_http._tcp.{SVC}", "SRV"): 3,
        (DB, "A"): 3,
        (DB, "SRV"): 3,
        (SVC, "ANY"): 3,
        ("clusterset.local", "SOA"): 3,
        (f"no.{SVC}", "A"): 19,
        ("no.shop.svc.clusterset.local", "SRV"): 19,
        ("example.com", "A"): 20,
    }
    before = {one: server.ask(*one, use_edns=0) for one in asked}
    server.zone.stale = True
    for one, code in asked.items():
        for transport in ("udp", "tcp"):
            reply = server.ask(*one, use_edns=0, transport=transport)
            assert codes(reply) == [code]
            if transport == "udp" and code != 20:
                assert (reply.rcode(), codes(before[one])) == (before[one].rcode(), [])
                assert [rrset.name for rrset in reply.answer] == [rrset.name for rrset in before[one].answer]
        plain = server.ask(*one)
        assert plain.opt is None
    subnet = dns.edns.ECSOption("192.0.2.0", 24)
    assert codes(server.ask(DB, use_edns=0, options=[subnet])) == [3]
    server.zone.stale = False
    for one in asked:
        assert codes(server.ask(*one, use_edns=0)) == codes(before[one])


def test_what_just_fits_without_the_note_is_truncated_with_it(server: Any, make: Any) -> None:
    pods = [make.backend("eu-1", f"10.64.0.{n}", hostname="many", port=80) for n in range(40)]
    server.put(make.service("shop/db", headless=True), [], make.plans("shop/db", ("eu-1", 10_000, pods)))
    name = f"many.eu-1.{DB}"
    size = len(server.raw(dns.message.make_query(name, "A", use_edns=0, payload=4096).to_wire()))
    for stale in (False, True):
        server.zone.stale = stale
        for payload in range(size - 8, size + 8):
            reply = server.raw(dns.message.make_query(name, "A", use_edns=0, payload=payload).to_wire())
            assert reply is not None
            assert len(reply) <= payload
            assert bool(reply[2] & 2) == (payload < size + 6 * stale)


@pytest.mark.usefixtures("path")
async def test_a_worker_without_control_and_one_that_is_told_so_say_it(make: Any) -> None:
    async with worker(make) as live:
        for begin, end in (
            (lambda: live.rows.stale(1.0), lambda: live.rows.stale(None)),
            (lambda: live.rows.put(STALE_KEY, b""), lambda: live.rows.drop(STALE_KEY)),
        ):
            begin()
            await live.until(lambda reply: codes(reply) == [3] and bool(reply.answer), name=SVC, use_edns=0)
            await live.until(lambda reply: codes(reply) == [19], name=f"no.{SVC}", use_edns=0)
            end()
            await live.until(lambda reply: not codes(reply), name=SVC, use_edns=0)


async def test_an_agent_whose_servers_are_gone_answers_on_and_says_so(tmp_path: Path) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        await both_serve(spine)
        agent = spine.agents["eu-1"]

        async def says(wanted: list[int]) -> bool:
            asked = dns.message.make_query("web.shop.svc.clusterset.local", "A", use_edns=0)
            reply = await dns.asyncquery.udp(asked, "127.0.0.1", port=agent.dns_port, timeout=5)
            return bool(reply.answer) and codes(reply) == wanted

        for server in ("hub", "eu-1"):
            await settles(lambda: says([]), "an answer", agent.log)
            spine.servers.crash(server)
            await settles(lambda: says([3]), f"an answer that says that {server} is gone", agent.log)
            spine.servers.revive(server)
        await settles(lambda: says([]), "an answer that is not stale", agent.log)
