"""The ring of events, and transitions in words."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from console_tables import FAR, OWN, plan
from hypothesis import given
from hypothesis import strategies as st

from isthmus.console.events import MOST_WAITING, Ring
from isthmus.console.transitions import (
    cluster_sentence,
    plan_sentence,
    plan_subject,
    policy_sentence,
    verdict_sentence,
)
from isthmus.model.cluster import ClusterView
from isthmus.model.health import Verdict
from isthmus.model.names import Locality
from isthmus.model.plan import PlanGroup
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused


@given(st.integers(0, 30), st.integers(1, 10), st.integers(0, 35))
def test_a_reader_gets_the_newest_and_is_told_what_it_missed(count: int, size: int, after: int) -> None:
    ring = Ring("a", size)
    for number in range(count):
        ring.add("plan", float(number), [(str(number), "moved")])
    view = ring.view(after, "a")
    assert len(ring) <= size
    numbers = [event["number"] for event in view["items"]]
    asked = after if after <= count else 0
    assert numbers == [n for n in range(asked + 1, count + 1) if n > count - size]
    if asked:
        assert view["lost"] + len(numbers) == count - asked


def test_a_number_from_another_run_gets_everything() -> None:
    ring = Ring("b")
    ring.add("plan", 1.0, [("x", "moved"), ("y", "moved")])
    assert [event["subject"] for event in ring.view(2, "a")["items"]] == ["x", "y"]
    assert ring.view(2, "b")["items"] == []


async def test_waiting_ends_with_news_with_time_and_when_too_many_wait() -> None:
    ring = Ring("a")
    await ring.wait(0, "a", 0.01)
    waiting = [asyncio.create_task(ring.wait(0, "a", 60.0)) for _ in range(MOST_WAITING)]
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
        await ring.wait(0, "a", 60.0)
        assert not any(task.done() for task in waiting)
        ring.add("plan", 1.0, [("x", "moved")])
        await asyncio.gather(*waiting)
        await ring.wait(0, "a", 60.0)


def shares(**points: int) -> tuple[PlanGroup, ...]:
    names = {"own": OWN, "far": FAR}
    (group,) = plan().shares
    return tuple(
        replace(group, locality=Locality(names[name], "r", "z"), basis_points=share)
        for name, share in points.items()
    )


def test_a_plan_tells_which_shares_moved() -> None:
    before, after = (
        replace(plan(), shares=shares(own=6000, far=4000)),
        replace(plan(), shares=shares(own=10_000)),
    )
    assert plan_subject(plan().key) == "shop/checkout TCP/80 from eu-1"
    assert plan_sentence(None, before) == "goes to eu-1 60%, us-1 40%"
    assert plan_sentence(before, after) == "eu-1 60% -> 100%, us-1 40% -> 0%"
    assert plan_sentence(after, replace(after, shares=())) == "goes to nowhere: no endpoint can serve"
    assert plan_sentence(after, replace(after, panic=True)).startswith("panic: ")
    assert plan_sentence(after, replace(after, policy="hub shop/x")) == "now follows hub shop/x"
    assert plan_sentence(after, None) == "is no longer served"
    assert plan_sentence(after, replace(after, wavering=True)) == ""


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (None, Verdict(up=None), ""),
        (Verdict(up=None), Verdict(up=True), ""),
        (Verdict(up=True), Verdict(up=True, wavering=True), ""),
        (Verdict(up=True), Verdict(up=False, reason="timeout"), "is Down: timeout"),
        (Verdict(up=False), Verdict(up=True), "is Up again"),
        (Verdict(up=False), None, ""),
    ],
)
def test_only_an_endpoint_that_dies_or_comes_back_is_news(
    old: Verdict | None, new: Verdict | None, text: str
) -> None:
    assert verdict_sentence(old, new) == text


def test_clusters_come_go_fall_silent_and_drain() -> None:
    view = ClusterView(id=FAR, region="us")
    assert cluster_sentence(None, view) == "has joined the clusterset"
    assert cluster_sentence(view, replace(view, unknown=True)).startswith("is Unknown: ")
    assert cluster_sentence(replace(view, unknown=True), view) == "is known again"
    assert cluster_sentence(view, replace(view, draining=True)) == "is being drained"
    assert cluster_sentence(view, replace(view, region="")) == "is now in region (none)"
    assert cluster_sentence(view, replace(view, labels=(("a", "b"),))) == ""
    assert cluster_sentence(view, None) == "has left the clusterset"


def test_a_policy_says_whether_it_is_accepted_and_what_holds_meanwhile() -> None:
    good, other = Policy(), Policy(fallback_any=True)
    bad = Refused(reason="EmptySelector", message="spec.selector: needs matchLabels")
    assert policy_sentence(None, (good, None)) == "is accepted"
    assert policy_sentence((good, None), (good, None)) == ""
    assert policy_sentence((good, None), (other, None)) == "is accepted as changed"
    assert policy_sentence(None, (None, bad)) == f"was refused (EmptySelector): {bad.message}"
    assert policy_sentence((good, None), (good, bad)).endswith("its last accepted form stays in force")
    assert policy_sentence((good, None), None) == "was deleted"
