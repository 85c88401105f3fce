"""A restart in the middle of an outage sends nobody to the dead."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import EVERYBODY, WEB, Agent, Spine, active_active, answers, both_serve, pods
from spineservers import settles

from isthmus.agent import verdicts
from isthmus.api import kinds
from isthmus.model.health import CheckKey, CheckTarget, HealthCheck, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes import memory


async def endpoint_id(spine: Spine, address: str) -> EndpointId:
    for chunk in await spine.everything("hub", kinds.EXPORTED_ENDPOINTS):
        for entry in chunk["spec"]["endpoints"]:
            if address in entry["addresses"]:
                return EndpointId(entry["id"])
    raise AssertionError(f"{address} is not exported")


def remember_down(agent: Agent, endpoint: EndpointId, address: str) -> None:
    key = CheckKey(ServiceKey("shop", "web"), "eu-2", endpoint, "TCP/80")
    target = CheckTarget(address=address, port=8080, check=HealthCheck(path="/nobody-answers"))
    verdict = Verdict(up=False, since=1.0, reason="timeout")
    note = memory.note(key, target, verdict, up=False, seen=time.time())
    (agent.state_dir / verdicts.FILE).write_bytes(memory.encode([note]))


@pytest.mark.parametrize("spine", ["embedded"], indirect=True)
async def test_what_was_down_gets_nothing_after_a_start(spine: Spine) -> None:
    policy = active_active("web")
    policy["spec"]["health"] = {"path": "/nobody-answers"}
    await both_serve(spine)
    await spine.apply("eu-1", kinds.POLICY, policy)
    agent = spine.agents["eu-1"]
    dead = pods("eu-2")[0]
    endpoint = await endpoint_id(spine, dead)
    assert await agent.stop() == 0
    remember_down(agent, endpoint, dead)
    await agent.start()
    seen: set[str] = set()

    async def all_but_the_dead() -> bool:
        seen.update(await agent.addresses(WEB))
        assert dead not in seen, "from the first answer on"
        return seen == set(EVERYBODY) - {dead}

    await settles(all_but_the_dead, "everybody else is answered", agent.log)
    assert await agent.stop() == 0
    (agent.state_dir / verdicts.FILE).unlink()
    await agent.start()
    await answers(spine, "eu-1", EVERYBODY)  # never Up from here, so it cannot be Down
