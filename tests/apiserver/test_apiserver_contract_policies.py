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
    ],
)
async def test_what_policies_forbid_is_refused(
    api: Api, policies: str, change: Object, field: str, message: str
) -> None:
    refused = await api.post(policies, policy(**change))
    assert refused.code == 422, refused.body
    assert refused.fields() == [field], refused.body["message"]
    assert refused.body["details"]["causes"][0]["message"].endswith(f": {message}")
