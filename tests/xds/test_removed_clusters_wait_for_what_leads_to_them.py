"""A cluster that is gone stays with a client until nothing that the client has accepted leads to it."""

from __future__ import annotations

import pytest
from ads_client import CDS, CLASS, EDS, Client, World, chains, routes, value

from isthmus.xds.rows import Capture, ProxyClass

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
