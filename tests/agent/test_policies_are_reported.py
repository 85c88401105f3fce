"""What an agent makes of policies, from tables alone: statuses, reports, and what it remembers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from fedtables import settles
from policyworld import ME, STATUS, WEB, World, condition, report

from isthmus.agent import lastgood
from isthmus.agent.acceptance import PolicyKey
from isthmus.agent.lastgood import LastGood
from isthmus.agent.recall import Recall, form_of, newer
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Table
from isthmus.kube.raw import unpack
from isthmus.model.cluster import Phase, Standing
from isthmus.model.names import ServiceKey

KEY = ServiceKey("shop", "web")
GOOD = {"strategy": "ActiveActive"}
WRONG = {"strategy": "ActiveActive", "overridable": True}
"""On a member nothing is overridable: only the agent can know."""


async def test_a_members_policy_has_its_conditions_its_plan_and_a_report() -> None:
    world = World()
    world.policy("member", {**GOOD, "targets": [{"cluster": "eu-1"}, {"cluster": "us-9"}]}, generation=3)
    async with world.running():
        await settles(lambda: world.says("InForce") == "True InForce")
        assert world.says("Accepted") == "True Accepted"
        assert world.says("ResolvedRefs") == "False RefNotFound"
        assert world.says("DoorFidelity") == "True Exact"
        assert world.status()["plan"] == "eu-1 + us-9"
        assert world.status()["observedGeneration"] == 3
        told = world.spec("member")
        assert (told["origin"], told["uid"], told["inForceGeneration"]) == ("Member", "u", 3)
        assert told["inForce"]["targets"] == [{"cluster": "eu-1"}, {"cluster": "us-9"}]
        world.put("hub", kinds.CLUSTER, ObjectKey("", "us-9"), spec={"region": "us"})
        await settles(lambda: world.says("ResolvedRefs") == "True ResolvedRefs")


async def test_a_hubs_policy_overrules_the_members_and_is_only_reported() -> None:
    world = World()
    world.policy("member", GOOD)
    world.policy("hub", {"strategy": "Locality"}, uid="h")
    async with world.running():
        await settles(lambda: world.says("InForce") == "False Overruled")
        message = next(c["message"] for c in world.status()["conditions"] if c["type"] == "InForce")
        assert "hub shop/web" in message
        await settles(lambda: condition(world.spec("hub"), "InForce") == "True InForce")
        assert world.spec("hub")["plan"] == "SameZone > SameCluster > SameRegion > Any"
        refs = {ref for ref in world.outputs.member if ref.kind is kinds.POLICY}
        assert refs == {STATUS}, "the hub's policy has no status from here"
        world.writers["hub/globaltrafficpolicies"].drop(WEB)
        await settles(lambda: world.says("InForce") == "True InForce")
        await settles(lambda: report("hub") not in world.outputs.policies.desired)


async def test_a_policy_waits_for_its_service_and_says_so() -> None:
    world = World()
    world.writers["member/serviceexports"].drop(WEB)
    world.policy("member", GOOD)
    async with world.running():
        await settles(lambda: world.says("InForce") == "False NoService")
        world.put("member", kinds.SERVICE_EXPORT, WEB)
        await settles(lambda: world.says("InForce") == "True InForce")


async def test_the_last_accepted_form_stays_in_force_and_in_the_report() -> None:
    world = World()
    world.policy("member", GOOD, generation=1)
    async with world.running():
        await settles(lambda: world.says("InForce") == "True InForce")
        world.policy("member", WRONG, generation=2)
        await settles(lambda: world.says("Accepted") == "False OverridableOnMember")
        assert world.says("InForce") == "True InForce"
        told = world.spec("member")
        assert (told["observedGeneration"], told["inForceGeneration"], told["inForce"]) == (2, 1, GOOD)
        assert world.chain.policy_of(world.chain.services.get(KEY), None).key == KEY


async def test_a_cluster_that_leaves_takes_its_reports_back() -> None:
    world = World()
    world.policy("member", GOOD)
    async with world.running():
        await settles(lambda: report("member") in world.outputs.policies.desired)
        world.membership.put("own", Standing(phase=Phase.LEAVING))
        await settles(lambda: not world.outputs.policies.desired)


def remembering(*forms: tuple[PolicyKey, GlobalTrafficPolicy]) -> Table[PolicyKey, GlobalTrafficPolicy]:
    table: Table[PolicyKey, GlobalTrafficPolicy] = Table("remembered policies")
    table.partition("test").replace(dict(forms))
    return table


def form(spec: dict[str, Any], *, generation: int = 1, uid: str = "u") -> GlobalTrafficPolicy:
    body = {
        "metadata": {"namespace": "shop", "name": "web", "uid": uid, "generation": generation},
        "spec": spec,
    }
    return kinds.POLICY.decode(msgspec.json.encode(body))


@pytest.mark.parametrize(
    ("kept", "in_force"),
    [
        (form(GOOD, generation=4), 4),
        (form(GOOD, uid="of another object"), 0),
        (form(WRONG), 0),
    ],
)
async def test_what_was_in_force_before_the_start_holds_for_the_same_object_only(
    kept: GlobalTrafficPolicy, in_force: int
) -> None:
    world = World(remembering((("member", WEB), kept)))
    world.policy("member", WRONG, generation=5)
    async with world.running():
        await settles(lambda: world.says("Accepted") == "False OverridableOnMember")
        assert world.spec("member")["inForceGeneration"] == in_force
        assert world.says("InForce") == ("True InForce" if in_force else "False NotAccepted")


async def test_nothing_is_planned_before_it_is_known_what_was_in_force() -> None:
    table: Table[PolicyKey, GlobalTrafficPolicy] = Table("remembered policies")
    writer = table.partition("test")
    world = World(table)
    world.policy("member", WRONG)
    async with world.running():
        await settles(lambda: world.chain.services.synced)
        assert not world.chain.policies.synced
        writer.replace({("member", WEB): form(GOOD)})
        await settles(lambda: world.says("InForce") == "True InForce")


async def test_the_disk_keeps_what_is_in_force_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastgood, "BATCH_SECONDS", 0.0)
    async with LastGood(tmp_path / "store.db") as store:
        for spoilt in (False, True):
            recall = Recall(store, None, ME)
            world = World(recall.remembered)
            world.policy("member", WRONG if spoilt else GOOD, generation=2 if spoilt else 1)
            running = asyncio.create_task(recall.run(world.chain))
            async with world.running():
                await settles(lambda world=world: world.says("InForce") == "True InForce")
                assert recall.complete

                async with asyncio.timeout(60):
                    while (found := await store.load("accepted/member", kinds.POLICY)) is None or not found[
                        1
                    ]:
                        await asyncio.sleep(0.005)
                assert found[1][WEB].metadata.generation == 1
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_a_report_says_again_what_was_in_force() -> None:
    world = World()
    world.policy("hub", {"strategy": "FailOver", "timeout": "1s"}, generation=6)
    async with world.running():
        await settles(lambda: bool(world.spec("hub")))
    body = unpack(world.outputs.policies.desired.get(report("hub")))
    found = form_of(kinds.POLICY_REPORT.decode(msgspec.json.encode(body)))
    assert found is not None
    key, kept = found
    assert key == ("hub", WEB)
    assert (kept.metadata.uid, kept.metadata.generation) == ("u", 6)
    assert msgspec.json.decode(bytes(kept.spec)) == {"strategy": "FailOver", "timeout": "1s"}


def test_of_disk_and_report_the_later_form_counts() -> None:
    key: PolicyKey = ("member", WEB)
    for disk, reported, wanted_ in ((3, 4, 4), (4, 3, 4), (4, 4, 4)):
        forms = {key: form(GOOD, generation=disk)}
        newer(forms, {key: form(GOOD, generation=reported)})
        assert forms[key].metadata.generation == wanted_
    forms = {key: form(GOOD, generation=9, uid="before")}
    newer(forms, {key: form(GOOD, generation=1)})
    assert forms[key].metadata.uid == "u"
