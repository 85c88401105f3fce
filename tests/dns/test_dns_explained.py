"""Why a name answers as it does: the answer that is explained is the one that is given."""

from __future__ import annotations

from typing import Any

import pytest

from isthmus.dns import rrset
from isthmus.dns.explained import explained, service_of
from isthmus.errors import ConfigError
from isthmus.model.names import ClusterId, EndpointId
from isthmus.model.plan import LeftOut, Plan

ORIGIN = "clusterset.local"
SVC = "checkout.shop.svc.clusterset.local"
DB = "db.shop.svc.clusterset.local"


class World:
    """A headless service of twenty pods in two clusters, one of them with a name; and one clusterset IP."""

    def __init__(self, server: Any, make: Any) -> None:
        self.server = server
        pods = [
            make.backend("eu-1", f"10.64.0.{n}", hostname="first" if n == 0 else "", port=8080)
            for n in range(10)
        ]
        self.plans: dict[str, Plan] = make.plans(
            "shop/db",
            ("eu-1", 8000, pods),
            ("us-1", 2000, [f"10.66.0.{n}" for n in range(10)]),
            standby=(make.group("ap-1", 0, ["10.68.0.1"]),),
            unhealthy=(make.group("eu-1", 0, ["10.64.0.99"]),),
            left_out=(LeftOut(ClusterId("eu-1"), EndpointId("pod-x"), "not ready in Kubernetes"),),
        )
        self.db = make.service("shop/db", headless=True)
        self.checkout = make.service("shop/checkout")
        server.put(self.db, [], self.plans)
        server.put(self.checkout, ["10.96.0.10"])

    def db_told(self, name: str, rtype: str = "A", client: str = "10.0.0.1") -> dict[str, Any]:
        row = rrset.row(self.db, (), self.plans)
        return explained(name, rtype, ORIGIN, client, self.server.now, row, self.plans)

    def checkout_told(self, name: str, rtype: str = "A") -> dict[str, Any]:
        row = rrset.row(self.checkout, ["10.96.0.10"], {})
        return explained(name, rtype, ORIGIN, "10.0.0.1", self.server.now, row, {})


@pytest.fixture
def world(server: Any, make: Any) -> World:
    return World(server, make)


def test_the_draw_that_is_explained_is_the_one_that_is_answered(world: World) -> None:
    for client in ("10.0.0.1", "10.0.0.2", "fd00::7"):
        told = world.db_told(DB, client=client)
        assert told["answers"] == world.server.data(DB, client=client)
        inside = {address for row in told["endpoints"] if row["in"] for address in row["addresses"]}
        assert inside == set(told["answers"])
        (draw,) = told["draw"]
        assert (draw["drawn"], draw["of"], draw["ttl"]) == (8, 20, 5)
        assert draw["window"][0] <= world.server.now < draw["window"][1]


def test_srv_of_pods_is_explained_by_the_pods_it_names(world: World) -> None:
    name = f"_http._tcp.{DB}"
    told = world.db_told(name, "SRV")
    assert told["answers"] == world.server.data(name, "SRV", use_edns=0)
    assert sum(row["in"] for row in told["endpoints"]) == 8


def test_every_endpoint_has_its_reason(world: World) -> None:
    rows = {row["endpoint"]: row for row in world.db_told(DB)["endpoints"]}
    assert len(rows) == 23
    assert rows["pod-10.68.0.1"]["why"].startswith("standby")
    assert "Down" in rows["pod-10.64.0.99"]["why"]
    assert rows["pod-x"]["why"] == "not ready in Kubernetes"
    assert {row["why"] for row in rows.values() if row["share"]} == {"drawn", "not drawn in this window"}
    six = world.db_told(DB, "AAAA")
    assert six["rcode"] == "NODATA"
    assert {row["why"] for row in six["endpoints"] if row["share"]} == {"it has no IPv6 address"}


def test_a_clusterset_ip_is_where_kubernetes_says(world: World) -> None:
    told = world.checkout_told(SVC)
    assert (told["rcode"], told["answers"]) == ("NOERROR", ["10.96.0.10"])
    assert "ServiceImport shop/checkout" in told["why"]
    told = world.checkout_told(f"_http._tcp.{SVC}", "SRV")
    assert told["answers"] == world.server.data(f"_http._tcp.{SVC}", "SRV")


@pytest.mark.parametrize(
    ("name", "rcode", "why"),
    [
        (f"eu-1.{DB}", "NODATA", "no record of this type"),
        (f"first.eu-1.{DB}", "NOERROR", "the same for every caller"),
        (f"second.eu-1.{DB}", "NXDOMAIN", "first.eu-1"),
        (f"_nope._tcp.{DB}", "NXDOMAIN", "_http._tcp"),
        ("clusterset.local", "NODATA", "no record of this type"),
        ("shop.clusterset.local", "NXDOMAIN", "SERVICE.NAMESPACE.svc.clusterset.local"),
        ("example.com", "REFUSED", "not below clusterset.local"),
    ],
)
def test_a_name_without_an_answer_says_why(world: World, name: str, rcode: str, why: str) -> None:
    told = world.db_told(name)
    assert (told["rcode"], world.server.rcode(name)) == (rcode, rcode)
    assert why in told["why"]


def test_what_is_not_there_is_told_apart(world: World, make: Any) -> None:
    absent = explained(DB, "A", ORIGIN, "10.0.0.1", world.server.now, None, {})
    assert (absent["rcode"], absent["why"]) == ("NXDOMAIN", "no cluster exports shop/db")
    pod = world.checkout_told(f"a.eu-1.{SVC}")
    assert (pod["rcode"], "is not headless" in pod["why"]) == ("NXDOMAIN", True)
    for ready, rcode, why in (
        (True, "NODATA", "no endpoint can serve"),
        (False, "NXDOMAIN", "no ready endpoint"),
    ):
        plans = make.plans("shop/db", ready_anywhere=ready)
        row = rrset.row(world.db, (), plans)
        told = explained(DB, "A", ORIGIN, "10.0.0.1", world.server.now, row, plans)
        assert told["rcode"] == rcode
        assert why in told["why"]


def test_which_service_a_name_speaks_of() -> None:
    assert service_of(f"_http._tcp.{DB}.", "clusterset.local.") == ("shop", "db")
    assert service_of("DB.Shop.SVC.clusterset.local", ORIGIN) == ("shop", "db")
    assert service_of("shop.svc.clusterset.local", ORIGIN) is None
    assert service_of("db.shop.svc.cluster.local", ORIGIN) is None
    with pytest.raises(ConfigError, match="not a domain name"):
        service_of("no name at all", ORIGIN)
