"""Rows for people: every step and every endpoint, with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from worlds import World, worlds

from isthmus.model.names import ServiceKey
from isthmus.model.policy import Policy, PolicyTarget
from isthmus.traffic.explain import explain_endpoints, explain_overruled, explain_steps
from isthmus.traffic.planner import reckon


def reckoned(case: Any) -> Any:
    return reckon(
        service=case.service,
        port=case.service.ports[0],
        policy=case.policy,
        endpoints=case.endpoints,
        clusters=case.clusters,
        verdict=case.verdicts.get,
        vantage=case.vantage,
    )


def case_named(worked_cases: list[Any], start: str) -> Any:
    return next(case for case in worked_cases if case.name.startswith(start))


def test_steps_tell_their_health_and_their_share(worked_cases: list[Any]) -> None:
    rows = explain_steps(reckoned(case_named(worked_cases, "half of the own cluster")))
    assert [(row.step, row.tier, row.clusters, row.healthy, row.total) for row in rows] == [
        (0, "SameCluster", ("eu-1",), 2, 4),
        (1, "Any", ("us-1",), 4, 4),
    ]
    assert [row.health for row in rows] == [pytest.approx(70.0), pytest.approx(100.0)]
    assert [row.share for row in rows] == [pytest.approx(70.0), pytest.approx(30.0)]


def test_standbys_and_unknown_clusters_are_said_to_be_such(worked_cases: list[Any]) -> None:
    standby = explain_steps(reckoned(case_named(worked_cases, "weight 0")))
    assert [row.tier for row in standby] == ["clusters eu-1, eu-2", "clusters eu-1, eu-2, standbys"]
    unknown = explain_steps(reckoned(case_named(worked_cases, "unknown cluster")))
    assert [row.tier for row in unknown] == ["Any", "Any, unknown clusters"]
    case = case_named(worked_cases, "FailOver, fallback None")
    beyond = replace(case, policy=replace(case.policy, fallback_any=True))
    assert explain_steps(reckoned(beyond))[-1].tier == "fallback"


def test_every_endpoint_is_explained(worked_cases: list[Any]) -> None:
    rows = explain_endpoints(reckoned(case_named(worked_cases, "half of the own cluster")))
    assert [(row.cluster, row.state, row.share, row.reason != "") for row in rows] == [
        *[("eu-1", "healthy", pytest.approx(35.0), False)] * 2,
        *[("us-1", "healthy", pytest.approx(7.5), False)] * 4,
        *[("eu-1", "unhealthy", 0.0, True)] * 2,
    ]


def test_a_policy_that_does_not_hold_is_told_with_the_reason(worked_cases: list[Any]) -> None:
    service = worked_cases[0].service
    (port,) = service.ports
    named = PolicyTarget(service=service.key)
    young = Policy(key=ServiceKey("shop", "young"), origin="member", targets=(named,), created=9.0)
    old = replace(young, key=ServiceKey("shop", "old"), created=1.0)
    hub = replace(young, key=ServiceKey("shop", "all"), origin="hub")
    rows = explain_overruled([young, hub, old], service, port)
    assert [(row.policy, row.why) for row in rows] == [
        ("member shop/old", "a policy of the hub goes first"),
        ("member shop/young", "a policy of the hub goes first"),
    ]
    assert [row.why for row in explain_overruled([young, old], service, port)] == ["it is older"]
    assert explain_overruled([old], service, port) == []
    assert explain_overruled([], service, None) == []


@given(worlds())
def test_the_rows_of_any_plan_cover_all_endpoints_and_the_whole_share(world: World) -> None:
    reckoning = world.reckon()
    rows = explain_endpoints(reckoning)
    assert len(rows) == sum(len(members) for members in world.endpoints.values())
    whole = 100.0 if reckoning.plan.shares else 0.0
    assert sum(row.share for row in rows) == pytest.approx(whole)
    assert all(row.reason for row in rows if not row.share)
    assert sum(row.share for row in explain_steps(reckoning)) == pytest.approx(whole)
