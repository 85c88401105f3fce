"""What real agents say of a real change."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dns.rcode

sys.path.append(str(Path(__file__).parents[1] / "agent"))

from spine import Spine, both_serve, endpoints, pods
from spineservers import Embedded, settles

from isthmus.api import kinds


async def test_explain_and_events_follow_a_cluster_that_lost_its_pods(
    isthmus: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        await both_serve(spine)
        agents = ",".join(f"http://127.0.0.1:{agent.console_port}" for agent in spine.agents.values())

        async def explained() -> Any:
            ran = await isthmus("explain", "shop/web:http", "--from", "eu-1", ISTHMUS_AGENTS=agents)
            return ran if ran.code == 0 and "eu-2" in ran.out else None

        ran = await settles(explained, "an explanation")
        assert "shop/web TCP/80 from eu-1, policy: member shop/web" in ran.out
        for cluster in ("eu-1", "eu-2"):
            for address in pods(cluster):
                assert f"web-{address}" in ran.out
        await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", pods("eu-2")[:1]))

        async def told() -> bool:
            ran = await isthmus("events", ISTHMUS_AGENTS=agents)
            assert ran.code == 0
            return "eu-1  plan  shop/web TCP/80 from eu-1: eu-1 50% -> 66.67%, eu-2 50% -> 33.33%" in ran.out

        await settles(told, "an event of the shares that moved")


async def test_dns_explain_tells_what_the_dns_of_each_agent_answers(
    isthmus: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        for cluster in spine.agents:
            await spine.serve(cluster, "web")
        await both_serve(spine, "drawn")
        agents = ",".join(f"http://127.0.0.1:{agent.console_port}" for agent in spine.agents.values())
        asked = {
            f"{name}.shop.svc.clusterset.local": rtype
            for name, rtype in (("web", "A"), ("drawn", "A"), ("_http._tcp.web", "SRV"), ("nope", "A"))
        }

        async def agree() -> bool:
            """Whether what is explained is what is answered, for every name in every cluster."""
            for name, rtype in asked.items():
                ran = await isthmus(
                    "dns", "explain", name, "--type", rtype, "-o", "json", ISTHMUS_AGENTS=agents
                )
                told = {item["cluster"]: item for item in json.loads(ran.out)["items"]}
                for cluster, agent in spine.agents.items():
                    reply = await agent.resolve(name, rtype)
                    given = sorted(one.to_text() for rrset in reply.answer for one in rrset)
                    code = told[cluster]["rcode"].replace("NODATA", "NOERROR")
                    wanted = name.startswith(("web", "_http", "drawn"))
                    if (code, sorted(told[cluster]["answers"]), bool(given)) != (
                        dns.rcode.to_text(reply.rcode()),
                        given,
                        wanted,
                    ):
                        return False
            return True

        await settles(agree, "the same answers", spine.agents["eu-1"].log)
