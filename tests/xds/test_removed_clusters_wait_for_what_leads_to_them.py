"""A cluster that is gone stays with a client until nothing that the client has accepted leads to it."""

from __future__ import annotations

import pytest
from ads_client import CDS, CLASS, EDS, Client, World, chains, routes, value

from isthmus.xds.rows import Capture, ProxyClass
from isthmus.xds.stream import ACK_SECONDS

SCOPED = CLASS._replace(uses=("pay/web", "shop/*"))
CAPTURED = CLASS._replace(capture=Capture.TRANSPARENT)
BOTH = SCOPED._replace(capture=Capture.TRANSPARENT)
VARIANTS = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
BEFORE: dict[str, bytes | None] = {"cds_a": None, "eds_a": None}


def running(proxy_class: ProxyClass, *, delta: bool, **leaders: bytes) -> tuple[World, Client]:
    """Clusters a and b, and a client of that class that has all of it."""
    world = World(proxy_class)
    for name in "ab":
        world.apply(**{f"cds_{name}": value(name, 0), f"eds_{name}": value(name, 0)})
    world.apply(**leaders)
    client = world.connect_delta() if delta else world.connect()
    client.start()
    client.settle()
    assert set(client.view[CDS]) == {"a", "b"}
    return world, client


@VARIANTS
@pytest.mark.parametrize("order", ["together", "clusters first", "routes first"])
def test_of_a_proxy_that_is_told_of_some_services_only(delta: bool, order: str) -> None:
    world, client = running(SCOPED, delta=delta, lds=b"listener", rds=routes("ab"))
    after = {"rds": routes("b")}
    steps = {
        "together": [{**BEFORE, **after}],
        "clusters first": [BEFORE, after],
        "routes first": [after, BEFORE],
    }
    for step in steps[order]:
        world.apply(**step)
    assert client.inbox
    assert all(r.type_url.endswith(".RouteConfiguration") for r in client.inbox)
    client.settle()
    assert set(client.view[CDS]) == {"b"}


@VARIANTS
@pytest.mark.parametrize("proxy_class", [CAPTURED, BOTH], ids=["all", "scoped"])
def test_of_connections_that_the_listener_itself_forwards(delta: bool, proxy_class: ProxyClass) -> None:
    world, client = running(proxy_class, delta=delta, lds=chains("ab"))
    world.apply(lds=chains("b"), cds_a=None, eds_a=None)
    (first,) = client.inbox
    assert first.type_url.endswith(".Listener")
    world.clock.now += 120
    world.ads.tick()
    assert set(client.view[CDS]) == {"a", "b"}
    client.settle()
    assert set(client.view[CDS]) == {"b"}


@VARIANTS
def test_while_the_listener_without_it_is_rejected(delta: bool) -> None:
    world, client = running(CAPTURED, delta=delta, lds=chains("ab"))
    world.apply(lds=chains("b"), cds_a=None, eds_a=None)
    client.process(accept=False)
    world.apply(cds_b=value("b", 1))
    client.settle()
    assert set(client.view[CDS]) == {"a", "b"}
    world.apply(eds_b=value("b", 2), lds=chains("bc"))
    client.settle()
    assert set(client.view[CDS]) == {"b"}
    assert client.view[EDS]["b"] == value("b", 2)


def test_a_client_that_comes_back_with_its_listener_keeps_what_that_names() -> None:
    world, client = running(CAPTURED, delta=True, lds=chains("ab"))
    client.stream.close()
    world.apply(cds_a=None, eds_a=None)
    again = world.connect_delta(client)  # type: ignore[arg-type]
    again.start()
    again.settle()
    assert set(again.view[CDS]) == {"a", "b"}
    world.apply(lds=chains("b"))
    again.settle()
    world.clock.now += 10
    world.ads.tick()
    again.settle()
    assert set(again.view[CDS]) == {"b"}


def overtaken(delta: bool, *listeners: str) -> tuple[World, Client]:
    """A client that has not answered yet: each listener was sent, though the one before it had no answer."""
    first, *later = listeners
    world, client = running(CAPTURED, delta=delta, lds=chains(first))
    for clusters in later:
        world.apply(lds=chains(clusters))
        world.clock.now += ACK_SECONDS + 1
    assert len(client.inbox) == len(later)
    world.apply(**BEFORE)
    return world, client


@VARIANTS
def test_it_goes_when_the_listener_without_it_is_accepted_late(delta: bool) -> None:
    _world, client = overtaken(delta, "ab", "b", "bc")
    client.process()
    client.process(accept=False)
    client.settle()
    assert set(client.view[CDS]) == {"b"}


@VARIANTS
def test_it_stays_when_a_listener_that_names_it_was_overtaken_and_is_accepted_late(delta: bool) -> None:
    world, client = overtaken(delta, "b", "ab", "bc")
    world.ads.tick()
    assert all(r.type_url.endswith(".Listener") for r in client.inbox)
    client.process()
    client.process(accept=False)
    client.settle()
    world.apply(cds_b=value("b", 1))
    client.settle()
    assert client.view[CDS] == {"a": value("a", 0), "b": value("b", 1)}


def test_of_a_client_that_comes_back_with_an_old_listener_and_routes_that_still_hold() -> None:
    world, client = running(CAPTURED, delta=True, lds=chains("ab"), rds=routes("b"))
    client.stream.close()
    world.apply(lds=chains("b"), **BEFORE)
    again = world.connect_delta(client)  # type: ignore[arg-type]
    again.start()
    again.process()
    assert again.inbox[-1].type_url.endswith(".Listener")
    world.ads.tick()
    assert not any(r.removed_resources for r in again.received)
    again.settle()
    assert set(again.view[CDS]) == {"b"}
