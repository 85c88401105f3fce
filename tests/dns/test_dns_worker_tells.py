"""What a worker counts and writes to its log, whoever answers; and where its replies come from."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
import structlog
from dnslive import DEADLINE, SVC, Live, worker

from isthmus.dns import metrics, querylog
from isthmus.dns.server import Listen
from isthmus.dns.tcp import TcpLimits

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("path")


def numbers(live: Live) -> dict[tuple[str, ...], float]:
    """All series but histograms: name without `isthmus_dns_`, then the labels."""
    assert live.standing is not None
    return {
        (sample.metric.name.removeprefix("isthmus_dns_"), *sample.labels): sample.numbers[0]
        for sample in live.standing.samples()
        if sample.metric.kind != "histogram"
    }


def counted(live: Live, what: str) -> float:
    """All queries, replies or answers that were counted."""
    return sum(number for series, number in numbers(live).items() if series[0] == what)


async def test_queries_are_counted_by_type_outcome_transport_and_path(make: Any, path: str) -> None:
    async with worker(make) as live:
        before = numbers(live)
        assert set(before.values()) <= set(map(float, range(10_000)))
        for _ in range(3):
            await live.udp()
        await live.udp(rtype="AAAA")
        await live.udp("no.such.svc.clusterset.local", "SRV")
        await live.udp("example.com", "TYPE4711")
        await live.udp(use_edns=1)
        await live.udp("clusterset.local", "SOA")
        await live.tcp()
        await live.tcp(rtype="ANY")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as junk:
            junk.sendto(b"no query", live.where)
        junk_seen = ("dropped", "not_a_query")
        async with asyncio.timeout(DEADLINE):
            while numbers(live)[junk_seen] == before[junk_seen]:
                await live.udp(rtype="HTTPS")
                await asyncio.sleep(0.005)
            # What was counted last may be a moment behind its reply.
            while len({counted(live, what) for what in ("queries", "replies", "answers")}) > 1:
                await asyncio.sleep(0.005)
        after = numbers(live)
        grown = {
            series: after[series] - number for series, number in before.items() if after[series] > number
        }
        grown.pop(("tcp_connections",), None)  # the last one may not be gone yet
        https = grown.pop(("queries", "HTTPS", "udp"), 0.0)
        assert grown.pop(("replies", "NODATA", "udp")) == 1 + https
        fast, python = 3 + 1 + 2 + https, 2
        expected = {
            ("queries", "A", "udp"): 4,
            ("queries", "AAAA", "udp"): 1,
            ("queries", "SRV", "udp"): 1,
            ("queries", "SOA", "udp"): 1,
            ("queries", "other", "udp"): 1,
            ("queries", "A", "tcp"): 1,
            ("queries", "ANY", "tcp"): 1,
            ("replies", "NOERROR", "udp"): 4,
            ("replies", "NXDOMAIN", "udp"): 1,
            ("replies", "REFUSED", "udp"): 1,
            ("replies", "BADVERS", "udp"): 1,
            ("replies", "NOERROR", "tcp"): 2,
            junk_seen: 1,
        }
        if path == "fast":
            expected |= {
                ("answers", "fast", "udp"): fast,
                ("answers", "python", "udp"): python,
                ("answers", "fast", "tcp"): 1,
                ("answers", "python", "tcp"): 1,
            }
        else:
            expected |= {("answers", "python", "udp"): fast + python, ("answers", "python", "tcp"): 2}
        assert grown == expected
        assert after["fast_path",] == (path == "fast")
        assert (after["services",], after["names",]) == (1, 9)


async def test_every_reply_over_udp_is_in_the_histogram(make: Any) -> None:
    async with worker(make) as live:
        for rtype in ("A", "A", "SOA"):
            await live.udp(rtype=rtype, name="clusterset.local")
        assert live.standing is not None
        async with asyncio.timeout(DEADLINE):  # what was counted last may be a moment behind its reply
            while True:
                seconds = next(s for s in live.standing.samples() if s.metric is metrics.SECONDS)
                replies = sum(
                    n for key, n in numbers(live).items() if key[0] == "replies" and key[2] == "udp"
                )
                if sum(seconds.numbers[:-1]) == replies:
                    break
                await asyncio.sleep(0.005)
        assert len(seconds.numbers) == metrics.SECONDS.width
        assert seconds.numbers[-1] > 0


async def test_tcp_connections_are_counted(make: Any) -> None:
    async with worker(make, tcp=TcpLimits(connections=1)) as live:
        held = await asyncio.open_connection(*live.where)
        async with asyncio.timeout(DEADLINE):
            while numbers(live)["tcp_connections",] != 1:
                await asyncio.sleep(0.005)
            more = await asyncio.open_connection(*live.where)
            while numbers(live)["tcp_refused",] != 1:
                await asyncio.sleep(0.005)
        for _, writer in (held, more):
            writer.close()


async def test_a_sample_of_the_queries_is_logged_and_no_more(make: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        async with worker(make, query_log=0.001) as live:
            for _ in range(20):
                await live.udp()
            async with asyncio.timeout(DEADLINE):
                while not any(entry["event"] == "dns query" for entry in logs):
                    await asyncio.sleep(0.005)
    (entry,) = [entry for entry in logs if entry["event"] == "dns query"]
    assert (entry["name"], entry["type"], entry["outcome"]) == (SVC + ".", "A", entry["outcome"])
    assert (entry["client"], entry["transport"]) == ("127.0.0.1", "udp")


async def test_without_a_query_log_nothing_is_logged(make: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        async with worker(make) as live:
            await live.udp()
            await live.tcp(rtype="ANY")
    assert "dns query" not in {entry["event"] for entry in logs}


def test_names_in_the_log_are_printable_whatever_callers_send() -> None:
    assert querylog.text(b"\x04a.\n\xff\x02b\\\x00") == "a\\.\\010\\255.b\\\\."
    assert querylog.text(b"\x00") == "."


async def test_an_answer_comes_from_the_address_that_was_asked(make: Any) -> None:
    """A caller's connected socket hears nobody else; without IP_PKTINFO the reply is from 127.0.0.1."""
    async with worker(make, host="0.0.0.0", synced=False) as live:
        for name, expected in (("example.com", dns.rcode.REFUSED), (SVC, dns.rcode.SERVFAIL)):
            asked = dns.message.make_query(name, "A")
            reply = await dns.asyncquery.udp(asked, "127.77.0.5", port=live.where.port, timeout=DEADLINE)
            assert reply.rcode() == expected


IN_A_NAMESPACE = """
import asyncio, os, sys
sys.path[:0] = sys.argv[1:]
import dns.asyncquery, dns.message
from conftest import Make
from dnslive import SVC, worker

async def main():
    async with worker(Make, host="::1") as live:
        pass
    async with worker(Make, host="::", synced=False) as live:
        for name in ("example.com", SVC):
            asked = dns.message.make_query(name, "A")
            await dns.asyncquery.udp(asked, "fd77::5", port=live.where.port, source="fd77::9", timeout=60)

asyncio.run(main())
"""


def test_an_answer_over_ipv6_comes_from_the_address_that_was_asked(tmp_path: Path) -> None:
    script = tmp_path / "ask.py"
    script.write_text(IN_A_NAMESPACE)
    setup = (
        "ip link set lo up && ip addr add fd77::5/128 dev lo nodad && ip addr add fd77::9/128 dev lo nodad"
    )
    unshare = ["unshare", "-Urn", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, setup], check=False).returncode:
        pytest.skip("no network namespace of our own can be made here (unshare -Urn, ip)")
    command = f'{setup} && exec "$0" "$@"'
    paths = [str(ROOT), str(Path(__file__).parent)]
    subprocess.run([*unshare, command, sys.executable, str(script), *paths], check=True, timeout=120)


@pytest.mark.parametrize("path", ["fast"], indirect=True)
async def test_a_flood_of_rare_queries_costs_itself_and_no_common_query(make: Any) -> None:
    """What Python cannot keep up with is dropped and counted; what the fast path answers does not wait."""
    async with worker(make) as live:
        rare = dns.message.make_query("clusterset.local", "SOA").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            for _ in range(600):  # the loop has no turn meanwhile
                flood.sendto(rare, live.where)
            common = dns.message.make_query(SVC, "A").to_wire()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                caller.settimeout(DEADLINE)
                caller.sendto(common, live.where)
                assert caller.recv(4096)[:2] == common[:2]
        assert numbers(live)["dropped", "python_queue_full"] > 0
        assert (await live.udp("clusterset.local", "SOA")).answer


async def test_a_worker_serves_several_addresses(make: Any) -> None:
    both = (Listen("127.0.0.1", 0), Listen("::1", 0))
    async with worker(make, listen=both) as live:
        assert live.standing is not None
        for where in live.standing.served.bound:
            asked = dns.message.make_query(SVC, "A")
            assert (await dns.asyncquery.udp(asked, where.host, port=where.port, timeout=DEADLINE)).answer
