"""Which policy speaks for a service port when several do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from worked_cases import KEY, PORT, service_of

from isthmus.model.names import ServiceKey
from isthmus.model.policy import DEFAULT_POLICY, LabelSelector, Policy, PolicyTarget
from isthmus.traffic.policychoice import choose, ranked

SERVICE = replace(service_of("a"), labels=(("tier", "front"),))
NAME = (PolicyTarget(service=KEY),)
SECTION = (PolicyTarget(service=KEY, section="http"),)
SELECTOR = LabelSelector(labels=(("tier", "front"),))


def policy(name: str, origin: Any = "member", **fields: Any) -> Policy:
    fields.setdefault("targets", NAME)
    return Policy(key=ServiceKey("shop", name), origin=origin, **fields)


def chosen(*policies: Policy, port: Any = PORT) -> str:
    return choose(policies, SERVICE, port).key.name


def test_without_a_policy_the_default_speaks() -> None:
    assert choose([], SERVICE, PORT) is DEFAULT_POLICY


def test_a_policy_speaks_of_its_own_namespace_and_service_only() -> None:
    elsewhere = Policy(key=ServiceKey("bank", "p"), origin="member", selector=SELECTOR)
    other = policy("p", targets=(PolicyTarget(service=ServiceKey("shop", "cart")),))
    unlabelled = policy("q", targets=(), selector=LabelSelector(labels=(("tier", "back"),)))
    assert choose([elsewhere, other, unlabelled], SERVICE, PORT) is DEFAULT_POLICY


def test_hub_policies_come_first_even_when_younger_and_less_specific() -> None:
    hub = policy("hub", "hub", created=9.0, targets=(), selector=SELECTOR)
    assert chosen(policy("own", created=1.0, targets=SECTION), hub) == "hub"


def test_an_overridable_hub_policy_yields_to_a_members_own() -> None:
    hub = policy("hub", "hub", overridable=True)
    assert chosen(hub, policy("own", created=9.0, targets=(), selector=SELECTOR)) == "own"
    assert chosen(hub) == "hub"


def test_an_overridable_hub_policy_competes_as_others_where_no_member_has_one() -> None:
    wide = policy("wide", "hub", targets=(), selector=SELECTOR)
    assert chosen(wide, policy("named", "hub", overridable=True)) == "named"
    assert chosen(wide, policy("named", "hub", overridable=True), policy("own")) == "wide"


def test_the_more_specific_comes_first() -> None:
    section, name = policy("c", created=3.0, targets=SECTION), policy("b", created=2.0)
    selector = policy("a", created=1.0, targets=(), selector=SELECTOR)
    assert [p.key.name for _, p in ranked([selector, name, section], SERVICE, PORT)] == ["c", "b", "a"]


def test_a_policy_for_one_port_does_not_speak_of_others_nor_of_the_service_as_a_whole() -> None:
    section = policy("section", targets=SECTION)
    assert chosen(section, policy("name"), port=replace(PORT, name="grpc")) == "name"
    assert chosen(section, policy("name"), port=None) == "name"
    assert choose([section], SERVICE, None) is DEFAULT_POLICY


def test_among_equals_the_older_comes_first_then_the_name() -> None:
    assert chosen(policy("a", created=2.0), policy("b", created=1.0)) == "b"
    assert chosen(policy("b", created=1.0), policy("a", created=1.0)) == "a"


@given(
    st.lists(
        st.builds(
            policy,
            st.sampled_from("abcdef"),
            st.sampled_from(["member", "hub"]),
            created=st.sampled_from([1.0, 2.0]),
            overridable=st.booleans(),
            targets=st.sampled_from([NAME, SECTION]),
        ),
        unique_by=lambda p: (p.key, p.origin),
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_policies_arrive_does_not_matter(policies: list[Policy], random: Any) -> None:
    shuffled = random.sample(policies, len(policies))
    assert ranked(shuffled, SERVICE, PORT) == ranked(policies, SERVICE, PORT)
