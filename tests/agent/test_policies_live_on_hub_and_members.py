"""Policies with the real processes: statuses on both sides, precedence, and a spoilt one over restarts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from probedbackends import json_of
from spine import EVERYBODY, Spine, answers, both_serve, pods, thing
from spineservers import settles

EVERYWHERE: dict[str, Any] = {"strategy": "ActiveActive", "dns": {"answer": "Endpoints"}}
AT_HOME: dict[str, Any] = {
    "tiers": [{"match": {"scope": "SameCluster"}}, {"match": {"scope": "Any"}}],
    "dns": {"answer": "Endpoints"},
}
TWICE: dict[str, Any] = {
    "tiers": [{"match": {"clusters": ["eu-1", "eu-2"]}}, {"match": {"clusters": ["eu-1"]}}],
    "dns": {"answer": "Endpoints"},
}
"""What the API server cannot tell to be wrong: names across tiers are too many to compare there."""


async def told(spine: Spine, where: str, condition: str, wanted: str) -> dict[str, Any]:
    """Waits until the policy `web` there has the condition with that status and reason."""

    async def look() -> dict[str, Any] | None:
        found = await spine.condition(where, kinds.POLICY, "web", condition)
        return found if found and f"{found['status']} {found['reason']}" == wanted else None

    return await settles(look, f"{condition} {wanted} in {where}")


async def policy(spine: Spine, where: str, spec: dict[str, Any]) -> None:
    await spine.apply(where, kinds.POLICY, thing(kinds.POLICY, "shop", "web", spec=spec))


async def test_a_policy_of_the_hub_goes_before_the_members_and_every_member_says_so(spine: Spine) -> None:
    await both_serve(spine)
    await spine.start("hub")
    await told(spine, "eu-1", "InForce", "True InForce")
    await spine.apply("hub", kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "shop"))
    await policy(spine, "hub", AT_HOME)
    for cluster in ("eu-1", "eu-2"):
        await answers(spine, cluster, pods(cluster))
    lost = await told(spine, "eu-1", "InForce", "False Overruled")
    assert "hub shop/web" in lost["message"]
    console = f"http://127.0.0.1:{spine.agents['eu-1'].console_port}"
    explained = await json_of(f"{console}/v1/explain?service=shop/web")
    assert explained["policy"] == "hub shop/web"
    why = "a policy of the hub goes first"
    assert explained["overruled"] == [{"policy": "member shop/web", "why": why}]

    async def applied() -> dict[str, Any] | None:
        found = await spine.get("hub", kinds.POLICY, "web")
        status = (found or {}).get("status", {})
        return status if status.get("applied") == "2/2" else None

    status = await settles(applied, "both members follow the hub's policy", spine.hub.log)
    assert status["plan"] == "SameCluster > Any"
    assert [(one["cluster"], one["applied"]) for one in status["clusters"]] == [
        ("eu-1", True),
        ("eu-2", True),
    ]
    for condition in ("Accepted", "ResolvedRefs", "InForce", "DoorFidelity"):
        assert (await spine.condition("hub", kinds.POLICY, "web", condition) or {})["status"] == "True"

    await policy(spine, "hub", {**AT_HOME, "overridable": True})
    await answers(spine, "eu-1", EVERYBODY)

    async def overruled() -> dict[str, Any] | None:
        found = await spine.get("hub", kinds.POLICY, "web")
        status = (found or {}).get("status", {})
        return status if status.get("applied") == "1/2" else None

    status = await settles(overruled, "eu-1 follows its own policy", spine.hub.log)
    assert status["clusters"][0]["cluster"] == "eu-1"
    assert status["clusters"][0]["reason"] == "Overruled"
    assert "member shop/web" in status["clusters"][0]["message"]
    await spine.clients["hub"].delete(kinds.POLICY, ObjectKey("shop", "web"))

    async def forgotten() -> bool:
        names = [one["metadata"]["name"] for one in await spine.everything("hub", kinds.POLICY_REPORT)]
        return names == ["member.shop.web"]

    await settles(forgotten, "no report of a policy that is gone")


async def test_a_spoilt_policy_holds_in_its_last_form_over_restarts(spine: Spine) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]
    await policy(spine, "eu-1", TWICE)
    refused = await told(spine, "eu-1", "Accepted", "False Duplicate")
    assert refused["message"].startswith("spec.tiers[1].match.clusters[0]: ")
    await answers(spine, "eu-1", EVERYBODY)

    async def reported() -> bool:
        report = await spine.get(
            "hub", kinds.POLICY_REPORT, "member.shop.web", hub_namespace(ClusterId("eu-1"))
        )
        spec = (report or {}).get("spec", {})
        return bool(
            spec.get("inForceGeneration", 0) < spec.get("observedGeneration", 0) and spec.get("inForce")
        )

    await settles(reported, "the report keeps the form that is in force", agent.log)
    for emptied in (False, True):
        assert await agent.stop() == 0
        if emptied:  # a new replica: only the hub remembers
            shutil.rmtree(agent.state_dir)
        await agent.start()
        await answers(spine, "eu-1", EVERYBODY)
        found = await told(spine, "eu-1", "Accepted", "False Duplicate")
        assert found["message"].endswith("The last accepted form stays in force.")
    await policy(spine, "eu-1", AT_HOME)
    await answers(spine, "eu-1", pods("eu-1"))


async def test_a_policy_spoilt_while_no_agent_ran_holds_in_its_last_form(spine: Spine) -> None:
    await both_serve(spine)
    await told(spine, "eu-1", "InForce", "True InForce")
    agent = spine.agents["eu-1"]

    async def reported() -> bool:
        namespace = hub_namespace(ClusterId("eu-1"))
        return await spine.get("hub", kinds.POLICY_REPORT, "member.shop.web", namespace) is not None

    await settles(reported, "the report stands", agent.log)
    assert await agent.stop() == 0
    await policy(spine, "eu-1", TWICE)
    shutil.rmtree(agent.state_dir)
    await agent.start()
    await told(spine, "eu-1", "Accepted", "False Duplicate")
    await answers(spine, "eu-1", EVERYBODY)
