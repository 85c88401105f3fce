"""Endpoint answers: who is drawn, for how long, and what follows a change."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest

from isthmus.dns import row
from isthmus.dns.zone import Zone
from isthmus.errors import ConfigError, WireError

SVC = "checkout.shop.svc.clusterset.local"


def addresses(second: int, count: int) -> list[str]:
    return [f"10.{second}.0.{n}" for n in range(1, count + 1)]


def test_a_large_set_is_answered_by_eight_of_it(server: Any, make: Any) -> None:
    plans = make.plans("shop/checkout", ("eu-1", 10_000, addresses(64, 200)))
    server.put(make.service("shop/checkout"), ["10.96.0.10"], plans)
    seen: set[str] = set()
    for client in range(300):
        answer = server.data(SVC, client=f"10.0.0.{client}")
        assert len(set(answer)) == 8
        seen.update(answer)
    assert len(seen) == 200


def test_one_caller_gets_the_same_members_within_a_window_for_every_type(server: Any, make: Any) -> None:
    both = [make.backend("eu-1", f"10.64.0.{n}", f"fd00::{n}", hostname=f"p{n}") for n in range(1, 31)]
    numbered = [make.backend("eu-1", *b.addresses, hostname=b.hostname, port=8080) for b in both]
    plans = {
        "": make.plan("shop/db", ("eu-1", 10_000, both)),
        "TCP/80": make.plan("shop/db", ("eu-1", 10_000, numbered), port=make.http),
    }
    server.put(make.service("shop/db", headless=True), [], plans)
    name = "db.shop.svc.clusterset.local"
    draws = set()
    for _ in range(20):
        server.now += 5
        v4 = server.data(name)
        assert server.data(name) == v4
        assert [a.rpartition("::")[2] for a in server.data(name, "AAAA")] == [
            a.rpartition(".")[2] for a in v4
        ]
        targets = server.data(f"_http._tcp.{name}", "SRV", use_edns=0, payload=1232)
        assert [t.split()[3].split(".")[0] for t in targets] == [f"p{a.rpartition('.')[2]}" for a in v4]
        draws.add(tuple(v4))
    assert len(draws) > 10


def test_answers_follow_the_shares_of_each_group(server: Any, make: Any, worked_case: Any) -> None:
    """Property 8: one uniformly picked address of one answer, over distinct clients and windows."""
    plan = worked_case.plan(port=None)
    doors = make.plan("shop/checkout").doors
    row_plan = type(plan)(key=plan.key, port=None, shares=plan.shares, doors=doors, ready_anywhere=True)
    server.put(worked_case.service, ["10.96.0.10"], {"": row_plan})
    group_of = {
        address: str(group.locality)
        for group in plan.shares
        for backend in group.backends
        for address in backend.addresses
    }
    node = server.zone.find(b"\x08checkout\x04shop\x03svc\x0aclusterset\x05local\x00")
    n = 4_000
    counts = dict.fromkeys(worked_case.shares, 0)
    for client in range(n):
        records = node.records(
            1, f"10.{client >> 8}.{client & 255}.1", server.now + 5 * (client % 40)
        ).answers
        picked = records[client * 7919 % len(records)]
        counts[group_of[".".join(map(str, picked[-4:]))]] += 1
    for group, points in worked_case.shares.items():
        p = points / 10_000
        assert abs(counts[group] / n - p) <= 5 * sqrt(p * (1 - p) / n) + 0.002, (group, counts)


def test_the_time_to_live_is_the_policys_and_short_while_wavering(server: Any, make: Any) -> None:
    service = make.service("shop/checkout")
    for ttl, wavering, expected in [(5, False, 5), (30, False, 30), (30, True, 1), (0, True, 0)]:
        plans = make.plans("shop/checkout", ("eu-1", 10_000, ["10.64.0.1"]), ttl=ttl, wavering=wavering)
        server.put(service, [], plans)
        assert server.ask(SVC).answer[0].ttl == expected


def test_wavering_changes_the_time_to_live_and_not_the_draw(server: Any, make: Any) -> None:
    service = make.service("shop/checkout")
    groups = ("eu-1", 10_000, addresses(64, 50))
    server.put(service, [], make.plans("shop/checkout", groups))
    calm = server.data(SVC)
    server.put(service, [], make.plans("shop/checkout", groups, wavering=True))
    assert server.data(SVC) == calm


def test_records_of_one_answer_share_one_time_to_live(server: Any, make: Any) -> None:
    ports = (make.port("a", 80), make.port("b", 81))
    plans = make.plans("shop/db", ("eu-1", 10_000, ["10.64.0.1"]), ports=ports)
    plans["TCP/81"] = make.plan(
        "shop/db", ("eu-1", 10_000, ["10.64.0.1"]), port=ports[1], target=8081, wavering=True
    )
    server.put(make.service("shop/db", headless=True, ports=ports), [], plans)
    (srv,) = server.ask("db.shop.svc.clusterset.local", "SRV").answer
    assert (len(srv), srv.ttl) == (2, 1)


def test_srv_of_endpoint_answers_has_the_ports_that_endpoints_listen_on(server: Any, make: Any) -> None:
    pods = [
        make.backend("eu-1", "10.64.0.1", port=8080),
        make.backend("eu-1", "10.64.0.2", port=8080),
        make.backend("eu-1", "10.64.0.3", port=8080),
        make.backend("eu-1", "10.64.0.4", port=9090),
    ]
    plans = {
        "": make.plan("shop/checkout", ("eu-1", 10_000, pods)),
        "TCP/80": make.plan("shop/checkout", ("eu-1", 10_000, pods), port=make.http),
    }
    server.put(make.service("shop/checkout"), ["10.96.0.10"], plans)
    expected = {f"0 75 8080 {SVC}.", f"0 25 9090 {SVC}."}
    assert set(server.data(f"_http._tcp.{SVC}", "SRV")) == expected
    reply = server.ask(SVC, "SRV")
    assert {item.to_text() for item in reply.answer[0]} == expected
    assert len(reply.additional[0]) == 4


def test_a_family_that_no_drawn_member_has_is_answered_by_one_that_has(server: Any, make: Any) -> None:
    groups = [("eu-1", 8000, ["10.64.0.1"]), ("us-1", 2000, ["fd00::2"])]
    server.put(make.service("shop/checkout"), [], make.plans("shop/checkout", *groups))
    for client in range(50):
        assert server.data(SVC, client=f"10.0.1.{client}") == ["10.64.0.1"]
        assert server.data(SVC, "AAAA", client=f"10.0.1.{client}") == ["fd00::2"]


def test_an_address_that_two_members_share_is_answered_once(server: Any, make: Any) -> None:
    pods = [make.backend("eu-1", "10.64.0.1", name="a"), make.backend("eu-1", "10.64.0.1", name="b")]
    server.put(make.service("shop/checkout"), [], make.plans("shop/checkout", ("eu-1", 10_000, pods)))
    assert server.data(SVC) == ["10.64.0.1"]


def test_a_change_of_a_row_is_seen_and_touches_no_other_name(server: Any, make: Any) -> None:
    server.put(make.service("shop/checkout"), ["10.96.0.10"])
    server.put(make.service("shop/other"), ["10.96.0.11"])
    serial = server.zone.serial
    ports = (make.port("grpc", 81),)
    server.put(make.service("shop/checkout", ports=ports), ["10.96.0.12"])
    assert server.data(SVC) == ["10.96.0.12"]
    assert server.rcode(f"_http._tcp.{SVC}", "SRV") == "NXDOMAIN"
    assert server.rcode(f"_grpc._tcp.{SVC}", "SRV") == "NOERROR"
    assert server.data("other.shop.svc.clusterset.local") == ["10.96.0.11"]
    assert server.zone.serial > serial


def test_names_in_between_live_as_long_as_the_last_service_below(server: Any, make: Any) -> None:
    names = len(server.zone)
    for key in ("shop/a", "shop/b", "bank/c"):
        server.put(make.service(key), ["10.96.0.1"])
        server.put(make.service(key), ["10.96.0.2"])
    server.drop("shop/a")
    assert server.rcode("shop.svc.clusterset.local") == "NODATA"
    server.drop("shop/b")
    server.drop("shop/b")
    assert server.rcode("shop.svc.clusterset.local") == "NXDOMAIN"
    assert server.rcode("svc.clusterset.local") == "NODATA"
    server.drop("bank/c")
    assert server.rcode("svc.clusterset.local") == "NXDOMAIN"
    assert len(server.zone) == names


def test_a_row_holds_nothing_that_its_answers_do_not_need(make: Any) -> None:
    service = make.service("shop/checkout")
    before = make.render(service, ["10.96.0.10"], make.plans("shop/checkout", answer="ClusterSetIP"))
    groups = ("eu-1", 10_000, addresses(64, 100))
    after = make.render(service, ["10.96.0.10"], make.plans("shop/checkout", groups, answer="ClusterSetIP"))
    assert before == after


def test_a_version_changes_with_shares_and_members_alone(make: Any) -> None:
    def version(*groups: Any, **more: Any) -> bytes:
        raw = make.render(make.service("shop/checkout"), [], make.plans("shop/checkout", *groups, **more))
        drawn = row.decode(raw).draw
        assert drawn is not None
        return drawn.version

    groups = [("eu-1", 8000, ["10.64.0.1"]), ("us-1", 2000, ["10.66.0.1"])]
    assert version(*groups) == version(*groups, wavering=True, ttl=30)
    assert version(*groups) != version(("eu-1", 7000, ["10.64.0.1"]), ("us-1", 3000, ["10.66.0.1"]))
    assert version(*groups) != version(("eu-1", 8000, ["10.64.0.2"]), ("us-1", 2000, ["10.66.0.1"]))


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03", b"\x93\xa1\xff\xa1b\x05"])
def test_bytes_that_are_no_row_raise_a_wire_error(raw: bytes) -> None:
    with pytest.raises(WireError, match="not a DNS row"):
        row.decode(raw)


@pytest.mark.parametrize(
    ("groups", "members", "ports"),
    [
        (((10_000, 1),), (0,), (65_536,)),
        (((10_000, 1),), (0,), (-1,)),
        (((10_001, 1),), (0,), (80,)),
        (((6000, 1), (6000, 1)), (0, 0), (80, 80)),
        (((10_000, 2),), (0,), (80,)),
        (((10_000, 1),), (1,), (80,)),
    ],
)
def test_draws_whose_numbers_cannot_be_answered_raise_a_wire_error(
    groups: Any, members: Any, ports: Any
) -> None:
    pods = (row.Member("db-0", "eu-1", (b"\x0a\0\0\1",), ()),)
    draw = row.DrawRow(groups, members, ports, b"version", False)
    raw = row.encode(row.Row("shop", "db", 5, members=pods, ports=(row.PortRow("http", "tcp", draw=draw),)))
    with pytest.raises(WireError, match="not a DNS row"):
        row.decode(raw)


@pytest.mark.parametrize(
    "origin", ["", ".", "a..b", "x" * 64, "name with space.local", ".".join(["abcdefg"] * 40)]
)
def test_a_zone_that_is_no_name_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="domain name"):
        Zone(origin, clock=lambda: 0.0)
