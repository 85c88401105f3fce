"""What real agents say of a real change."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "agent"))

from spine import EVERYBODY, WEB, Agent, Spine, active_active, both_serve, endpoints, pods
from spineservers import Embedded, settles
from test_verdicts_outlive_control import endpoint_id, remember_down

from isthmus.api import kinds
from isthmus.demo.httpcall import fetch

PATIENT = ("--timeout", "60")
"""For agents on a busy machine."""


async def test_explain_and_events_follow_a_cluster_that_lost_its_pods(
    isthmus: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    async with Spine(tmp_path, Embedded()) as spine:
        await both_serve(spine)
        agents = ",".join(f"http://127.0.0.1:{agent.console_port}" for agent in spine.agents.values())

        async def explained() -> Any:
            ran = await isthmus("explain", "shop/web:http", "--from", "eu-1", *PATIENT, ISTHMUS_AGENTS=agents)
            return ran if ran.code == 0 and "eu-2" in ran.out else None

        ran = await settles(explained, "an explanation")
        assert "shop/web TCP/80 from eu-1, policy: member shop/web" in ran.out
        for cluster in ("eu-1", "eu-2"):
            for address in pods(cluster):
                assert f"web-{address}" in ran.out
        await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", pods("eu-2")[:1]))

        async def told() -> bool:
            ran = await isthmus("events", *PATIENT, ISTHMUS_AGENTS=agents)
            assert ran.code == 0
            return "eu-1  plan  shop/web TCP/80 from eu-1: eu-1 50% -> 66.67%, eu-2 50% -> 33.33%" in ran.out

        await settles(told, "an event of the shares that moved")


async def test_replicas_follow_their_own_checks_and_status_names_where_they_differ(
    isthmus: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """One replica remembers a pod as Down that still fails; the other never saw it Up, so it counts there."""
    async with Spine(tmp_path, Embedded()) as spine:
        await both_serve(spine)
        policy = active_active("web")
        policy["spec"]["health"] = {"path": "/nobody-answers"}
        await spine.apply("eu-1", kinds.POLICY, policy)
        dead = pods("eu-2")[0]
        endpoint = await endpoint_id(spine, dead)
        second = tmp_path / "second"
        second.mkdir()
        shutil.copy(tmp_path / "eu-1.kubeconfig", second)
        first, other = spine.agents["eu-1"], Agent("eu-1", second)
        other.state_dir.mkdir()
        remember_down(other, endpoint, dead)
        await other.start()
        try:
            seen = f"http://127.0.0.1:{first.console_port}", f"http://127.0.0.1:{other.console_port}"

            async def judged() -> bool:
                try:
                    answer = await fetch("127.0.0.1", other.console_port, "/v1/health?up=false")
                except OSError:
                    return False
                return answer.status == 200 and json.loads(answer.body)["total"] == 1

            await settles(judged, "the second replica's verdict", other.log)
            ran = await isthmus("status", "-o", "json", *PATIENT, ISTHMUS_AGENTS=",".join(seen))
            (row,) = json.loads(ran.out)["differences"]
            assert (row["agentsOf"], row["cluster"], row["endpoint"]) == ("eu-1", "eu-2", endpoint)
            assert (list(row["down"]), row["notDown"]) == ([seen[1]], [seen[0]])
            ran = await isthmus("status", *PATIENT, ISTHMUS_AGENTS=",".join(seen))
            assert f"eu-1: replicas differ on shop/web TCP/80, endpoint {endpoint} of eu-2" in ran.err

            drawn: set[str] = set()

            async def apart() -> bool:
                drawn.update(await other.addresses(WEB))
                assert dead not in drawn

                return drawn == set(EVERYBODY) - {dead} and await first.addresses(WEB) == EVERYBODY

            await settles(apart, "each replica's DNS follows its own checks", other.log)
        finally:
            await other.stop()
