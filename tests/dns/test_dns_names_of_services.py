"""Which names exist and what they answer: multi-cluster DNS 1.0.0, RFC 2308, RFC 8020."""

from __future__ import annotations

from typing import Any

import pytest

SVC = "checkout.shop.svc.clusterset.local"
DB = "db.shop.svc.clusterset.local"


@pytest.fixture
def world(server: Any, make: Any) -> Any:
    """shop/checkout behind a clusterset IP; shop/db headless in two clusters, one of them `us-1.prod`."""
    ports = (make.port("http", 80), make.port("dns", 53, "UDP"), make.port("", 9000))
    server.put(make.service("shop/checkout", ports=ports), ["10.96.0.10"])
    eu = [
        make.backend("eu-1", "10.64.0.1", "fd00::1", hostname="db-0"),
        make.backend("eu-1", "10.64.0.2", "fd00::2"),
    ]
    us = [make.backend("us-1.prod", "10.66.0.1", hostname="db-0")]
    groups = [("eu-1", 6667, eu), ("us-1.prod", 3333, us)]
    whole = make.plan("shop/db", *groups)
    numbered = [
        (cluster, points, [make.backend(b.cluster, *b.addresses, hostname=b.hostname, port=5432) for b in bs])
        for cluster, points, bs in groups
    ]
    sql = make.port("sql", 5432)
    plans = {"": whole, "TCP/5432": make.plan("shop/db", *numbered, port=sql)}
    server.put(make.service("shop/db", headless=True, ports=(sql,)), [], plans)
    return server


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        (SVC, "A", "NOERROR"),
        (SVC, "AAAA", "NODATA"),
        (SVC, "TXT", "NODATA"),
        (SVC, "MX", "NODATA"),
        (SVC, "SOA", "NODATA"),
        (SVC, "NS", "NODATA"),
        (SVC, "HTTPS", "NODATA"),
        (SVC, "TYPE65280", "NODATA"),
        ("svc.clusterset.local", "A", "NODATA"),
        ("shop.svc.clusterset.local", "A", "NODATA"),
        ("shop.svc.clusterset.local", "SRV", "NODATA"),
        ("other.svc.clusterset.local", "A", "NXDOMAIN"),
        ("nope.shop.svc.clusterset.local", "A", "NXDOMAIN"),
        ("checkout.other.svc.clusterset.local", "A", "NXDOMAIN"),
        (f"_http._tcp.{SVC}", "SRV", "NOERROR"),
        (f"_http._tcp.{SVC}", "A", "NODATA"),
        (f"_http._udp.{SVC}", "SRV", "NXDOMAIN"),
        (f"_nope._tcp.{SVC}", "SRV", "NXDOMAIN"),
        (f"_tcp.{SVC}", "SRV", "NODATA"),
        (f"_sctp.{SVC}", "SRV", "NXDOMAIN"),
        (f"db-0.eu-1.{SVC}", "A", "NXDOMAIN"),
        (f"eu-1.{SVC}", "A", "NXDOMAIN"),
        (DB, "A", "NOERROR"),
        (DB, "AAAA", "NOERROR"),
        (DB, "TXT", "NODATA"),
        (f"eu-1.{DB}", "A", "NODATA"),
        (f"eu-1.{DB}", "SRV", "NODATA"),
        (f"prod.{DB}", "A", "NODATA"),
        (f"us-1.prod.{DB}", "A", "NODATA"),
        (f"db-0.eu-1.{DB}", "A", "NOERROR"),
        (f"db-0.us-1.prod.{DB}", "A", "NOERROR"),
        (f"db-0.us-1.prod.{DB}", "AAAA", "NODATA"),
        (f"db-0.eu-1.{DB}", "SRV", "NODATA"),
        (f"10-64-0-2.eu-1.{DB}", "A", "NOERROR"),
        (f"db-1.eu-1.{DB}", "A", "NXDOMAIN"),
        (f"db-0.eu-2.{DB}", "A", "NXDOMAIN"),
        (f"_sql._tcp.{DB}", "SRV", "NOERROR"),
        ("clusterset.local", "SOA", "NOERROR"),
        ("clusterset.local", "NS", "NOERROR"),
        ("clusterset.local", "A", "NODATA"),
        ("ns.dns.clusterset.local", "A", "NODATA"),
        ("dns.clusterset.local", "A", "NODATA"),
        ("dns-version.clusterset.local", "TXT", "NOERROR"),
        ("dns-version.clusterset.local", "A", "NODATA"),
        ("nope.clusterset.local", "A", "NXDOMAIN"),
        ("checkout.shop.clusterset.local", "A", "NXDOMAIN"),
        ("local", "SOA", "REFUSED"),
        (".", "NS", "REFUSED"),
        ("checkout.shop.svc.cluster.local", "A", "REFUSED"),
        ("notclusterset.local", "A", "REFUSED"),
        (f"{SVC}.example", "A", "REFUSED"),
    ],
)
def test_each_name_and_type_has_its_outcome(world: Any, name: str, rtype: str, expected: str) -> None:
    assert world.rcode(name, rtype) == expected


def test_negative_answers_carry_the_soa_and_positive_ones_do_not(world: Any) -> None:
    for name, rtype in [(SVC, "MX"), ("nope.shop.svc.clusterset.local", "A"), (f"_tcp.{SVC}", "SRV")]:
        reply = world.ask(name, rtype)
        (soa,) = reply.authority
        assert soa.name.to_text() == "clusterset.local."
        assert soa.ttl == soa[0].minimum == 5
        assert soa[0].mname.to_text() == "ns.dns.clusterset.local."
    assert not world.ask(SVC).authority
    assert not world.ask("clusterset.local", "SOA").authority


def test_refusals_are_not_authoritative_and_name_no_zone(world: Any) -> None:
    reply = world.ask("example.com")
    assert "AA" not in reply.to_text()
    assert not reply.authority


def test_a_service_answers_its_clusterset_ips_of_both_families(server: Any, make: Any) -> None:
    server.put(make.service("shop/checkout"), ["10.96.0.10", "fd96::10"])
    assert server.data(SVC) == ["10.96.0.10"]
    assert server.data(SVC, "AAAA") == ["fd96::10"]
    assert server.ask(SVC).answer[0].ttl == 5


def test_srv_of_a_clusterset_ip_service_leads_to_the_service(world: Any) -> None:
    reply = world.ask(f"_http._tcp.{SVC}", "SRV")
    assert [item.to_text() for item in reply.answer[0]] == [f"0 100 80 {SVC}."]
    assert [(rrset.name.to_text(), rrset[0].to_text()) for rrset in reply.additional] == [
        (f"{SVC}.", "10.96.0.10")
    ]
    assert world.data(f"_dns._udp.{SVC}", "SRV") == [f"0 100 53 {SVC}."]


def test_srv_of_the_bare_name_is_the_union_over_ports(world: Any) -> None:
    assert sorted(world.data(SVC, "SRV")) == sorted(f"0 100 {port} {SVC}." for port in (80, 53, 9000))


def test_one_number_under_two_protocols_is_one_srv_record_of_the_bare_name(server: Any, make: Any) -> None:
    ports = (make.port("tcp", 42), make.port("udp", 42, "UDP"))
    server.put(make.service("shop/hello", ports=ports), ["10.96.0.10"])
    assert server.data("hello.shop.svc.clusterset.local", "SRV") == [
        "0 100 42 hello.shop.svc.clusterset.local."
    ]


def test_a_headless_service_answers_all_of_a_small_set(world: Any) -> None:
    assert sorted(world.data(DB)) == ["10.64.0.1", "10.64.0.2", "10.66.0.1"]
    assert sorted(world.data(DB, "AAAA")) == ["fd00::1", "fd00::2"]


def test_srv_of_a_headless_service_names_each_pod_with_its_port(world: Any) -> None:
    expected = {
        f"0 33 5432 db-0.eu-1.{DB}.",
        f"0 33 5432 10-64-0-2.eu-1.{DB}.",
        f"0 33 5432 db-0.us-1.prod.{DB}.",
    }
    assert set(world.data(f"_sql._tcp.{DB}", "SRV")) == expected
    reply = world.ask(DB, "SRV", use_edns=0, payload=1232)
    assert {item.to_text() for item in reply.answer[0]} == expected
    extra = {(r.name.to_text(), item.to_text()) for r in reply.additional for item in r}
    assert (f"db-0.eu-1.{DB}.", "10.64.0.1") in extra
    assert (f"db-0.eu-1.{DB}.", "fd00::1") in extra
    assert len(extra) == 5


def test_a_pod_is_found_under_its_hostname_else_its_dashed_address(world: Any, make: Any) -> None:
    assert world.data(f"db-0.eu-1.{DB}") == ["10.64.0.1"]
    assert world.data(f"db-0.eu-1.{DB}", "AAAA") == ["fd00::1"]
    assert world.data(f"10-64-0-2.eu-1.{DB}", "AAAA") == ["fd00::2"]
    assert world.data(f"db-0.us-1.prod.{DB}") == ["10.66.0.1"]
    only6 = make.plans("shop/six", ("eu-1", 10_000, [make.backend("eu-1", "5678:abcd::1")]))
    world.put(make.service("shop/six", headless=True), [], only6)
    assert world.data("5678-abcd--1.eu-1.six.shop.svc.clusterset.local", "AAAA") == ["5678:abcd::1"]


def test_pods_of_one_cluster_with_one_hostname_share_a_name(server: Any, make: Any) -> None:
    pods = [
        make.backend("eu-1", "10.64.0.1", hostname="twin"),
        make.backend("eu-1", "10.64.0.2", hostname="twin"),
    ]
    server.put(make.service("shop/db", headless=True), [], make.plans("shop/db", ("eu-1", 10_000, pods)))
    assert sorted(server.data(f"twin.eu-1.{DB}")) == ["10.64.0.1", "10.64.0.2"]


def test_a_hostname_that_is_no_label_is_replaced_by_the_address(server: Any, make: Any) -> None:
    pods = [
        make.backend("eu-1", "10.64.0.1", hostname="a.b"),
        make.backend("eu-1", "10.64.0.2", hostname="x" * 64),
        make.backend("eu-1", "10.64.0.3", hostname="bad name"),
        make.backend("eu-1", "10.64.0.4", hostname="DB-4"),
    ]
    server.put(make.service("shop/db", headless=True), [], make.plans("shop/db", ("eu-1", 10_000, pods)))
    for number in (1, 2, 3):
        assert server.data(f"10-64-0-{number}.eu-1.{DB}") == [f"10.64.0.{number}"]
    assert server.data(f"db-4.eu-1.{DB}") == ["10.64.0.4"]
    assert len(server.data(DB)) == 4


def test_a_pod_name_that_would_be_too_long_is_left_out_alone(server: Any, make: Any) -> None:
    key = f"{'n' * 63}/{'s' * 63}"
    long = make.backend(f"{'c' * 63}.{'d' * 20}", "10.64.0.1", hostname="h" * 63)
    short = make.backend("eu-1", "10.64.0.2", hostname="h")
    plans = make.plans(key, ("eu-1", 10_000, [long, short]))
    server.put(make.service(key, headless=True), [], plans)
    name = f"{'s' * 63}.{'n' * 63}.svc.clusterset.local"
    assert sorted(server.data(name)) == ["10.64.0.1", "10.64.0.2"]
    assert server.data(f"h.eu-1.{name}") == ["10.64.0.2"]


def test_every_ready_pod_has_its_name_whether_drawn_or_not(server: Any, make: Any) -> None:
    plans = make.plans(
        "shop/db",
        ("eu-1", 10_000, ["10.64.0.1"]),
        standby=(make.group("us-1", 0, ["10.66.0.1"]),),
        unhealthy=(make.group("eu-1", 0, ["10.64.0.9"]),),
        draining=(make.group("eu-1", 0, ["10.64.0.8"]),),
    )
    server.put(make.service("shop/db", headless=True), [], plans)
    assert server.data(DB) == ["10.64.0.1"]
    assert server.data(f"10-66-0-1.us-1.{DB}") == ["10.66.0.1"]
    assert server.data(f"10-64-0-9.eu-1.{DB}") == ["10.64.0.9"]
    assert server.rcode(f"10-64-0-8.eu-1.{DB}") == "NXDOMAIN", "who leaves gets no new callers"


def test_an_empty_plan_is_nodata_while_kubernetes_has_a_ready_endpoint_else_nxdomain(
    server: Any, make: Any
) -> None:
    for headless in (True, False):
        service = make.service("shop/db", headless=headless)
        server.put(service, ["10.96.0.1"], make.plans("shop/db", ready_anywhere=True))
        assert server.rcode(DB) == "NODATA"
        assert server.rcode(f"_http._tcp.{DB}", "SRV") == "NODATA"
        server.put(service, ["10.96.0.1"], make.plans("shop/db", ready_anywhere=False))
        assert server.rcode(DB) == "NXDOMAIN"
        assert server.rcode(f"_http._tcp.{DB}", "SRV") == "NXDOMAIN"
        assert server.rcode("shop.svc.clusterset.local") == "NODATA"


def test_a_clusterset_ip_is_answered_whatever_the_plan(server: Any, make: Any) -> None:
    plans = make.plans("shop/checkout", answer="ClusterSetIP", ready_anywhere=False)
    server.put(make.service("shop/checkout"), ["10.96.0.10"], plans)
    assert server.data(SVC) == ["10.96.0.10"]


def test_the_schema_version_is_published(server: Any) -> None:
    reply = server.ask("dns-version.clusterset.local", "TXT")
    assert reply.answer[0].ttl == 28_800
    assert reply.answer[0][0].to_text() == '"1.0.0"'


def test_the_name_server_has_the_addresses_it_was_given(new_server: Any) -> None:
    server = new_server(addresses=("10.96.0.53", "fd96::53"))
    reply = server.ask("clusterset.local", "NS")
    assert reply.answer[0][0].to_text() == "ns.dns.clusterset.local."
    assert {rrset[0].to_text() for rrset in reply.additional} == {"10.96.0.53", "fd96::53"}
    assert server.data("ns.dns.clusterset.local", "AAAA") == ["fd96::53"]


def test_another_zone_can_be_served(new_server: Any, make: Any) -> None:
    server = new_server(origin="Mesh.Example.")
    server.put(make.service("shop/checkout"), ["10.96.0.10"])
    assert server.data("checkout.shop.svc.mesh.example") == ["10.96.0.10"]
    assert server.rcode(SVC) == "REFUSED"
