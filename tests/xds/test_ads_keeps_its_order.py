"""What the protocol core owes clients when answers, requests and changes cross each other."""

from __future__ import annotations

from ads_client import (
    CDS,
    EDS,
    LDS,
    RDS,
    TYPE_URLS,
    Client,
    World,
    contents,
    routes,
    running,
    running_delta,
    value,
)

from isthmus.xds import stream
from isthmus.xds.ads import REMOVED_SECONDS


def kinds(client: Client) -> list[str]:
    return [r.type_url.rpartition(".")[2] for r in client.received]


def removed(client: Client, kind: str) -> list[str]:
    """Names that were told to be gone (Delta)."""
    return [name for r in client.received if r.type_url == TYPE_URLS[kind] for name in r.removed_resources]


def with_routes_in_flight() -> tuple[World, Client]:
    """Service a has come beside b, and routes that name both have been sent and not been answered."""
    world, client = running("b")
    world.apply(cds_a=value("a", 0), eds_a=value("a", 0))
    client.settle()
    world.apply(rds=routes("ab"))
    client.received.clear()
    return world, client


def test_a_request_without_a_nonce_is_stale_once_a_response_was_sent() -> None:
    """It was written before that response came; the answer to it says what is wanted."""
    world, client = running("a", "b")
    client.names[EDS] = frozenset({"a"})
    client.send(EDS, nonce="")
    world.apply(eds_b=value("b", 1))
    assert [contents(r) for r in client.received] == [{"b": b"b=1"}]
    assert world.ads.counts.stale[EDS] == 1


def test_names_of_a_stale_request_are_news_when_they_come_again() -> None:
    _world, client = running("a", "b")
    client.subscribe(EDS, frozenset({"a"}))
    client.names[EDS] = frozenset({"a", "b"})
    client.send(EDS, nonce="something old")
    assert client.received == []
    client.send(EDS)
    assert [contents(r) for r in client.received] == [{"b": b"b=0"}]


def test_listeners_wait_for_clusters_to_be_accepted_only_for_so_long() -> None:
    world, client = running("a")
    world.apply(cds_a=value("a", 1), lds=b"other")
    world.clock.now += stream.ORDER_SECONDS - 0.1
    world.ads.tick()
    assert "Listener" not in kinds(client)
    world.clock.now += 0.2
    world.ads.tick()
    assert "Listener" in kinds(client)


def test_a_client_that_asks_for_clusters_alone_is_answered_when_its_class_is_rendered() -> None:
    world = World()
    world.apply(cds_a=value("a", 0))
    clients = [world.connect(), world.connect_delta()]
    for client in clients:
        client.subscribe(CDS, frozenset({"a"}))
        assert client.received == []
    world.apply(lds=b"listener")
    assert [contents(client.received[0]) for client in clients] == 2 * [{"a": b"a=0"}]


def test_a_cluster_stays_while_routes_that_name_it_are_in_flight() -> None:
    world, client = with_routes_in_flight()
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    assert client.received == []
    client.process()
    assert kinds(client) == ["RouteConfiguration"]
    client.process()
    assert kinds(client) == ["RouteConfiguration", "Cluster"]


def test_a_cluster_stays_while_routes_that_name_it_wait_to_be_sent() -> None:
    world, client = running("a", "b")
    world.apply(rds=routes("b"))
    client.settle()
    world.apply(rds=routes("bc"))
    world.apply(rds=routes("ab"))
    world.apply(cds_a=None, eds_a=None)
    client.settle()
    assert client.view[RDS] == {"explicit": routes("ab")}
    assert "a" in client.view[CDS]


def test_a_removed_cluster_is_remembered_for_who_has_not_accepted_routes_without_it() -> None:
    world, client = running("a", "b")
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    world.apply(cds_b=value("b", 1))
    for _ in range(3):
        world.clock.now += REMOVED_SECONDS
        world.ads.tick()
    world.apply(cds_b=value("b", 2))
    clusters = [r for r in client.received if r.type_url == TYPE_URLS[CDS]]
    assert contents(clusters[-1]) == {"a": b"a=0", "b": b"b=2"}


def test_what_was_looked_up_of_a_removed_cluster_is_forgotten_with_it() -> None:
    world, client = running("a", "b", "c")
    world.apply(rds=routes("c"), cds_a=None, eds_a=None, cds_b=None, eds_b=None)
    client.settle()
    assert world.ads.looked_up.keys() == {"a", "b"}
    world.apply(rds=routes("bc"), cds_b=value("b", 1), eds_b=value("b", 1))
    client.settle()
    assert world.ads.looked_up.keys() == {"a"}
    world.clock.now += REMOVED_SECONDS
    world.ads.tick()
    assert not world.ads.looked_up


def test_a_cluster_goes_with_the_last_routes_that_named_it() -> None:
    world, client = running_delta("a", "b")
    world.apply(rds=None, cds_a=None, eds_a=None)
    assert removed(client, RDS) == ["explicit"]
    assert removed(client, CDS) == []
    client.process()
    assert removed(client, CDS) == ["a"]


def test_a_cluster_goes_when_its_client_leaves_the_routes_that_name_it() -> None:
    world, client = running_delta("a", "b")
    world.apply(cds_a=None, eds_a=None)
    client.send_delta(RDS, leave=["explicit"])
    world.apply(cds_b=value("b", 1))
    assert removed(client, CDS) == ["a"]


def test_a_client_that_comes_back_and_asks_for_no_routes_loses_removed_clusters_in_the_end() -> None:
    world, client = running_delta("a", "b")
    world.connect().started()
    client.stream.close()
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    again = world.connect_delta(client)
    again.send_delta(CDS, versions=client.versions[CDS])
    again.settle()
    assert removed(again, CDS) == []
    world.clock.now += stream.ORDER_SECONDS + 0.1
    world.ads.tick()
    assert removed(again, CDS) == ["a"]


def test_what_a_client_brought_along_is_sent_when_it_has_changed_and_changed_back() -> None:
    world, client = running_delta("a")
    client.stream.close()
    again = world.connect_delta(client).started()
    for number in (1, 0):
        world.apply(cds_a=value("a", number))
        again.settle()
        assert again.view[CDS] == {"a": value("a", number)}


def test_a_client_that_brings_old_routes_keeps_clusters_until_it_has_new_ones() -> None:
    world, client = running_delta("a", "b")
    client.stream.close()
    world.apply(rds=routes("b"), cds_a=None, eds_a=None)
    again = world.connect_delta(client)
    again.start()
    while again.inbox[0].type_url != TYPE_URLS[RDS]:
        again.process()
    world.ads.tick()
    assert removed(again, CDS) == []
    again.process()
    assert removed(again, CDS) == ["a"]


def test_no_names_are_no_wildcard_where_responses_hold_only_what_was_asked_for() -> None:
    world, _ = running("a")
    client = world.connect_delta()
    client.send_delta(EDS)
    world.apply(eds_a=value("a", 1))
    assert client.received == []


def test_what_is_left_while_it_is_due_is_not_sent() -> None:
    for world, client in (running("a", "b"), running_delta("a", "b")):
        world.apply(eds_a=value("a", 1))
        world.apply(eds_b=value("b", 1))
        client.subscribe(EDS, frozenset({"a"}))
        client.settle()
        assert [contents(r) for r in client.received] == [{"a": b"a=1"}]


def test_what_was_rejected_is_sent_again_to_who_leaves_it_and_asks_again() -> None:
    for world, client in (running("a", "b"), running_delta("a", "b")):
        world.apply(eds_a=value("a", 9))
        client.process()
        client.subscribe(EDS, frozenset({"b"}))
        client.settle()
        client.received.clear()
        client.blamed.clear()
        client.subscribe(EDS, frozenset({"a", "b"}))
        assert [contents(r) for r in client.received] == [{"a": b"a=9"}]


def test_a_cluster_that_is_asked_for_again_is_answered_though_nothing_changed() -> None:
    _world, client = running("a", "b")
    for names in ({"a", "b"}, {"a"}):
        client.subscribe(CDS, frozenset(names))
        client.settle()
    client.received.clear()
    client.subscribe(CDS, frozenset({"a", "b"}))
    assert contents(client.received[0]) == {"a": b"a=0", "b": b"b=0"}


def test_a_state_that_was_rejected_is_tried_again_after_another_was_accepted() -> None:
    world, client = running("a")
    for number in (9, 1, 9):
        client.received.clear()
        world.apply(cds_a=value("a", number))
        client.settle()
    assert contents(client.received[0]) == {"a": b"a=9"}


def test_what_was_accepted_before_is_not_suspected_of_a_rejection() -> None:
    world, client = running("a", "b")
    world.apply(cds_c=value("c", 1))
    client.process(accept=False, error="no")
    client.settle()
    assert kinds(client) == ["Cluster"]


def test_a_wildcard_that_is_asked_for_again_does_not_bring_what_was_rejected() -> None:
    world, client = running_delta("a", "b")
    client.send_delta(CDS, ["b"])
    client.settle()
    world.apply(cds_b=value("b", 9))
    client.settle()
    client.send_delta(CDS, leave=["*"])
    client.settle()
    client.received.clear()
    client.send_delta(CDS, ["*"])
    assert [set(contents(r)) for r in client.received if r.type_url == TYPE_URLS[CDS]] == [{"a"}]


def test_listeners_follow_at_once_where_no_clusters_are_asked_for() -> None:
    world = World.of("a")
    client = world.connect()
    client.subscribe(LDS, frozenset())
    assert kinds(client) == ["Listener"]
