"""Every valid form of a GlobalTrafficPolicy, and the tiers it stands for."""

from __future__ import annotations

from typing import Any

import pytest
from worked_cases import KEY, PORT, policy_object, service_of

from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.names import ServiceKey
from isthmus.model.policy import (
    DEFAULT_POLICY,
    CircuitBreaker,
    DoorSettings,
    LabelSelector,
    Match,
    OutlierDetection,
    Policy,
    PolicyTarget,
    Retry,
    Scope,
    SessionAffinity,
    Tier,
)
from isthmus.traffic.accept import accept, unresolved

ANY = Match(scope=Scope.ANY)
OWN = Tier(match=Match(scope=Scope.SAME_CLUSTER))


def accepted(spec: dict[str, Any], origin: Any = "member") -> Policy:
    policy = accept(policy_object(spec), origin)
    assert isinstance(policy, Policy), policy
    return policy


def clusters(*names: str) -> Match:
    return Match(clusters=frozenset(names))


def test_an_empty_spec_is_the_default_ladder_for_the_service_of_the_same_name() -> None:
    policy = accepted({})
    assert policy.tiers == DEFAULT_POLICY.tiers
    assert policy.targets == (PolicyTarget(service=KEY),)
    assert policy.health is None
    assert policy.doors == DoorSettings()
    assert not policy.fallback_any
    assert policy.overprovisioning_percent == 140
    assert policy.deprioritise_unknown


def test_a_policy_knows_where_it_came_from_and_how_old_it_is() -> None:
    policy = accepted({"overridable": True}, "hub")
    assert (policy.key, policy.origin, policy.overridable) == (KEY, "hub", True)
    assert policy.created == 1748772000.0


@pytest.mark.parametrize(
    ("spec", "tiers"),
    [
        (
            {"strategy": "Locality"},
            tuple(
                Tier(match=Match(scope=scope)) for scope in ("SameZone", "SameCluster", "SameRegion", "Any")
            ),
        ),
        (
            {"strategy": "Locality", "targets": [{"cluster": "eu-1"}, {"region": "us"}]},
            tuple(
                Tier(
                    match=Match(
                        scope=scope, within=Match(clusters=frozenset({"eu-1"}), regions=frozenset({"us"}))
                    )
                )
                for scope in ("SameZone", "SameCluster", "SameRegion", "Any")
            ),
        ),
        ({"strategy": "FailOver"}, (OWN,)),
        (
            {"strategy": "FailOver", "targets": [{"cluster": "us-1"}, {"region": "eu"}]},
            (OWN, Tier(match=clusters("us-1")), Tier(match=Match(regions=frozenset({"eu"})))),
        ),
        (
            {
                "strategy": "FailOver",
                "targets": [
                    {"region": "us", "priority": 7},
                    {"cluster": "eu-2", "weight": 20, "priority": 2},
                    {"cluster": "eu-1", "weight": 80, "priority": 2},
                ],
            },
            (
                OWN,
                Tier(match=clusters("eu-1", "eu-2"), weights=(("eu-1", 80), ("eu-2", 20))),
                Tier(match=Match(regions=frozenset({"us"}))),
            ),
        ),
        ({"strategy": "ActiveActive"}, (Tier(match=ANY),)),
        (
            {"strategy": "ActiveActive", "targets": [{"cluster": "a"}, {"region": "eu"}]},
            (Tier(match=Match(clusters=frozenset({"a"}), regions=frozenset({"eu"}))),),
        ),
        (
            {
                "strategy": "ActiveActive",
                "targets": [{"cluster": "a", "weight": 0}, {"cluster": "b", "weight": 1}],
            },
            (Tier(match=clusters("a", "b"), weights=(("a", 0), ("b", 1))),),
        ),
        (
            {
                "tiers": [
                    {"match": {"scope": "SameZone"}},
                    {"match": {"regions": ["eu"]}, "weights": [{"cluster": "a", "weight": 3}]},
                    {"match": {"clusterSelector": {"matchLabels": {"tier": "gold"}}}},
                    {"match": {"scope": "Any"}},
                ]
            },
            (
                Tier(match=Match(scope=Scope.SAME_ZONE)),
                Tier(match=Match(regions=frozenset({"eu"})), weights=(("a", 3),)),
                Tier(match=Match(selector=LabelSelector(labels=(("tier", "gold"),)))),
                Tier(match=ANY),
            ),
        ),
    ],
)
def test_a_form_stands_for_its_tiers(spec: dict[str, Any], tiers: tuple[Tier, ...]) -> None:
    policy = accepted(spec)
    assert policy.tiers == tiers
    assert not policy.fallback_any


@pytest.mark.parametrize(
    "form", [{}, {"strategy": "FailOver"}, {"tiers": [{"match": {"clusters": ["a.b"]}}]}]
)
def test_a_fallback_is_taken_from_any_form(form: dict[str, Any]) -> None:
    assert accepted({**form, "fallback": "Any"}).fallback_any
    assert not accepted({**form, "fallback": "None"}).fallback_any


def test_target_refs_name_services_and_ports_of_the_own_namespace() -> None:
    refs = [{"name": "cart"}, {"kind": "ServiceImport", "name": "checkout", "sectionName": "grpc"}]
    assert accepted({"targetRefs": refs}).targets == (
        PolicyTarget(service=ServiceKey("shop", "cart")),
        PolicyTarget(service=ServiceKey("shop", "checkout"), section="grpc"),
    )


def test_a_selector_replaces_the_target() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["front", "edge"]},
        {"key": "legacy", "operator": "DoesNotExist"},
    ]
    policy = accepted({"selector": {"matchLabels": {"team": "a"}, "matchExpressions": expressions}})
    assert policy.targets == ()
    assert policy.selector == LabelSelector(
        labels=(("team", "a"),),
        expressions=(("tier", "In", ("edge", "front")), ("legacy", "DoesNotExist", ())),
    )


def test_an_empty_health_block_asks_for_checks_as_they_are_by_default() -> None:
    assert accepted({"health": {}}).health == HealthCheck()


def test_every_setting_arrives() -> None:
    policy = accepted(
        {
            "overprovisioningPercent": 100,
            "onClusterUnknown": "Keep",
            "expectedEndpoints": 3,
            "dns": {"answer": "Endpoints", "ttlSeconds": 0},
            "health": {
                "protocol": "HTTP",
                "path": "/healthz",
                "port": 8080,
                "interval": "1m30s",
                "timeout": "250ms",
                "rise": 1,
                "fall": 3,
            },
            "outlierDetection": {"consecutiveFailures": 5, "interval": "1s", "baseEjection": "30s"},
            "retry": {"attempts": 1, "perTryTimeout": "2s", "backOffBase": "5ms", "backOffMax": "1s"},
            "timeout": "15s",
            "circuitBreaker": {"maxConnections": 1, "maxPendingRequests": 2, "maxRequests": 3},
            "sessionAffinity": {"cookie": "route", "ttl": "1h"},
            "drainSeconds": 5,
            "slowStart": "30s",
        }
    )
    assert policy.overprovisioning_percent == 100
    assert not policy.deprioritise_unknown
    assert policy.expected_endpoints == 3
    assert policy.health == HealthCheck(
        protocol=CheckProtocol.HTTP,
        path="/healthz",
        port=8080,
        interval=90.0,
        timeout=0.25,
        rise=1,
        fall=3,
    )
    assert policy.doors == DoorSettings(
        dns_answer="Endpoints",
        dns_ttl=0,
        outlier=OutlierDetection(consecutive_failures=5, interval=1.0, base_ejection=30.0),
        retry=Retry(attempts=1, per_try_timeout=2.0, back_off_base=0.005, back_off_max=1.0, asked=True),
        timeout=15.0,
        circuit_breaker=CircuitBreaker(max_connections=1, max_pending_requests=2, max_requests=3),
        affinity=SessionAffinity(cookie="route", ttl=3600.0),
        drain_seconds=5,
        slow_start=30.0,
    )


def test_zero_turns_retries_and_outlier_detection_off() -> None:
    doors = accepted({"retry": {"attempts": 0}, "outlierDetection": {"consecutiveFailures": 0}}).doors
    assert doors.retry is None
    assert doors.outlier is None


def test_a_longer_first_back_off_alone_lengthens_the_longest() -> None:
    retry = accepted({"retry": {"backOffBase": "50ms"}}).doors.retry
    assert retry == Retry(back_off_base=0.05, back_off_max=0.05, asked=True)


def test_what_the_clusterset_does_not_have_is_named_and_no_refusal() -> None:
    policy = accepted(
        {
            "targetRefs": [
                {"name": "checkout", "sectionName": "http"},
                {"name": "checkout", "sectionName": "x"},
            ],
            "strategy": "Locality",
            "targets": [{"cluster": "eu-1"}, {"cluster": "eu-9"}, {"region": "eu"}, {"region": "mars"}],
        }
    )
    views = {"eu-1": ClusterView(id="eu-1", region="eu")}
    assert unresolved(policy, views, service_of("eu-1", port=PORT)) == [
        "cluster eu-9",
        "port x of service shop/checkout",
        "region mars",
    ]
    assert unresolved(accepted({}), views, None) == []


def test_a_weight_for_a_cluster_that_does_not_exist_is_unresolved_too() -> None:
    policy = accepted({"tiers": [{"match": {"scope": "Any"}, "weights": [{"cluster": "gone", "weight": 1}]}]})
    assert unresolved(policy, {}, None) == ["cluster gone"]
