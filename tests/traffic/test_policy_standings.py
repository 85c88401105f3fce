"""What a policy's status says: where it holds, to whom it lost, and what the doors cannot express of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worked_cases import KEY, PORT, policy_object, service_of

from isthmus.model.names import ServiceKey
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused
from isthmus.model.service import Port, Protocol, Service, ServiceType
from isthmus.traffic.accept import accept
from isthmus.traffic.policychoice import choose
from isthmus.traffic.policystatus import TYPES, policy_conditions
from isthmus.traffic.standing import PolicyId, Standing, policy_id, standings
from isthmus.traffic.words import MAX_LINE, plan_line

GRPC = Port(name="grpc", protocol=Protocol.TCP, port=9090)
SERVICE = replace(service_of("eu-1"), ports=(PORT, GRPC), labels=(("tier", "front"),))


def http(port: Port) -> str:
    return port.name if port.name in ("http", "grpc") else "tcp"


def policy(name: str, origin: Any = "member", **spec: Any) -> Policy:
    answer = accept(policy_object(spec, name), origin)
    assert isinstance(answer, Policy), answer
    return answer


def ref(section: str = "") -> list[dict[str, str]]:
    return [{"name": KEY.name, **({"sectionName": section} if section else {})}]


def told(
    one: Policy, *others: Policy, service: Service = SERVICE, refused: Refused | None = None
) -> dict[str, Any]:
    """The conditions of one policy beside others, by type."""
    found = standings(service, (one, *others), http)
    here = {KEY: found[policy_id(one)]} if policy_id(one) in found else {}
    conditions = policy_conditions(7, refused, older_in_force=refused is not None, standings=here)
    assert [condition["type"] for condition in conditions] == list(TYPES)
    assert all(condition["observedGeneration"] == 7 for condition in conditions)
    return {condition["type"]: condition for condition in conditions}


def words(condition: dict[str, Any]) -> tuple[str, str, str]:
    return condition["status"], condition["reason"], condition["message"]


def test_a_policy_alone_holds_and_every_door_can_express_it() -> None:
    conditions = told(policy(KEY.name))
    assert words(conditions["InForce"]) == ("True", "InForce", "Holds for checkout.")
    assert words(conditions["DoorFidelity"]) == ("True", "Exact", "Every door can express it.")


def test_the_loser_names_the_winner_and_why() -> None:
    hub = policy("front", "hub", selector={"matchLabels": {"tier": "front"}})
    condition = told(policy(KEY.name), hub)["InForce"]
    message = "Overruled for checkout by hub shop/front (a policy of the hub goes first)."
    assert words(condition) == ("False", "Overruled", message)
    assert words(told(hub, policy(KEY.name))["InForce"])[:2] == ("True", "InForce")


def test_a_policy_of_one_port_takes_that_port_alone() -> None:
    whole, part = policy(KEY.name), policy("part", targetRefs=ref("grpc"))
    message = (
        "Holds for checkout (as a whole, http). "
        "Overruled for checkout (grpc) by member shop/part (it names the port)."
    )
    assert words(told(whole, part)["InForce"]) == ("True", "PartlyOverruled", message)
    assert words(told(part, whole)["InForce"]) == ("True", "InForce", "Holds for checkout.")


@pytest.mark.parametrize(
    ("winner", "loser", "why"),
    [
        (
            policy("a", targetRefs=ref()),
            policy("b", "hub", targetRefs=ref(), overridable=True),
            "the hub's is overridable",
        ),
        (
            policy("b", targetRefs=ref()),
            policy("a", selector={"matchLabels": {"tier": "front"}}),
            "it names the service",
        ),
        (replace(policy("b", targetRefs=ref()), created=1.0), policy("a", targetRefs=ref()), "it is older"),
        (policy("a", targetRefs=ref()), policy("b", targetRefs=ref()), "its name comes first"),
    ],
)
def test_why_one_goes_before_another_is_told(winner: Policy, loser: Policy, why: str) -> None:
    assert told(loser, winner)["InForce"]["message"].endswith(f"by {policy_id(winner)} ({why}).")


def test_a_policy_of_nobody_says_so() -> None:
    condition = told(policy("other"))
    assert words(condition["InForce"])[:2] == ("False", "NoService")
    assert words(condition["DoorFidelity"])[:2] == ("Unknown", "NotInForce")


def test_a_refused_policy_says_whether_an_older_form_holds() -> None:
    refused = Refused(reason="Duplicate", message="spec.tiers[1]: eu-1 is already named")
    conditions = told(policy(KEY.name), refused=refused)
    message = "spec.tiers[1]: eu-1 is already named. The last accepted form stays in force."
    assert words(conditions["Accepted"]) == ("False", "Duplicate", message)
    assert conditions["InForce"]["status"] == "True"
    never = policy_conditions(1, refused, older_in_force=False)
    assert [(one["type"], one["status"], one["reason"]) for one in never if one["type"] == "InForce"] == [
        ("InForce", "False", "NotAccepted")
    ]


def test_many_services_are_counted_not_listed() -> None:
    one = Standing(holds=("http",))
    conditions = policy_conditions(
        1, None, older_in_force=False, standings={ServiceKey("shop", f"s{n}"): one for n in range(9)}
    )
    assert conditions[2]["message"] == "Holds for s0, s1, s2, and 6 more."


WEIGHED = {
    "strategy": "ActiveActive",
    "targets": [{"cluster": "eu-1", "weight": 80}, {"cluster": "us-1", "weight": 20}],
}


@pytest.mark.parametrize(
    ("spec", "service", "gaps"),
    [
        (WEIGHED, SERVICE, "kube-proxy spreads evenly over the endpoints that have a share, not by weights"),
        (WEIGHED, replace(SERVICE, type=ServiceType.HEADLESS), ""),
        ({"strategy": "Locality"}, SERVICE, "kube-proxy knows no caller's zone: SameZone takes nothing"),
        (
            {"strategy": "Locality"},
            replace(SERVICE, type=ServiceType.HEADLESS),
            "DNS knows a caller's zone only from a cache on its node or from its client subnet",
        ),
        (
            {"timeout": "1s", "sessionAffinity": {"cookie": "c"}, "dns": {"answer": "Endpoints"}},
            SERVICE,
            "DNS has no sessionAffinity, has no timeout; gRPC has no sessionAffinity by cookie; "
            "kube-proxy has no sessionAffinity, has no timeout",
        ),
        (
            {"retry": {"attempts": 2}},
            replace(SERVICE, ports=(PORT, Port(name="db", protocol=Protocol.TCP, port=5432))),
            "Envoy has no retry on port db, which is not HTTP; kube-proxy has no retry",
        ),
        (
            {"circuitBreaker": {"maxRequests": 1}, "outlierDetection": {"interval": "1s"}},
            service_of("eu-1"),
            "kube-proxy has no circuitBreaker, has no outlierDetection",
        ),
        (
            {
                "sessionAffinity": {"cookie": "c"},
                "circuitBreaker": {"maxConnections": 9},
                "retry": {"perTryTimeout": "1s"},
                "outlierDetection": {"interval": "1s"},
            },
            replace(SERVICE, ports=(GRPC,)),
            "gRPC has no circuitBreaker but maxRequests, has no outlierDetection, "
            "has no retry.perTryTimeout, has no sessionAffinity by cookie; "
            "kube-proxy has no circuitBreaker, has no outlierDetection, "
            "has no retry, has no sessionAffinity",
        ),
        (
            {"slowStart": "30s"},
            replace(SERVICE, ports=(GRPC,), type=ServiceType.HEADLESS),
            "DNS has no slowStart; "
            "Envoy passes captured connections to a headless service through untouched; "
            "gRPC has no slowStart",
        ),
        ({"retry": {"attempts": 0}, "outlierDetection": {"consecutiveFailures": 0}}, SERVICE, ""),
    ],
)
def test_what_a_door_cannot_express_is_named(spec: dict[str, Any], service: Service, gaps: str) -> None:
    condition = told(policy(KEY.name, **spec), service=service)["DoorFidelity"]
    expected = (
        ("False", "Approximated", f"checkout: {gaps}.")
        if gaps
        else ("True", "Exact", "Every door can express it.")
    )
    assert words(condition) == expected


def test_dns_follows_the_service_as_a_whole_where_a_policy_speaks_of_a_port() -> None:
    headless = replace(SERVICE, type=ServiceType.HEADLESS)
    condition = told(policy("part", targetRefs=ref("grpc")), service=headless)["DoorFidelity"]
    assert "DNS answers A and AAAA for the whole service" in condition["message"]


_others = st.lists(
    st.builds(
        lambda name, origin, section, created, overridable: replace(
            policy(name, origin, targetRefs=ref(section)), created=created, overridable=overridable
        ),
        st.sampled_from("abcdef"),
        st.sampled_from(["member", "hub"]),
        st.sampled_from(["", "http", "grpc"]),
        st.sampled_from([1.0, 2.0]),
        st.booleans(),
    ),
    unique_by=policy_id,
)


@given(_others)
def test_standings_say_what_the_choice_decides(policies: list[Policy]) -> None:
    found = standings(SERVICE, policies, http)
    for port in (None, *SERVICE.ports):
        label = "" if port is None else port.name
        holders = [name for name, one in found.items() if label in one.holds]
        chosen = choose(policies, SERVICE, port)
        assert holders == ([] if chosen.origin == "default" else [policy_id(chosen)])
        losers = {name for name, one in found.items() if any(lost.port == label for lost in one.lost)}
        assert all(
            lost.to == holders[0] for name in losers for lost in found[name].lost if lost.port == label
        )


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({}, "SameCluster > SameRegion > Any"),
        (
            {"strategy": "FailOver", "targets": [{"cluster": "us-1"}, {"region": "ap"}]},
            "SameCluster > us-1 > region ap",
        ),
        (WEIGHED, "eu-1 80 + us-1 20"),
        (
            {
                "tiers": [
                    {"match": {"scope": "SameZone"}},
                    {"match": {"clusters": ["a", "b", "c"]}, "weights": [{"cluster": "a", "weight": 1}]},
                    {"match": {"clusterSelector": {"matchLabels": {"tier": "gold"}}}},
                ],
                "fallback": "Any",
            },
            "SameZone > a 1 (standby b, c) > clusters tier=gold > Any",
        ),
        (
            {"strategy": "Locality", "targets": [{"cluster": "a"}]},
            "SameZone of a > SameCluster of a > SameRegion of a > Any of a",
        ),
    ],
)
def test_the_plan_is_told_on_one_line(spec: dict[str, Any], line: str) -> None:
    assert plan_line(policy("p", **spec)) == line


def test_a_long_line_is_cut() -> None:
    clusters = [f"cluster-number-{n}" for n in range(64)]
    line = plan_line(policy("p", tiers=[{"match": {"clusters": clusters}}]))
    assert len(line) == MAX_LINE
    assert line.endswith("…")


def test_a_policy_id_reads_as_plans_name_policies() -> None:
    assert str(PolicyId("hub", KEY)) == "hub shop/checkout"
