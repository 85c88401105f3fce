"""Every refusal of a GlobalTrafficPolicy: its reason and the field it names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel
from worked_cases import policy_object

from isthmus.api.meta import ObjectMeta
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.api.policy_spec import PolicySpec
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused
from isthmus.traffic.accept import accept

A, B = {"cluster": "a"}, {"cluster": "b"}


def refused(spec: Any, origin: Any = "member") -> Refused:
    answer = accept(policy_object(spec), origin)
    assert isinstance(answer, Refused), answer
    return answer


def tier(match: dict[str, Any], *weights: tuple[str, int]) -> dict[str, Any]:
    if not weights:
        return {"match": match}
    return {"match": match, "weights": [{"cluster": name, "weight": weight} for name, weight in weights]}


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"strategy": "Locality", "tiers": [tier({"scope": "Any"})]}, "StrategyWithTiers", "spec.tiers"),
        ({"targets": [A]}, "TargetsWithoutStrategy", "spec.targets"),
        ({"targets": [A], "tiers": [tier({"scope": "Any"})]}, "TargetsWithoutStrategy", "spec.targets"),
        ({"strategy": "FailOver", "targets": [A, B, A]}, "Duplicate", "spec.targets[2]"),
        ({"strategy": "FailOver", "targets": [{}]}, "TargetKey", "spec.targets[0]"),
        ({"strategy": "FailOver", "targets": [{**A, "region": "eu"}]}, "TargetKey", "spec.targets[0]"),
        (
            {"strategy": "ActiveActive", "targets": [{"region": "eu", "weight": 1}]},
            "MisplacedWeight",
            "spec.targets[0].weight",
        ),
        (
            {"strategy": "ActiveActive", "targets": [{**A, "weight": 1}, B]},
            "MisplacedWeight",
            "spec.targets[1].weight",
        ),
        (
            {"strategy": "FailOver", "targets": [{**A, "weight": 1, "priority": 0}, {**B, "priority": 0}]},
            "MisplacedWeight",
            "spec.targets[1].weight",
        ),
        (
            {"strategy": "Locality", "targets": [{**A, "weight": 1}]},
            "MisplacedWeight",
            "spec.targets[0].weight",
        ),
        (
            {"strategy": "Locality", "targets": [{**A, "priority": 1}]},
            "MisplacedPriority",
            "spec.targets[0].priority",
        ),
        (
            {"strategy": "ActiveActive", "targets": [A, {**B, "priority": 1}]},
            "MisplacedPriority",
            "spec.targets[1].priority",
        ),
        (
            {"strategy": "FailOver", "targets": [{**A, "priority": 1}, B]},
            "MisplacedPriority",
            "spec.targets[1].priority",
        ),
        (
            {"strategy": "ActiveActive", "targets": [{**A, "weight": 0}, {**B, "weight": 0}]},
            "AllWeightsZero",
            "spec.targets[0].weight",
        ),
        (
            {"strategy": "FailOver", "targets": [A | {"weight": 0}]},
            "AllWeightsZero",
            "spec.targets[0].weight",
        ),
        ({"tiers": [tier({"clusters": ["a"]}, ("a", 0))]}, "AllWeightsZero", "spec.tiers[0].weights"),
        ({"tiers": [tier({})]}, "MatchKey", "spec.tiers[0].match"),
        ({"tiers": [tier({"scope": "Any", "regions": ["eu"]})]}, "MatchKey", "spec.tiers[0].match"),
        ({"tiers": [tier({"clusters": ["a", "a"]})]}, "Duplicate", "spec.tiers[0].match.clusters[1]"),
        (
            {"tiers": [tier({"clusters": ["a"]}), tier({"clusters": ["b", "a"]})]},
            "Duplicate",
            "spec.tiers[1].match.clusters[1]",
        ),
        (
            {"tiers": [tier({"regions": ["eu"]}), tier({"regions": ["eu"]})]},
            "Duplicate",
            "spec.tiers[1].match.regions[0]",
        ),
        (
            {"tiers": [tier({"scope": "Any"}), tier({"scope": "Any"})]},
            "Duplicate",
            "spec.tiers[1].match.scope",
        ),
        (
            {"tiers": [tier({"scope": "Any"}, ("a", 1), ("a", 2))]},
            "Duplicate",
            "spec.tiers[0].weights[1].cluster",
        ),
        (
            {"tiers": [tier({"clusters": ["a"]}, ("b", 2))]},
            "MisplacedWeight",
            "spec.tiers[0].weights[0].cluster",
        ),
        (
            {"tiers": [tier({"clusterSelector": {}})]},
            "EmptySelector",
            "spec.tiers[0].match.clusterSelector",
        ),
        ({"selector": {"matchLabels": {}}}, "EmptySelector", "spec.selector"),
        (
            {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "InvalidSelector",
            "spec.selector.matchExpressions[0].values",
        ),
        (
            {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}},
            "InvalidSelector",
            "spec.selector.matchExpressions[0].values",
        ),
        (
            {"selector": {"matchLabels": {"a": "b"}}, "targetRefs": [{"name": "x"}]},
            "TargetRefsWithSelector",
            "spec.selector",
        ),
        ({"targetRefs": [{"name": "x"}, {"name": "x"}]}, "Duplicate", "spec.targetRefs[1]"),
        ({"overridable": True}, "OverridableOnMember", "spec.overridable"),
        ({"health": {"protocol": "TCP", "path": "/"}}, "MisplacedPath", "spec.health.path"),
        ({"health": {"protocol": "ICMP", "port": 1}}, "MisplacedPort", "spec.health.port"),
        ({"sessionAffinity": {}}, "AffinityKey", "spec.sessionAffinity"),
        ({"sessionAffinity": {"cookie": "a", "header": "b"}}, "AffinityKey", "spec.sessionAffinity"),
        ({"sessionAffinity": {"header": "b", "ttl": "1s"}}, "MisplacedTtl", "spec.sessionAffinity.ttl"),
        (
            {"retry": {"backOffBase": "2s", "backOffMax": "1s"}},
            "BackOffOutOfOrder",
            "spec.retry.backOffMax",
        ),
        ({"strategie": "Locality"}, "UnknownField", "spec.strategie"),
        ({"strategy": "FailOver", "targets": [{"name": "a"}]}, "UnknownField", "spec.targets[0].name"),
        ({"strategy": "Nearest"}, "InvalidField", "spec.strategy"),
        (
            {"strategy": "ActiveActive", "targets": [{"cluster": "Not A Name"}]},
            "InvalidField",
            "spec.targets[0].cluster",
        ),
        (
            {"strategy": "ActiveActive", "targets": [{**A, "weight": "80"}]},
            "InvalidField",
            "spec.targets[0].weight",
        ),
        (
            {"strategy": "ActiveActive", "targets": [{**A, "weight": 10_001}]},
            "InvalidField",
            "spec.targets[0].weight",
        ),
        ({"strategy": "ActiveActive", "targets": []}, "InvalidField", "spec.targets"),
        ({"tiers": []}, "InvalidField", "spec.tiers"),
        ({"tiers": [{}]}, "InvalidField", "spec.tiers[0].match"),
        ({"overprovisioningPercent": 99}, "InvalidField", "spec.overprovisioningPercent"),
        ({"overprovisioningPercent": True}, "InvalidField", "spec.overprovisioningPercent"),
        ({"expectedEndpoints": 0}, "InvalidField", "spec.expectedEndpoints"),
        ({"health": {"interval": "fast"}}, "InvalidField", "spec.health.interval"),
        ({"health": {"interval": 5}}, "InvalidField", "spec.health.interval"),
        ({"health": {"interval": "1ms"}}, "InvalidField", "spec.health.interval"),
        ({"health": {"port": 65_536}}, "InvalidField", "spec.health.port"),
        ({"selector": {"matchLabels": {"a b": "c"}}}, "InvalidField", "spec.selector.matchLabels.a b"),
        ({"targetRefs": [{"name": "x", "kind": "Service"}]}, "InvalidField", "spec.targetRefs[0].kind"),
        ([], "InvalidField", "spec"),
        (None, "InvalidField", "spec"),
    ],
)
def test_a_flaw_is_refused_by_reason_and_field(spec: Any, reason: str, field: str) -> None:
    answer = refused(spec)
    assert answer.reason == reason
    assert answer.message.startswith(f"{field}: ")


def test_a_bound_is_told_in_the_units_of_the_field() -> None:
    message = refused({"health": {"interval": "1h"}}).message
    assert message == "spec.health.interval: must be between 100ms and 5m"


def test_several_wrong_fields_are_named_together_and_many_are_cut() -> None:
    answer = refused({"strategy": "x", "fallback": "y", "timeout": "z", "tiers": 1, "targets": 2})
    assert answer.message.count("spec.") == 3
    assert answer.message.endswith("and 2 more")


def test_a_hub_policy_may_be_overridable() -> None:
    assert isinstance(accept(policy_object({"overridable": True}), "hub"), Policy)


_words = st.text("aZ0-./ é\n", max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=8,
)
_FIELDS = sorted(to_camel(name) for name in PolicySpec.model_fields)


@given(st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=4))
def test_whatever_a_spec_holds_the_answer_is_a_policy_or_a_refusal(spec: dict[str, Any]) -> None:
    answer = accept(policy_object(spec), "hub")
    assert isinstance(answer, Policy | Refused)
    if isinstance(answer, Refused):
        assert answer.reason.isalnum()
        assert answer.message.startswith("spec")
        assert len(answer.message) <= 1024


@given(st.binary(max_size=64))
def test_bytes_that_are_not_json_are_refused(noise: bytes) -> None:
    obj = GlobalTrafficPolicy(metadata=ObjectMeta(name="p"), spec=msgspec.Raw(b"\xff" + noise))
    assert isinstance(accept(obj, "member"), Refused)
