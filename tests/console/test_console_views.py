"""What the views say."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
from console_tables import FAR, KEY, OWN, broken, plan, service, sources, table
from hypothesis import given
from hypothesis import strategies as st

from isthmus import __version__
from isthmus.console import views
from isthmus.console.explanation import explanation
from isthmus.console.views import Page
from isthmus.model.names import ServiceKey
from isthmus.model.plan import PlanKey
from isthmus.model.refusal import Refused, RefusedOffer

ALL = Page()


async def test_every_view_is_plain_json() -> None:
    made = sources(tables=(broken(),))
    for view in (
        views.status(made),
        views.services(made, ALL),
        views.service(made, KEY),
        views.plans(made, KEY, ALL),
        views.clusters(made, ALL),
        views.health(made, ALL),
    ):
        assert json.loads(msgspec.json.encode(view)) == view


async def test_status_names_what_is_missing_stale_or_broken() -> None:
    late, ill = table("late", None), table("ill", {1: 1})
    ill._writers["test"].stale(12.5)
    view = views.status(sources(required=(late,), tables=(ill, broken())))
    assert view["version"] == __version__
    assert view["cluster"] == OWN
    assert view["ready"] is False
    assert view["notReady"] == ["late is not complete"]
    assert view["tables"]["late"] == {"rows": 0, "synced": False}
    assert view["tables"]["ill"] == {"rows": 1, "synced": True, "stale": {"test": 12.5}}
    failure = {"key": "k", "error": "ZeroDivisionError: k", "count": 1}
    assert view["tables"]["broken"]["failures"] == {"total": 1, "items": [failure]}


def test_services_are_listed_in_order_with_what_matters() -> None:
    view = views.services(sources(), ALL)
    assert [(row["namespace"], row["name"]) for row in view["items"]] == [("a", "b"), ("shop", "checkout")]
    assert view["items"][1] == {
        "namespace": "shop",
        "name": "checkout",
        "type": "ClusterSetIP",
        "ports": [{"id": "TCP/80", "name": "http", "appProtocol": ""}],
        "clusters": [OWN, FAR],
        "endpoints": 2,
        "conflicts": ["TypeConflict"],
        "refusals": [],
    }


def test_a_service_is_shown_with_exports_endpoints_and_their_verdicts() -> None:
    view = views.service(sources(), KEY)
    assert view is not None
    assert [export["cluster"] for export in view["exports"]] == [OWN, FAR]
    assert view["conflicts"] == [{"reason": "TypeConflict", "message": "they differ"}]
    healthy, dead = view["endpoints"]
    assert (healthy["id"], healthy["health"]) == ("a", {})
    assert dead["id"] == "b"
    assert dead["health"]["TCP/80"]["up"] is False
    assert dead["health"]["TCP/80"]["reason"] == "refused"


def test_an_import_that_somebody_else_holds_is_told_with_its_service() -> None:
    held = replace(sources(), held=lambda key: "other-mcs" if key == KEY else "")
    lines = views.services(held, ALL)["items"]
    assert [line["name"] for line in lines if line.get("heldBy") == "other-mcs"] == [KEY.name]
    one = views.service(held, KEY)
    assert one is not None
    assert one["heldBy"] == "other-mcs"


def test_an_export_that_was_refused_says_why() -> None:
    assert views.service(sources(), ServiceKey("shop", "bad")) == {
        "namespace": "shop",
        "name": "bad",
        "withheld": [],
        "refusals": [],
        "refused": {"reason": "NoService", "message": "no such"},
    }


def test_what_neighbours_say_and_is_not_believed_stands_in_every_view() -> None:
    bad = Refused(reason="ForbiddenAddress", message="is loopback", count=2)
    held = sources(
        refused=lambda: {FAR: {"endpoints": {"ForbiddenAddress": 4}}},
        refused_of=lambda _key: [RefusedOffer(FAR, "endpoints", bad), RefusedOffer(FAR, "endpoints", bad)],
    )
    row = {
        "cluster": FAR,
        "what": "endpoints",
        "reason": "ForbiddenAddress",
        "message": "is loopback",
        "count": 4,
    }
    assert views.services(held, ALL)["items"][1]["refusals"] == [row]
    own, far = views.clusters(held, ALL)["items"]
    assert (own["refused"], far["refused"]) == ({}, {"endpoints": {"ForbiddenAddress": 4}})
    explained = explanation(held, KEY)
    assert isinstance(explained, dict)
    assert explained["refusals"] == [row]
    # A service that nobody's good export speaks of still says why there is none.
    nothing = views.service(held, ServiceKey("shop", "nowhere"))
    assert nothing is not None
    assert nothing["refusals"] == [row]
    assert views.service(sources(), ServiceKey("shop", "nobody")) is None


def test_the_plans_of_a_service_are_its_own() -> None:
    other = PlanKey(ServiceKey("a", "b"), "", plan().key.vantage)
    made = sources(plans=table("plans", {plan().key: plan(), other: plan()}))
    view = views.plans(made, KEY, ALL)
    assert view["total"] == 1
    (row,) = view["items"]
    assert row["vantage"] == {"region": "eu", "zone": "", "cluster": OWN}
    assert row["shares"][0]["basisPoints"] == 10_000
    assert row["shares"][0]["backends"] == [{"id": "a", "addresses": ["10.64.0.1"], "port": 8080}]
    assert row["leftOut"] == [{"cluster": FAR, "endpoint": "b", "reason": "not ready in Kubernetes"}]


def test_clusters_say_who_is_unknown_and_which_is_this_one() -> None:
    own, far = views.clusters(sources(), ALL)["items"]
    assert (own["id"], own["own"], own["unknown"], own["services"]) == (OWN, True, False, 2)
    assert (far["id"], far["own"], far["unknown"], far["services"]) == (FAR, False, True, 2)


def test_health_can_be_asked_of_one_service() -> None:
    made = sources()
    assert views.health(made, ALL)["total"] == 1
    assert views.health(made, ALL, KEY)["items"][0]["service"] == "shop/checkout"
    assert views.health(made, ALL, ServiceKey("a", "b"))["items"] == []


def test_health_can_be_asked_by_verdict_and_is_counted() -> None:
    made = sources()
    assert views.health(made, ALL, ups=frozenset({False}))["total"] == 1
    assert views.health(made, ALL, ups=frozenset({True, None}))["total"] == 0
    assert views.status(made)["checks"] == {"up": 0, "down": 1, "unknown": 0}


@given(st.integers(0, 20), st.integers(0, 25), st.integers(1, 25))
def test_pages_together_hold_everything_once(count: int, offset: int, limit: int) -> None:
    keys = [ServiceKey("ns", f"{n:02}") for n in range(count)]
    made = sources(services=table("services", {key: service(key) for key in reversed(keys)}))
    page = views.services(made, Page(limit=limit, offset=offset))
    assert page["total"] == count
    assert [row["name"] for row in page["items"]] == [key.name for key in keys[offset : offset + limit]]
