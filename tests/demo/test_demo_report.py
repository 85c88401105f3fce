"""The judgement: what counts, what failed, and whether accidents were seen to bite."""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.demo.load import Query, Request
from isthmus.demo.report import Accident, Death, Report, judge, quantiles, table

AUTHORITY = "front.shop.svc.clusterset.local:80"


def request(
    at: float, caller: str = "eu-1", cluster: str = "eu-2", ms: float = 2.0, status: int = 200
) -> Request:
    return Request(at, ms, caller, AUTHORITY, status, cluster if status == 200 else "", "")


def query(at: float, *addresses: str, code: int = 0) -> Query:
    return Query(at, 1.0, "eu-1", "front.shop.svc.clusterset.local", code, addresses)


def accident(name: str = "silent", victim: str = "eu-2", *, evidence: bool = True) -> Accident:
    """From second 10 to second 19."""
    return Accident(name=name, victim=victim, began=10.0, ended=19.0, evidence=evidence, what="dropped")


def report(requests: list[Request], **more: Any) -> Report:
    given: dict[str, Any] = {
        "queries": [],
        "accidents": [],
        "deaths": [],
        "owner": lambda address: {"65": "eu-2"}.get(address.split(".")[1], "eu-1"),
        "propagation": [],
        "services": 1,
        "endpoints": 2,
        "rss_mb": 1.0,
        "ready_s": 3.0,
    }
    return judge(requests=requests, **(given | more))


MOVED = [request(8.0), request(9.0), request(10.1, ms=600.0, cluster="eu-1"), request(17.0, cluster="eu-1")]


def test_traffic_that_moves_away_without_a_failure_passes() -> None:
    found = report(MOVED, accidents=[accident()])
    assert found.passed
    assert found.accidents[0].bit
    assert (found.requests, found.failed, found.by_cluster) == (4, 0, {"eu-1": 2, "eu-2": 2})
    assert found.accidents[0].moved_ms == found.failover_ms.envoy == 100.0


def test_one_failure_fails_the_demo_and_is_told_with_its_moment() -> None:
    found = report([*MOVED, request(11.5, status=503)], accidents=[accident()])
    assert not found.passed
    assert (found.failed, found.accidents[0].failed) == (1, 1)
    assert found.failures == [f"eu-1 asked {AUTHORITY}: HTTP 503, 1.5 s into 'silent'"]
    assert "FAILED" in table(found)


def test_a_dead_clusters_own_callers_are_not_counted() -> None:
    lost = [request(9.99, caller="eu-2", ms=5000.0, status=0), request(18.9, caller="eu-2", status=0)]
    dead = [Death(cluster="eu-2", began=10.0, ended=20.0)]
    assert report([*MOVED, *lost], accidents=[accident()], deaths=dead).passed
    assert not report([*MOVED, *lost], accidents=[accident()]).passed
    alive_again = request(20.5, caller="eu-2", status=0)
    assert not report([*MOVED, alive_again], accidents=[accident()], deaths=dead).passed


def test_an_accident_that_nobody_felt_does_not_pass() -> None:
    never_there = [request(at, cluster="eu-1") for at in (8.0, 9.0, 11.0, 17.0)]
    assert not report(never_there, accidents=[accident()]).passed
    still_there = [request(at) for at in (8.0, 9.0, 11.0, 17.0)]
    assert not report(still_there, accidents=[accident()]).passed
    assert not report(MOVED, accidents=[accident(evidence=False)]).passed


def test_an_accident_without_a_victim_needs_requests_and_evidence() -> None:
    killed = accident("killed", "")
    assert report([request(11.0)], accidents=[killed]).passed
    assert not report([request(9.0)], accidents=[killed]).passed


def test_a_dead_address_in_dns_is_timed_and_an_empty_answer_is_a_failure() -> None:
    answers = [query(9.0, "10.65.1.0"), query(11.2, "10.64.1.0", "10.65.1.0"), query(12.0, "10.64.1.0")]
    found = report(MOVED, queries=answers, accidents=[accident()])
    assert found.passed
    assert found.failover_ms.dns == 1201.0
    for bad in (query(12.0), query(12.0, code=2), query(12.0, code=-1)):
        assert not report(MOVED, queries=[*answers, bad], accidents=[accident()]).passed


def test_nothing_asked_is_not_a_pass() -> None:
    assert not report([]).passed


def test_quantiles_are_nearest_rank() -> None:
    assert quantiles([]).p50 is None
    assert (quantiles([3.0]).p50, quantiles([3.0]).p99) == (3.0, 3.0)
    hundred = [float(n) for n in range(1, 101)]
    assert (quantiles(hundred).p50, quantiles(hundred).p99) == (50.0, 99.0)


def test_the_table_names_every_accident() -> None:
    text = table(report(MOVED, accidents=[accident(), accident("drained")]))
    assert "silent" in text
    assert "drained" in text
    assert "passed" in text


def test_what_was_checked_is_told_by_protocol() -> None:
    found = report(MOVED, checks={"GRPC": 3, "HTTPS": 2, "TCP": 24})
    assert msgspec.to_builtins(found)["checks"] == {"GRPC": 3, "HTTPS": 2, "TCP": 24}
    assert "endpoints that one agent found well: 3 by GRPC, 2 by HTTPS, 24 by TCP" in table(found)
