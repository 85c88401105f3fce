"""Who may speak for a cluster: the first claim counts, and what a cluster was recorded as stays."""

from __future__ import annotations

from isthmus.api import hub, labels, mcs
from isthmus.api.meta import ObjectMeta
from isthmus.fleet import membership
from isthmus.fleet.departure import Departures
from isthmus.fleet.membership import Properties
from isthmus.model.names import ClusterId

EU = ClusterId("eu-1")


def entry(uid: str = "", *, leave: bool = False) -> hub.Cluster:
    return hub.Cluster(metadata=ObjectMeta(name="eu-1"), spec=hub.ClusterSpec(uid=uid, leave=leave))


def test_an_id_is_free_until_somebody_has_claimed_it() -> None:
    assert membership.may_claim(None, "a")
    assert membership.may_claim(entry(), "a")
    assert membership.may_claim(entry("a"), "a")
    assert not membership.may_claim(entry("b"), "a")


def test_a_cluster_keeps_the_id_and_the_clusterset_it_was_recorded_with() -> None:
    assert membership.misnamed(EU, "blue", Properties()) == ""
    assert membership.misnamed(EU, "blue", Properties(cluster="eu-1", clusterset="blue")) == ""
    other = membership.misnamed(EU, "blue", Properties(cluster="eu-2", clusterset="blue"))
    assert "--cluster eu-2" in other
    moved = membership.misnamed(EU, "blue", Properties(cluster="eu-1", clusterset="green"))
    assert "--clusterset green" in moved


def test_properties_are_read_from_their_two_objects() -> None:
    spec = mcs.ClusterPropertySpec(value="eu-1")
    left = mcs.ClusterProperty(metadata=ObjectMeta(annotations={labels.LEFT: "2026-01-01"}), spec=spec)
    assert membership.properties(None, None) == Properties()
    assert membership.properties(left, None) == Properties(cluster="eu-1", left=True)


def test_only_the_operator_of_ones_own_entry_or_of_the_cluster_itself_makes_a_cluster_leave() -> None:
    assert membership.asked_to_leave(entry("a", leave=True), "a", Properties())
    assert membership.asked_to_leave(None, "a", Properties(left=True))
    assert not membership.asked_to_leave(entry("b", leave=True), "a", Properties())
    assert not membership.asked_to_leave(entry("a"), "a", Properties())


def test_a_cluster_without_its_object_counts_for_a_while_and_anew_when_it_was_back() -> None:
    now = 100.0
    departures = Departures(lambda: now, 60.0)
    assert departures.left(EU) == 60.0
    now = 130.0
    assert departures.left(EU) == 30.0
    departures.here(EU)
    assert departures.left(EU) == 60.0
    now = 190.0
    assert departures.left(EU) == 0.0
    assert departures.left(EU) == 60.0
