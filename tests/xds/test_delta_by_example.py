"""The incremental variant, one rule of the xDS protocol at a time."""

from __future__ import annotations

import pytest
from ads_client import (
    CDS,
    EDS,
    LDS,
    RDS,
    TYPE_URLS,
    DeltaClient,
    World,
    contents,
    node,
    routes,
    running_delta,
    value,
)
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.errors import WireError
from isthmus.xds.proxies import described
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Variant


def told(client: DeltaClient) -> list[tuple[str, list[str], list[str]]]:
    """Type, names and removed names of what was received."""
    return [
        (r.type_url.rpartition(".")[2], [one.name for one in r.resources], list(r.removed_resources))
        for r in client.received
    ]


def test_only_what_changed_is_sent_with_its_own_version() -> None:
    world, client = running_delta("a", "b")
    before = dict(client.versions[CDS])
    world.apply(cds_a=value("a", 1))
    assert told(client) == [("Cluster", ["a"], []), ("ClusterLoadAssignment", ["a"], [])]
    client.settle()
    assert client.versions[CDS]["a"] != before["a"]
    assert client.versions[CDS]["b"] == before["b"]


def test_an_unknown_name_is_answered_as_removed_at_once_and_stays_wanted() -> None:
    world, client = running_delta("a")
    client.subscribe(EDS, frozenset({"a", "late"}))
    assert told(client) == [("ClusterLoadAssignment", [], ["late"])]
    client.settle()
    world.apply(eds_late=value("late", 1))
    assert told(client)[-1] == ("ClusterLoadAssignment", ["late"], [])


def test_a_known_name_that_is_subscribed_to_again_is_answered_again() -> None:
    _world, client = running_delta("a", "b")
    client.send_delta(EDS, ["a"])
    assert told(client) == [("ClusterLoadAssignment", ["a"], [])]


def test_a_name_that_was_unsubscribed_from_is_not_sent_and_comes_back_when_asked_for() -> None:
    world, client = running_delta("a", "b")
    client.subscribe(EDS, frozenset({"b"}))
    world.apply(eds_a=value("a", 1))
    assert told(client) == []
    client.subscribe(EDS, frozenset({"a", "b"}))
    assert told(client) == [("ClusterLoadAssignment", ["a"], [])]


def test_subscribing_counts_under_a_stale_nonce() -> None:
    world, client = running_delta("a", "b")
    client.send_delta(EDS, leave=["a"], nonce="something old")
    world.apply(eds_a=value("a", 1))
    assert told(client) == []
    client.send_delta(EDS, ["a"], nonce="something old")
    assert told(client) == [("ClusterLoadAssignment", ["a"], [])]
    assert world.ads.counts.stale[EDS] == 2


def test_a_rejection_under_a_stale_nonce_rejects_nothing() -> None:
    world, client = running_delta("a")
    world.apply(eds_a=value("a", 1))
    client.send_delta(EDS, nonce="something old", error="no")
    client.settle()
    assert client.view[EDS] == {"a": b"a=1"}
    assert world.ads.counts.rejections[EDS] == 0


def test_leaving_a_name_while_holding_the_wildcard_is_answered() -> None:
    _world, client = running_delta("a")
    client.send_delta(CDS, ["a", "nothing"])
    client.settle()
    client.received.clear()
    client.send_delta(CDS, leave=["a", "nothing"])
    assert told(client)[0] == ("Cluster", ["a"], ["nothing"])


def test_leaving_the_wildcard_leaves_the_names_that_were_given() -> None:
    world, client = running_delta("a", "b")
    client.send_delta(CDS, ["b"])
    client.settle()
    client.received.clear()
    client.send_delta(CDS, leave=["*"])
    world.apply(cds_a=value("a", 1), cds_b=value("b", 1))
    assert told(client)[0] == ("Cluster", ["b"], [])


def test_the_wildcard_may_be_asked_for_by_its_name() -> None:
    world, _ = running_delta("a", "b")
    client = world.connect_delta()
    client.send_delta(CDS, ["b"])
    assert told(client) == [("Cluster", ["b"], [])]
    client.settle()
    client.send_delta(CDS, ["*"])
    assert ("Cluster", ["a", "b"], []) in told(client)


def test_no_names_in_a_later_request_are_no_wildcard() -> None:
    world, _ = running_delta("a", "b")
    client = world.connect_delta()
    client.send_delta(CDS, ["b"])
    client.settle()
    client.send_delta(CDS, leave=["b"])
    client.send_delta(CDS)
    world.apply(cds_a=value("a", 1), cds_b=value("b", 1))
    assert told(client) == [("Cluster", ["b"], []), ("ClusterLoadAssignment", ["b"], [])]


def test_a_wildcard_over_nothing_is_answered() -> None:
    _world, client = running_delta()
    assert client.view[LDS] == {"explicit": b"listener"}


def test_a_client_that_comes_back_gets_the_differences() -> None:
    world, client = running_delta("a", "b", "c")
    client.stream.close()
    world.apply(cds_b=value("b", 1), cds_c=None, eds_c=None, rds=routes("ab"))
    again = world.connect_delta(client)
    again.start()
    again.settle()
    assert told(again) == [
        ("Cluster", ["b"], []),
        ("ClusterLoadAssignment", ["b"], []),
        ("Listener", [], []),
        ("RouteConfiguration", ["explicit"], []),
        ("Cluster", [], ["c"]),
        ("ClusterLoadAssignment", [], ["c"]),
    ]
    assert again.view[CDS] == world.held(CDS)
    assert again.view[EDS] == world.held(EDS)


def test_a_client_that_comes_back_to_what_it_has_gets_nothing_but_an_answer_to_its_wildcards() -> None:
    world, client = running_delta("a", "b")
    client.stream.close()
    other = World()
    other.batch(dict(reversed(world.rows.items())))
    again = other.connect_delta(client)
    again.start()
    again.settle()
    assert told(again) == [("Cluster", [], []), ("Listener", [], [])]


def test_a_removed_cluster_and_its_assignment_stay_until_routes_without_it_are_accepted() -> None:
    world, client = running_delta("a", "b")
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    assert told(client) == [("RouteConfiguration", ["explicit"], [])]
    client.process()
    assert told(client)[1:] == [("Cluster", [], ["a"]), ("ClusterLoadAssignment", [], ["a"])]


def test_a_rejected_resource_is_not_sent_again_and_its_siblings_are() -> None:
    world, client = running_delta("a", "b", "c")
    world.batch(
        {
            "cds|*|a": value("a", 1),
            "cds|*|b": value("b", 9),
            "cds|*|c": value("c", 1),
        }
    )
    client.settle()
    assert client.view[CDS] == {"a": b"a=1", "b": b"b=0", "c": b"c=1"}
    assert [names for kind, names, _ in told(client) if kind == "Cluster"] == [
        ["a", "b", "c"],
        ["a", "c"],
        ["b"],
    ]
    clusters = next(iter(described(world.ads, 0.0)))["types"]["cds"]
    assert list(clusters["differs"]["heldBack"]) == ["b"]
    assert clusters["rejected"] == "cannot take b: it is bad"
    world.apply(cds_b=value("b", 2))
    client.settle()
    assert client.view[CDS]["b"] == b"b=2"


def test_a_rejected_assignment_comes_again_only_when_it_changes() -> None:
    world, client = running_delta("a")
    world.apply(eds_a=value("a", 9))
    client.settle()
    client.received.clear()
    world.apply(cds_a=value("a", 1))
    client.settle()
    assert told(client) == [("Cluster", ["a"], [])]
    world.apply(eds_a=value("a", 2))
    assert told(client)[1:] == [("ClusterLoadAssignment", ["a"], [])]


def test_what_a_new_server_has_never_heard_of_is_removed() -> None:
    world, client = running_delta("a", "gone")
    other = World()
    other.batch({key: held for key, held in world.rows.items() if "gone" not in key})
    again = other.connect_delta(client)
    again.start()
    again.settle()
    assert ("Cluster", [], ["gone"]) in told(again)
    assert ("ClusterLoadAssignment", [], ["gone"]) in told(again)


def test_what_was_removed_beside_something_bad_is_removed_again() -> None:
    world, client = running_delta("a", "b", "c")
    world.apply(rds=routes("ab"))
    client.settle()
    client.received.clear()
    world.batch({"cds|*|b": value("b", 9), "cds|*|a": value("a", 1), "cds|*|c": None})
    assert told(client)[0] == ("Cluster", ["a", "b"], ["c"])
    client.settle()
    assert client.view[CDS] == {"a": b"a=1", "b": b"b=0"}


@pytest.mark.parametrize("only", list(ResourceType))
def test_a_service_of_one_type_may_leave_the_type_out_and_not_ask_for_another(only: ResourceType) -> None:
    world, _ = running_delta("a")
    sent: list[bytes] = []

    def write(data: bytes) -> bool:
        sent.append(data)
        return True

    names = [] if only in (CDS, LDS) else ["a" if only is EDS else "explicit"]
    stream = world.ads.open(write, Variant.DELTA, only)
    request = discovery_pb2.DeltaDiscoveryRequest(node=node(), resource_names_subscribe=names)
    stream.request(request.SerializeToString())
    response = discovery_pb2.DeltaDiscoveryResponse.FromString(sent[0])
    assert response.type_url == TYPE_URLS[only]
    assert len(contents(response)) == 1
    other = TYPE_URLS[RDS if only is not RDS else CDS]
    with pytest.raises(WireError, match="service for"):
        stream.request(discovery_pb2.DeltaDiscoveryRequest(type_url=other).SerializeToString())
