"""`isthmus dns`: the block for a cluster's own DNS, and why a name answers as it does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from console_tables import KEY, PLACES, plan, service, sources, table

from isthmus.cli import planview
from isthmus.console import views
from isthmus.dns import rrset
from isthmus.model.plan import Plan
from isthmus.model.policy import DoorSettings

Isthmus = Callable[..., Awaitable[Any]]
NAME = "checkout.shop.svc.clusterset.local"


def whole(answer: Any) -> Plan:
    """The plan of the service as a whole, at the vantage that DNS answers for."""
    made = plan()
    return replace(
        made, key=made.key._replace(port=""), port=None, doors=DoorSettings(dns_answer=answer, dns_ttl=7)
    )


def rows(*plans: Plan) -> Any:
    return table("plans", {one.key: one for one in plans})


async def test_an_answer_is_explained_with_its_draw_and_each_endpoint(isthmus: Isthmus, console: Any) -> None:
    held = await console(plans=rows(whole("Endpoints"), plan()))
    ran = await isthmus("dns", "explain", NAME, "--from", "10.0.0.1", "--agent", held.url)
    assert (ran.code, ran.err) == (0, "")
    assert f"{NAME}. A in eu-1, asked by 10.0.0.1: NOERROR" in ran.out
    assert "Draw: 1 of 1, TTL 7 s" in ran.out
    assert "not ready in Kubernetes" in ran.out
    ran = await isthmus("dns", "explain", NAME, "-o", "json", "--agent", held.url)
    (item,) = json.loads(ran.out)["items"]
    assert item["answers"] == ["10.64.0.1"]
    assert [(row["endpoint"], row["in"]) for row in item["endpoints"]] == [("a", True), ("b", False)]


async def test_a_clusterset_ip_and_names_that_are_not_there_are_explained(
    isthmus: Isthmus, console: Any
) -> None:
    held = await console(plans=rows(whole("ClusterSetIP"), plan()))
    for arguments, rcode, why in (
        ([NAME], "NOERROR", "the clusterset IP of the caller's cluster"),
        ([f"_http._tcp.{NAME}", "--type", "srv"], "NOERROR", f"0 100 80 {NAME}."),
        ([f"eu-1.{NAME}"], "NXDOMAIN", "not headless"),
        (["nope.shop.svc.clusterset.local"], "NXDOMAIN", "no cluster exports shop/nope"),
        (["example.com"], "REFUSED", "not below clusterset.local"),
    ):
        ran = await isthmus("dns", "explain", *arguments, "--agent", held.url)
        assert (ran.code, ran.err) == (0, "")
        assert f": {rcode}\n" in ran.out
        assert why in ran.out


async def test_a_caller_in_a_zone_is_told_what_its_zone_is_told(isthmus: Isthmus, console: Any) -> None:
    everywhere, near = whole("Endpoints"), whole("Endpoints")
    group = near.shares[0]
    backend = msgspec.structs.replace(group.backends[0], id="z", addresses=("10.64.0.9",))
    near = replace(
        near,
        key=near.key._replace(vantage=PLACES[1]),
        shares=(replace(group, backends=(backend,)),),
    )
    held = await console(plans=rows(everywhere, near))
    for client, answer, why in (
        ("10.0.1.1", "10.64.0.9", "Caller: zone a: 10.0.1.1 is that of Node n1.\n"),
        ("10.0.0.1", "10.64.0.1", "Caller: zone unknown: no Node has this address.\n"),
    ):
        ran = await isthmus("dns", "explain", NAME, "--from", client, "--agent", held.url)
        assert (ran.code, ran.err) == (0, "")
        assert (f"\n  {answer}\n" in ran.out, why in ran.out) == (True, True)
    held = await console(plans=rows(everywhere))
    ran = await isthmus("dns", "explain", NAME, "--from", "10.0.1.1", "-o", "json", "--agent", held.url)
    (item,) = json.loads(ran.out)["items"]
    assert (item["zone"], item["answers"]) == ("a", ["10.64.0.1"]), "no zone is told apart there"


async def test_wrong_use_of_explain_is_told(isthmus: Isthmus, console: Any) -> None:
    held = await console()
    ran = await isthmus("dns", "explain", "no name", "--agent", held.url)
    assert (ran.code, "not a domain name" in ran.err) == (2, True)
    ran = await isthmus("dns", "explain", NAME, "--from", "me", "--agent", held.url)
    assert (ran.code, "me: not an address" in ran.err) == (2, True)


@pytest.mark.parametrize("answer", ["ClusterSetIP", "Endpoints"])
def test_a_plan_that_went_through_the_console_gives_the_same_row(answer: str) -> None:
    held = {"": whole(answer), "TCP/80": plan()}
    view = views.plans(sources(plans=rows(*held.values())), KEY, views.Page(limit=10, offset=0))
    told = {one["port"]: planview.plan(one, service(KEY)) for one in view["items"]}
    assert rrset.row(service(KEY), (), told) == rrset.row(service(KEY), (), held)


async def test_the_block_for_coredns_forwards_the_zone(isthmus: Isthmus) -> None:
    servers = ["--server", "10.96.0.53", "--server", "[fd00::53]:5353", "--server", "fd00::54"]
    ran = await isthmus("dns", "corefile", *servers)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("clusterset.local:53 {\n")
    assert "forward . 10.96.0.53:53 [fd00::53]:5353 [fd00::54]:53 {" in ran.out
    assert "bind" not in ran.out
    assert ran.out.count("{") == ran.out.count("}")


async def test_the_block_for_a_node_local_cache_listens_where_the_cache_does(isthmus: Isthmus) -> None:
    ran = await isthmus(
        "dns", "corefile", "--server", "10.96.0.53", "--for", "nodelocal", "--zone", "mesh.test"
    )
    assert ran.out.startswith("mesh.test:53 {\n")
    assert "bind 169.254.20.10\n" in ran.out
    more = ["--bind", "169.254.20.11", "--bind", "10.96.0.10"]
    ran = await isthmus("dns", "corefile", "--server", "10.96.0.53", "--for", "nodelocal", *more)
    assert "bind 169.254.20.11 10.96.0.10\n" in ran.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--server", "dns.example"], "not an address"),
        (["--server", "10.96.0.53:0"], "port '0'"),
        (["--server", "10.96.0.53:x"], "port 'x'"),
        (["--server", "10.96.0.53", "--zone", "a b"], "not a domain name"),
        (["--server", "10.96.0.53", "--bind", "10.0.0.1"], "--for nodelocal"),
    ],
)
async def test_a_block_that_could_not_work_is_refused(
    isthmus: Isthmus, arguments: list[str], told: str
) -> None:
    ran = await isthmus("dns", "corefile", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
