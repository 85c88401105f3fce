"""What members report of a policy becomes its status on the hub."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.agent.hubpolicies import AT_A_TIME, TOLD_POLICY, PolicySums
from isthmus.api import hub, kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.kube.applier import ObjectRef
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

WEB = ObjectKey("shop", "web")
MEMBERS = ("eu-1", "eu-2", "us-1")


class HubTables:
    """A hub's policies, members and their reports."""

    def __init__(self, *members: str) -> None:
        self.clusters: Table[ObjectKey, hub.Cluster] = Table("clusters")
        self.sums = PolicySums(self.clusters)
        self.members = self.clusters.partition("test")
        self.policies = self.sums.policies.partition("test")
        self.reports = self.sums.reports.partition("test")
        for writer in (self.policies, self.reports):
            writer.replace({})
        rows = [msgspec.convert({"metadata": {"name": name}}, hub.Cluster) for name in members]
        self.members.replace({one.metadata.key: one for one in rows})

    def policy(self, spec: dict[str, Any], *, generation: int = 1, uid: str = "u") -> None:
        body = {
            "metadata": {"namespace": "shop", "name": "web", "uid": uid, "generation": generation},
            "spec": spec,
        }
        self.policies.put(WEB, kinds.POLICY.decode(msgspec.json.encode(body)))

    def report(
        self,
        cluster: str,
        *,
        said_by: str = "",
        uid: str = "u",
        observed: int = 1,
        in_force: int = 1,
        **conditions: str,
    ) -> None:
        """`conditions` are `Type="Status Reason message"`, all True unless given."""
        texts = {"Accepted": "True Accepted ", "InForce": "True InForce Holds for web.", **conditions}
        body = {
            "metadata": {"namespace": hub_namespace(ClusterId(said_by or cluster)), "name": "hub.shop.web"},
            "spec": {
                "cluster": cluster,
                "policy": {"namespace": "shop", "name": "web"},
                "uid": uid,
                "observedGeneration": observed,
                "inForceGeneration": in_force,
                "plan": "the plan in force",
                "conditions": [
                    dict(
                        zip(("type", "status", "reason", "message"), (kind, *text.split(" ", 2)), strict=True)
                    )
                    for kind, text in texts.items()
                ],
            },
        }
        found = TOLD_POLICY.decode(msgspec.json.encode(body))
        self.reports.put(found.metadata.key, found)

    def status(self) -> dict[str, Any]:
        self.sums.renew()
        found = self.sums.desired.get(ObjectRef(kinds.POLICY, *WEB, "status"))
        assert found is not None
        made = found["status"]
        assert isinstance(made, dict)
        return made

    def condition(self, kind: str) -> str:
        (found,) = (one for one in self.status()["conditions"] if one["type"] == kind)
        return f"{found['status']} {found['reason']} {found['message']}"

    def entries(self) -> dict[str, tuple[bool, str]]:
        return {one["cluster"]: (one["applied"], one["reason"]) for one in self.status()["clusters"]}


def test_members_that_follow_are_counted_and_the_others_say_why_not() -> None:
    world = HubTables(*MEMBERS, "ap-1")
    world.policy({"strategy": "Locality"}, generation=2)
    world.report("eu-1", observed=2, in_force=2)
    world.report(
        "eu-2", observed=2, in_force=2, InForce="False Overruled Overruled for web by member shop/web."
    )
    world.report("us-1", observed=1, in_force=1)
    status = world.status()
    assert status["applied"] == "1/4"
    assert status["observedGeneration"] == 2
    assert status["plan"] == "SameZone > SameCluster > SameRegion > Any"
    assert world.entries() == {
        "ap-1": (False, "NoReport"),
        "eu-1": (True, "InForce"),
        "eu-2": (False, "Overruled"),
        "us-1": (False, "Pending"),
    }
    assert [one["cluster"] for one in status["clusters"]] == ["ap-1", "eu-2", "us-1", "eu-1"]
    assert world.condition("Accepted").startswith("True Accepted")
    assert world.condition("InForce") == (
        "False Overruled eu-2: Overruled for web by member shop/web.; eu-1, us-1: Holds for web."
    )


def test_what_all_say_alike_is_said_once() -> None:
    world = HubTables(*MEMBERS)
    world.policy({})
    for name in MEMBERS:
        world.report(name, ResolvedRefs="False RefNotFound The clusterset does not have: cluster eu-9.")
    assert world.condition("ResolvedRefs") == "False RefNotFound The clusterset does not have: cluster eu-9."
    assert world.status()["applied"] == "3/3"


def test_a_wrong_policy_is_refused_by_the_hub_and_the_older_form_is_shown() -> None:
    world = HubTables("eu-1")
    world.policy({"strategy": "Sideways"}, generation=2)
    refused = "False InvalidField spec.strategy: no."
    world.report("eu-1", observed=2, in_force=1, Accepted=refused)
    assert world.condition("Accepted").startswith("False InvalidField spec.strategy: ")
    assert world.condition("Accepted").endswith("The last accepted form stays in force.")
    assert world.status()["plan"] == "the plan in force"
    (entry,) = world.status()["clusters"]
    assert (entry["applied"], entry["generation"], entry["reason"]) == (False, 1, "InvalidField")


def test_only_members_are_heard_and_each_only_for_itself() -> None:
    world = HubTables("eu-1", "eu-2")
    world.policy({})
    world.report("eu-1", said_by="eu-2")
    world.report("us-1")
    assert world.entries() == {"eu-1": (False, "NoReport"), "eu-2": (True, "InForce")}


def test_a_report_of_an_earlier_policy_of_that_name_is_not_counted() -> None:
    world = HubTables("eu-1")
    world.policy({}, uid="new")
    world.report("eu-1", uid="old")
    assert world.entries() == {"eu-1": (False, "NoReport")}
    world.report("eu-1", uid="new")
    assert world.entries() == {"eu-1": (True, "InForce")}


def test_members_that_come_and_go_change_the_count() -> None:
    world = HubTables("eu-1")
    world.policy({})
    world.report("eu-1")
    assert world.status()["applied"] == "1/1"
    joined = msgspec.convert({"metadata": {"name": "eu-2"}}, hub.Cluster)
    world.members.put(joined.metadata.key, joined)
    assert world.status()["applied"] == "1/2"
    world.members.drop(ObjectKey("", "eu-1"))
    assert world.status()["applied"] == "0/1"
    world.policies.drop(WEB)
    world.sums.renew()
    assert not world.sums.desired


def test_a_sum_that_comes_out_the_same_is_not_written() -> None:
    world = HubTables(*MEMBERS)
    world.policy({})
    for name in MEMBERS:
        world.report(name)
    world.status()
    written: list[ObjectRef] = []
    world.sums.desired.observe(lambda key, _old, _new: written.append(key))
    for name in MEMBERS:
        world.report(name, Accepted="True Accepted said otherwise, and summed up as before")
    world.members.put(ObjectKey("", "eu-1"), msgspec.convert({"metadata": {"name": "eu-1"}}, hub.Cluster))
    assert not world.sums.renew()
    assert written == []
    world.report("eu-1", InForce="False NoService Nothing.")
    world.sums.renew()
    assert written == [ObjectRef(kinds.POLICY, *WEB, "status")]


def test_many_sums_leave_turns_to_others_and_all_are_made() -> None:
    world = HubTables(*MEMBERS)
    for number in range(3 * AT_A_TIME):
        metadata = {"namespace": "shop", "name": f"web-{number}", "uid": "u", "generation": 1}
        found = kinds.POLICY.decode(msgspec.json.encode({"metadata": metadata, "spec": {}}))
        world.policies.put(found.metadata.key, found)
    assert [world.sums.renew() for _ in range(4)] == [True, True, False, False]
    assert len(world.sums.desired) == 3 * AT_A_TIME


def test_nothing_is_told_before_everything_was_read() -> None:
    sums = PolicySums(Table("clusters"))
    sums.policies.partition("test").replace({})
    sums.renew()
    assert not sums.desired.synced


def test_a_large_clusterset_fits_into_one_status() -> None:
    members = [f"c{n:04}" for n in range(1_200)]
    world = HubTables(*members)
    world.policy({})
    for name in members:
        world.report(name, InForce=f"False Overruled {name}: {'x' * 5000}")
    status = world.status()
    assert len(status["clusters"]) == 500
    assert status["applied"] == "0/1200"
    assert len(msgspec.json.encode(status)) < 500_000
