"""The protocol core, one rule of the xDS protocol at a time."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
from ads_client import CDS, EDS, LDS, RDS, TYPE_URLS, Client, World, contents, node, routes, running, value
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.errors import WireError
from isthmus.xds import ads, stream
from isthmus.xds.proxies import described
from isthmus.xds.subscription import MOST_LATE
from isthmus.xds.wants import LINGER_SECONDS


def types(client: Client) -> list[str]:
    return [r.type_url.rpartition(".")[2] for r in client.received]


def test_types_go_out_in_make_before_break_order() -> None:
    world, client = running("a")
    world.apply(rds=routes("ab"), lds=b"other", eds_a=value("a", 1), cds_b=value("b", 0), eds_b=value("b", 0))
    assert types(client) == ["Cluster", "ClusterLoadAssignment"]
    client.process()
    assert types(client)[2:4] == ["Listener", "RouteConfiguration"]


def test_only_changed_assignments_are_sent() -> None:
    world, client = running("a", "b", "c")
    world.apply(eds_b=value("b", 1))
    assert [list(contents(r)) for r in client.received] == [["b"]]


def test_changes_during_a_response_in_flight_follow_as_one() -> None:
    world, client = running("a", "b", "c")
    for number in range(1, 20):
        world.apply(eds_a=value("a", number))
        world.apply(eds_b=value("b", number))
    client.settle()
    assert [contents(r) for r in client.received] == [
        {"a": b"a=1"},
        {"a": b"a=19", "b": b"b=19"},
    ]


def test_an_unanswered_response_holds_newer_state_back_only_for_so_long() -> None:
    world, client = running("a")
    world.apply(eds_a=value("a", 1))
    world.apply(eds_a=value("a", 2))
    world.clock.now += stream.ACK_SECONDS - 0.1
    world.ads.tick()
    assert len(client.received) == 1
    world.clock.now += 0.2
    world.ads.tick()
    assert contents(client.received[-1]) == {"a": b"a=2"}


def test_a_changed_cluster_is_followed_by_its_unchanged_assignment() -> None:
    world, client = running("a", "b")
    world.apply(cds_a=value("a", 1))
    assert types(client) == ["Cluster", "ClusterLoadAssignment"]
    assert list(contents(client.received[1])) == ["a"]


def test_a_removed_cluster_stays_until_routes_without_it_are_accepted() -> None:
    world, client = running("a", "b")
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    assert types(client) == ["RouteConfiguration"]
    client.process()
    assert types(client) == ["RouteConfiguration", "Cluster"]
    assert set(contents(client.received[1])) == {"b"}


def test_a_removed_cluster_stays_while_the_new_routes_are_rejected() -> None:
    world, client = running("a", "b")
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    client.process(accept=False)
    world.apply(cds_b=value("b", 1))
    clusters = [r for r in client.received if r.type_url == TYPE_URLS[CDS]]
    assert set(contents(clusters[-1])) == {"a", "b"}


def test_a_rejection_is_kept_with_its_text_and_stops_nothing_else(
    logs: list[MutableMapping[str, Any]],
) -> None:
    world, client = running("a")
    world.apply(cds_a=value("a", 1))
    client.process(accept=False)
    client.settle()
    world.apply(eds_a=value("a", 2))
    client.settle()
    assert client.view[EDS] == {"a": b"a=2"}
    assert len([r for r in client.received if r.type_url == TYPE_URLS[CDS]]) == 1
    told = next(iter(described(world.ads, 0.0)))
    assert told["node"] == "sidecar-1"
    assert told["types"]["cds"]["rejected"] == "will not do"
    assert told["types"]["eds"]["rejected"] == ""
    assert world.ads.counts.rejections[CDS] == 1
    assert [entry for entry in logs if entry["event"] == "xds rejected"] == [
        {
            "event": "xds rejected",
            "log_level": "warning",
            "node": "sidecar-1",
            "type": "cds",
            "reason": "will not do",
        }
    ]


def test_a_rejection_that_comes_late_is_told_of(logs: list[MutableMapping[str, Any]]) -> None:
    world, client = running("a", "b")
    world.apply(eds_a=value("a", 1))
    world.clock.now += stream.ACK_SECONDS + 1
    world.apply(eds_b=value("b", 1))
    client.process(accept=False, error="not this")
    assert world.ads.counts.rejections[EDS] == 1
    assert [entry["reason"] for entry in logs if entry["event"] == "xds rejected"] == ["not this"]


def test_an_acceptance_that_comes_late_counts() -> None:
    world, client = running("a", "b")
    before = world.ads.counts.acceptances[CDS]
    world.apply(cds_a=value("a", 1))
    sent_at = world.clock.now
    world.clock.now += stream.ACK_SECONDS + 1
    world.apply(cds_b=value("b", 1))
    world.clock.now += 1
    client.process()
    subscription = client.stream.subscriptions[CDS]
    assert world.ads.counts.acceptances[CDS] == before + 1
    assert subscription.took == world.clock.now - sent_at
    assert subscription.accepted is not None
    assert {one.name: one.framed.endswith(b"=1") for one in subscription.accepted.resources} == {
        "a": True,
        "b": False,
    }
    client.settle()
    assert world.ads.counts.acceptances[CDS] == before + 2
    assert client.view[CDS] == {"a": b"a=1", "b": b"b=1"}


def test_of_what_a_client_does_not_answer_little_is_remembered() -> None:
    world, client = running("a")
    for number in range(1, 20):
        world.apply(eds_a=value("a", number))
        world.clock.now += stream.ACK_SECONDS + 1
    assert len(client.inbox) == 19
    assert len(client.stream.subscriptions[EDS].late) == MOST_LATE <= 4
    client.settle()
    assert client.view[EDS] == {"a": b"a=19"}
    assert not client.stream.subscriptions[EDS].late


def test_a_rejected_assignment_comes_again_only_when_it_changes() -> None:
    world, client = running("a")
    world.apply(eds_a=value("a", 1))
    client.process(accept=False)
    world.apply(cds_a=value("a", 1))
    assert types(client) == ["ClusterLoadAssignment", "Cluster"]
    world.apply(eds_a=value("a", 2))
    assert types(client) == ["ClusterLoadAssignment", "Cluster", "ClusterLoadAssignment"]
    client.settle()
    assert next(iter(described(world.ads, 0.0)))["types"]["eds"]["rejected"] == ""


def test_an_assignment_that_does_not_exist_yet_is_remembered() -> None:
    world, client = running("a")
    client.subscribe(EDS, frozenset({"a", "late"}))
    client.settle()
    client.received.clear()
    world.apply(eds_late=value("late", 1))
    assert [contents(r) for r in client.received] == [{"late": b"late=1"}]


def test_a_name_asked_for_again_is_answered_though_nothing_changed() -> None:
    _world, client = running("a", "b")
    client.subscribe(EDS, frozenset({"a"}))
    client.subscribe(EDS, frozenset({"a", "b"}))
    assert [list(contents(r)) for r in client.received] == [["b"]]


def test_a_stale_request_changes_nothing() -> None:
    world, client = running("a", "b")
    client.names[EDS] = frozenset()
    client.send(EDS, nonce="something old")
    world.apply(eds_a=value("a", 1))
    assert [list(contents(r)) for r in client.received] == [["a"]]
    assert world.ads.counts.stale[EDS] == 1


def test_a_repeated_acknowledgement_is_not_answered() -> None:
    _world, client = running("a")
    for kind in (CDS, EDS, LDS, RDS):
        client.send(kind)
    assert client.received == []


def test_nothing_is_sent_before_the_class_is_rendered_and_all_of_it_then() -> None:
    world = World()
    world.apply(cds_a=value("a", 0), eds_a=value("a", 0))
    client = world.connect()
    client.start()
    assert client.received == []
    world.apply(rds=routes("a"), lds=b"listener")
    client.settle()
    assert client.view[CDS] == {"a": b"a=0"}
    assert client.view[RDS] == {"explicit": routes("a")}


def test_a_class_that_is_rendered_no_longer_keeps_what_it_has() -> None:
    world, client = running("a")
    world.apply(lds=None, rds=None, eds_a=None)
    world.apply(cds_a=None)
    assert client.received == []
    world.apply(cds_a=value("a", 0), eds_a=value("a", 0), rds=routes("a"), lds=b"listener")
    client.settle()
    assert "Cluster" not in types(client)
    assert "Listener" not in types(client)


def test_a_world_without_services_is_an_empty_answer() -> None:
    _world, client = running()
    assert client.view[LDS] == {"explicit": b"listener"}


def test_equal_rows_have_equal_versions_in_every_worker() -> None:
    versions = []
    for names in ("ab", "ba"):
        world = World()
        for name in names:
            world.apply(**{f"cds_{name}": value(name, 0)})
        world.apply(lds=b"listener")
        client = world.connect()
        client.start()
        versions.append([r.version_info for r in client.received])
    assert versions[0] == versions[1]


def test_wildcard_by_no_names_holds_only_while_none_were_given() -> None:
    world, client = running("a", "b")
    client.subscribe(CDS, frozenset({"a"}))
    client.settle()
    client.received.clear()
    client.subscribe(CDS, frozenset())
    world.apply(cds_a=value("a", 5))
    assert all(not contents(r) for r in client.received)
    client.subscribe(CDS, frozenset({"*"}))
    client.settle()
    assert set(client.view[CDS]) == {"a", "b"}


def test_a_class_is_wanted_while_it_has_streams_and_a_while_after() -> None:
    world, client = running("a")
    other = world.connect()
    other.start()
    text = "envoy@eu-1/eu/a@127.0.0.1:15001"
    client.stream.close()
    world.clock.now += 2 * LINGER_SECONDS
    world.ads.tick()
    assert text in world.wants
    other.stream.close()
    world.clock.now += LINGER_SECONDS - 1
    world.ads.tick()
    assert text in world.wants
    world.clock.now += 1
    world.ads.tick()
    assert text not in world.wants


def first_request(**fields: Any) -> bytes:
    return discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[CDS], **fields).SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"\x0a",
        first_request(),
        first_request(node=node(listen="somewhere")),
    ],
    ids=["no protobuf", "cut off", "no node", "listen nowhere"],
)
def test_a_stream_that_does_not_say_who_it_is_ends(data: bytes) -> None:
    client = World().ads.open(lambda _: True)
    with pytest.raises(WireError):
        client.request(data)


def test_an_impossible_place_is_unknown_and_the_cluster_is_the_agents_own() -> None:
    world = World()
    client = world.ads.open(lambda _: True)
    client.request(first_request(node=node(region="e|u", zone="z" * 500, listen="[::1]:15001")))
    assert list(world.wants.keys()) == ["envoy@eu-1//@[::1]:15001"]


def test_classes_are_bounded() -> None:
    world = World()
    for number in range(ads.MAX_CLASSES):
        world.ads.open(lambda _: True).request(first_request(node=node(zone=f"z{number}")))
    with pytest.raises(WireError, match="classes"):
        world.ads.open(lambda _: True).request(first_request(node=node(zone="one-more")))
    world.ads.open(lambda _: True).request(first_request(node=node(zone="z0")))


def test_types_that_are_not_served_are_left_unanswered() -> None:
    _world, client = running("a")
    request = discovery_pb2.DiscoveryRequest(type_url="type.googleapis.com/envoy.service.runtime.v3.Runtime")
    client.stream.request(request.SerializeToString())
    assert client.received == []
