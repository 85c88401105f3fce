"""Contract: the rules of our own policies refuse what they forbid."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from apicontract import CRDS, Api, Object

from isthmus.api.crds import all_crds

VALID: Object = {
    "targetRefs": [{"name": "cart"}],
    "strategy": "FailOver",
    "targets": [{"cluster": "eu-1", "priority": 1}, {"cluster": "eu-2", "priority": 2}],
}


@pytest.fixture
async def policies(api: Api, namespace: str) -> str:
    """The path of policies; their definition stays on the server."""
    (crd,) = (each for each in all_crds() if each["spec"]["names"]["kind"] == "GlobalTrafficPolicy")
    made = await api.apply(f"{CRDS}/{crd['metadata']['name']}", crd, "isthmus", force="true")
    assert made.code in (200, 201), made.body
    path = f"/apis/traffic.isthmus.dev/v1alpha1/namespaces/{namespace}/globaltrafficpolicies"
    await api.until(path, lambda answer: answer.code == 200)
    return path


def policy(**change: Any) -> Object:
    spec = {key: value for key, value in (copy.deepcopy(VALID) | change).items() if value is not None}
    return {
        "apiVersion": "traffic.isthmus.dev/v1alpha1",
        "kind": "GlobalTrafficPolicy",
        "metadata": {"name": "cart"},
        "spec": spec,
    }


async def test_a_good_policy_is_accepted(api: Api, policies: str) -> None:
    made = await api.post(policies, policy())
    assert made.code == 201, made.body


def tiers(*tiers: Object) -> Object:
    return {"strategy": None, "targets": None, "tiers": list(tiers)}


def active(*targets: Object, **more: Any) -> Object:
    return {"strategy": "ActiveActive", "targets": list(targets), **more}


A, B = {"cluster": "a"}, {"cluster": "b"}


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"selector": {"matchLabels": {"a": "b"}}}, "spec", "targetRefs and selector exclude each other"),
        ({"targetRefs": None, "selector": {}}, "spec.selector", "an empty selector is not allowed"),
        ({"strategy": "Locality"}, "spec", "priority is for FailOver only"),
        ({"strategy": None, "targets": [{"cluster": "a"}]}, "spec", "targets need a strategy"),
        (
            {"strategy": "Locality", "targets": [{"cluster": "a", "weight": 1}]},
            "spec",
            "weight is for ActiveActive and FailOver only",
        ),
        (
            {"targets": [{"cluster": "a", "priority": 1}, {"cluster": "b"}]},
            "spec",
            "priority must be on all targets or on none",
        ),
        (
            {"targets": [{"cluster": "a", "region": "b"}]},
            "spec.targets[0]",
            "exactly one of cluster and region must be set",
        ),
        ({"targets": [{"region": "b", "weight": 1}]}, "spec.targets[0]", "weight is for clusters only"),
        ({"timeout": "0s"}, "spec.timeout", "must be between 1ms and 24h"),
        ({"timeout": "25h"}, "spec.timeout", "must be between 1ms and 24h"),
        ({"health": {"interval": "1h"}}, "spec.health.interval", "must be between 100ms and 5m"),
        (
            {"sessionAffinity": {"header": "x-user", "ttl": "1h"}},
            "spec.sessionAffinity",
            "ttl is for cookies only",
        ),
        (
            {
                "strategy": None,
                "targets": None,
                "tiers": [{"match": {"scope": "SameZone", "clusters": ["a"]}}],
            },
            "spec.tiers[0].match",
            "exactly one of scope, clusters, regions and clusterSelector must be set",
        ),
        ({"targets": [A, B, A]}, "spec", "each target must be named once"),
        (active(A | {"weight": 1}, B), "spec", "weight must be on all targets of a tier or on none"),
        (active(A | {"weight": 0}, B | {"weight": 0}), "spec", "all weights of the tier are 0"),
        ({"targetRefs": [{"name": "x"}, {"name": "x"}]}, "spec", "each of targetRefs must be named once"),
        (
            tiers({"match": {"scope": "Any"}}, {"match": {"scope": "Any"}}),
            "spec",
            "each scope must be named once",
        ),
        (
            tiers({"match": {"clusters": ["a"]}, "weights": [A | {"weight": 0}]}),
            "spec.tiers[0]",
            "all weights of the tier are 0",
        ),
        (
            tiers({"match": {"clusters": ["a"]}, "weights": [B | {"weight": 1}]}),
            "spec.tiers[0]",
            "weights are for clusters of the tier",
        ),
        (
            {
                "targetRefs": None,
                "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
            },
            "spec.selector.matchExpressions[0]",
            "In and NotIn need values, Exists and DoesNotExist must not have any",
        ),
        (
            {"health": {"protocol": "TCP", "path": "/"}},
            "spec",
            "path is for the protocols HTTP and HTTPS",
        ),
        (
            {"health": {"protocol": "ICMP", "port": 1}},
            "spec",
            "port has no meaning with the protocol ICMP",
        ),
        (
            {"retry": {"backOffBase": "2s", "backOffMax": "1s"}},
            "spec.retry",
            "backOffMax must not be shorter than backOffBase",
        ),
    ],
)
async def test_what_policies_forbid_is_refused(
    api: Api, policies: str, change: Object, field: str, message: str
) -> None:
    refused = await api.post(policies, policy(**change))
    assert refused.code == 422, refused.body
    assert refused.fields() == [field], refused.body["message"]
    assert refused.body["details"]["causes"][0]["message"].endswith(f": {message}")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (tiers({"match": {"clusters": ["a", "a"]}}), "spec.tiers[0].match.clusters[1]"),
        (tiers({"match": {"regions": ["a", "a"]}}), "spec.tiers[0].match.regions[1]"),
        (
            tiers({"match": {"scope": "Any"}, "weights": [A | {"weight": 1}, A | {"weight": 2}]}),
            "spec.tiers[0].weights[1]",
        ),
    ],
)
async def test_what_policies_name_twice_in_a_tier_is_refused(
    api: Api, policies: str, change: Object, field: str
) -> None:
    refused = await api.post(policies, policy(**change))
    assert refused.code == 422, refused.body
    assert refused.fields() == [field], refused.body["message"]


async def test_every_form_of_a_policy_is_accepted(api: Api, policies: str) -> None:
    for index, change in enumerate(
        (
            active(A | {"weight": 1}, B | {"weight": 0}),
            active(A, {"region": "a"}),
            {"targetRefs": [{"name": "x"}, {"name": "x", "sectionName": "y"}]},
            tiers(
                {"match": {"scope": "SameZone"}}, {"match": {"scope": "Any"}, "weights": [A | {"weight": 1}]}
            ),
            {"retry": {"backOffBase": "2s"}, "health": {"path": "/x", "port": 1}},
        )
    ):
        body = policy(**change)
        body["metadata"]["name"] = f"form-{index}"
        made = await api.post(policies, body)
        assert made.code == 201, made.body
