"""From leases to states, and from states to what an agent believes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import core, hub
from isthmus.api.meta import ObjectMeta
from isthmus.fleet.accept import cluster as accept_cluster
from isthmus.fleet.evidence import view
from isthmus.fleet.hubrole import cluster_status, cluster_statuses
from isthmus.fleet.states import Heard, Judgement, State, hear, hear_all, judge
from isthmus.model.cluster import Cluster, ClusterView
from isthmus.model.names import ClusterId
from isthmus.model.refusal import Refused

EU, US = ClusterId("eu-1"), ClusterId("us-1")


def lease(mark: str) -> core.Lease:
    return core.Lease(spec=core.LeaseSpec(renew_time=mark))


def member(name: str = "eu-1", state: str = "", **spec: Any) -> hub.Cluster:
    return hub.Cluster(
        metadata=ObjectMeta(name=name, generation=2, labels={"tier": "prod", "a": "b"}),
        spec=hub.ClusterSpec(**spec),
        status=hub.ClusterStatus(state=state, last_heartbeat="earlier" if state else ""),
    )


def test_a_member_becomes_a_value() -> None:
    assert accept_cluster(member(region="eu", drain=True)) == Cluster(
        id=EU, region="eu", labels=(("a", "b"), ("tier", "prod")), draining=True
    )


@pytest.mark.parametrize(
    ("state", "silent"), [("", False), ("Ready", False), ("Unknown", True), ("Odd", False)]
)
def test_only_the_state_unknown_is_silence(state: str, silent: bool) -> None:
    value = accept_cluster(member(state=state))
    assert isinstance(value, Cluster)
    assert value.silent is silent


@pytest.mark.parametrize("name", ["", "Eu", "a.b.c", "a" * 64, "a_b"])
def test_a_cluster_with_a_name_that_is_no_id_is_refused(name: str) -> None:
    outcome = accept_cluster(member(name))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "InvalidClusterId"


def test_a_cluster_with_an_illegal_region_is_refused() -> None:
    outcome = accept_cluster(member(region="not a region"))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "InvalidRegion"


def test_only_a_change_of_the_lease_counts_as_a_renewal() -> None:
    first = hear(None, lease("t1"), 100.0)
    assert first == Heard(mark="t1", at=100.0)
    assert hear(first, lease("t1"), 105.0) == first
    assert hear(first, lease("t0"), 106.0) == Heard(mark="t0", at=106.0)
    assert hear(first, None, 107.0) == first
    assert hear(None, core.Lease(), 108.0) is None


def test_a_cluster_whose_lease_is_gone_keeps_what_was_heard() -> None:
    before = hear_all({}, {EU: lease("a"), US: lease("b")}, 1.0)
    after = hear_all(before, {US: lease("c")}, 2.0)
    assert after == {EU: Heard(mark="a", at=1.0), US: Heard(mark="c", at=2.0)}


def test_a_cluster_is_ready_while_it_renews_and_unknown_a_lease_duration_later() -> None:
    heard = Heard(mark="t", at=100.0)
    assert judge(heard, listening_since=0.0, now=101.0) == Judgement(State.READY, 19.0)
    assert judge(heard, listening_since=0.0, now=119.5) == Judgement(State.READY, 0.5)
    assert judge(heard, listening_since=0.0, now=120.0) == Judgement(State.UNKNOWN)
    assert judge(None, listening_since=0.0, now=120.0) == Judgement(State.UNKNOWN)


@pytest.mark.parametrize("heard", [None, Heard(mark="t", at=-1000.0), Heard(mark="t", at=99.0)])
def test_a_hub_that_has_not_run_for_a_whole_lease_duration_judges_nobody(heard: Heard | None) -> None:
    assert judge(heard, listening_since=90.0, now=100.0) == Judgement(None, 10.0)


def test_a_hub_that_does_not_hear_leases_judges_nobody() -> None:
    assert judge(Heard(mark="t", at=0.0), listening_since=None, now=1000.0) == Judgement(None)


@given(
    st.none() | st.floats(0, 1000),
    st.none() | st.floats(0, 1000),
    st.floats(0, 2000),
)
def test_nobody_is_unknown_who_renewed_within_the_duration(
    at: float | None, since: float | None, now: float
) -> None:
    heard = None if at is None else Heard(mark="t", at=at)
    judged = judge(heard, listening_since=since, now=now)
    if judged.state is State.UNKNOWN:
        assert since is not None
        assert now >= since + 20.0
        assert heard is None or now >= heard.at + 20.0
    if judged.ask_again is not None:
        assert judged.ask_again > 0


def test_the_status_changes_with_the_state_and_not_with_every_heartbeat() -> None:
    first, second = (
        cluster_status(member(state="Ready"), Heard(mark=mark, at=1.0), State.READY) for mark in ("t1", "t2")
    )
    assert first == second
    assert first["status"]["lastHeartbeat"] == "earlier"


def test_a_lost_cluster_is_told_with_its_last_heartbeat() -> None:
    status = cluster_status(member(state="Ready"), Heard(mark="t9", at=1.0), State.UNKNOWN)["status"]
    assert (status["state"], status["lastHeartbeat"]) == ("Unknown", "t9")
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "Heartbeat",
        "Unknown",
        "HeartbeatLost",
    )
    never = cluster_status(member(), None, State.UNKNOWN)["status"]["conditions"][0]
    assert never["reason"] == "HeartbeatNeverSeen"


def test_all_clusters_are_judged_at_once_and_the_hub_is_told_when_to_look_again() -> None:
    clusters = {EU: member("eu-1"), US: member("us-1")}
    heard = {EU: Heard(mark="a", at=95.0)}
    statuses, again = cluster_statuses(clusters, heard, listening_since=0.0, now=100.0)
    assert {name: status["status"]["state"] for name, status in statuses.items()} == {
        EU: "Ready",
        US: "Unknown",
    }
    assert again == 15.0
    assert cluster_statuses(clusters, heard, listening_since=95.0, now=100.0) == ({}, 15.0)
    assert cluster_statuses(clusters, heard, listening_since=None, now=100.0) == ({}, None)


def believed(*, silent: bool, up: bool, live: bool, before: bool | None = None, own: ClusterId = EU) -> bool:
    previous = None if before is None else ClusterView(id=US, unknown=before)
    there = Cluster(id=US, region="us", labels=(("a", "b"),), silent=silent, draining=True)
    seen = view(there, own=own, up=up, session_live=live, previous=previous)
    assert (seen.id, seen.region, seen.labels, seen.draining) == (US, "us", (("a", "b"),), True)
    return seen.unknown


def test_a_silent_cluster_is_unknown_unless_something_of_it_is_up_from_here() -> None:
    assert believed(silent=True, up=False, live=True)
    assert not believed(silent=True, up=True, live=True)
    assert not believed(silent=False, up=False, live=True)


def test_the_own_cluster_is_never_unknown() -> None:
    assert not believed(silent=True, up=False, live=True, own=US)


@pytest.mark.parametrize("silent", [True, False])
@pytest.mark.parametrize("before", [None, True, False])
def test_while_the_hub_session_is_not_live_views_freeze(silent: bool, before: bool | None) -> None:
    assert believed(silent=silent, up=False, live=False, before=before) is bool(before)


def test_being_up_from_here_clears_unknown_even_without_the_hub() -> None:
    assert not believed(silent=True, up=True, live=False, before=True)
