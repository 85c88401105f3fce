"""What Knot's kdig makes of our answers: another reader of the same protocol than dig and dnspython."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import pytest
from dnslive import SVC, Live, worker

pytestmark = [
    pytest.mark.usefixtures("path"),
    pytest.mark.skipif(shutil.which("kdig") is None, reason="no kdig: apt install knot-dnsutils"),
]

DB = "db.shop.svc.clusterset.local"
POD = f"many.eu-1.{DB}"


async def kdig(live: Live, *arguments: str) -> str:
    where = (f"@{live.where.host}", "-p", str(live.where.port), "+retry=0", "+timeout=60")
    process = await asyncio.create_subprocess_exec(
        "kdig", *where, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert ";; WARNING" not in out.decode().replace(";; WARNING: truncated reply", ""), out.decode()
    return out.decode()


@pytest.fixture
async def live(make: Any) -> Any:
    async with worker(make) as live:
        pods = [
            make.backend("eu-1", f"10.64.0.{n}", f"fd00::{n}", hostname=f"db-{n}", port=80) for n in range(8)
        ]
        pods += [make.backend("eu-1", f"10.64.1.{n}", hostname="many", port=80) for n in range(100)]
        plans = make.plans("shop/db", ("eu-1", 10_000, pods))
        live.rows.put(make.key("shop/db"), make.render(make.service("shop/db", headless=True), [], plans))
        await live.until(lambda reply: bool(reply.answer), name=DB)
        yield live


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
async def test_kdig_reads_each_kind_of_answer(live: Live, way: str) -> None:
    for options in ((), ("+edns",), ("+dnssec", "+bufsize=4096")):
        assert "5\tIN\tA\t10.96.0.10" in await kdig(live, SVC, way, *options)
        assert "status: NXDOMAIN" in await kdig(live, f"no.{SVC}", way, *options)
        assert "AUTHORITY: 1" in await kdig(live, SVC, "AAAA", way, *options)
        assert "0 12 80 " in await kdig(live, f"_http._tcp.{DB}", "SRV", way, *options)
        assert '"1.0.0"' in await kdig(live, "dns-version.clusterset.local", "TXT", way, *options)
        assert "RFC8482" in await kdig(live, SVC, "ANY", way, *options)


async def test_kdig_follows_a_truncated_reply_over_tcp(live: Live) -> None:
    out = await kdig(live, POD, "+ignore")
    assert ("tc" in out.partition("Flags:")[2].partition(";")[0], "ANSWER: 0" in out) == (True, True)
    assert "ANSWER: 100" in await kdig(live, POD)


async def test_kdig_asks_several_questions_over_tcp(live: Live) -> None:
    out = await kdig(live, "+tcp", "+keepopen", SVC, "A", SVC, "AAAA", DB, "A", f"no.{SVC}", "A")
    assert (out.count("status: NOERROR"), out.count("status: NXDOMAIN")) == (3, 1)


async def test_kdig_sends_options_and_finds_those_of_the_reply(live: Live) -> None:
    assert "CLIENT-SUBNET: 192.0.2.0/24/24" in await kdig(live, DB, "+subnet=192.0.2.0/24")
    assert "CLIENT-SUBNET: 192.0.2.0/24/0" in await kdig(live, SVC, "+subnet=192.0.2.0/24")
    assert "10.96.0.10" in await kdig(live, SVC, "+cookie", "+nsid", "+padding=64")
    assert "BADVERS" in await kdig(live, SVC, "+edns=1")
    assert "EDE: 20 (Not Authoritative)" in await kdig(live, "example.com", "+edns")
