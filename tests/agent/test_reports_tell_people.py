"""Health reports: what the probes say, told late and never often."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.agent import reports as reporting
from isthmus.agent.reports import PACE, Reports
from isthmus.api.hub import HealthReport
from isthmus.flow import Table, Writer
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, EndpointId, ServiceKey

EU = ClusterId("eu-1")
edits = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["eu-1", "us-1"]),
    st.integers(0, 2),
    st.one_of(st.none(), st.builds(Verdict, up=st.sampled_from([True, False, None]), wavering=st.booleans())),
)


def key(service: int, cluster: str, endpoint: int) -> CheckKey:
    return CheckKey(ServiceKey("shop", f"s{service}"), cluster, EndpointId(str(endpoint)), "TCP/80")


def health() -> tuple[Table[CheckKey, Verdict], Writer[CheckKey, Verdict]]:
    table: Table[CheckKey, Verdict] = Table("health")
    writer = table.partition("prober")
    writer.replace({})
    return table, writer


def told(reports: Reports) -> dict[str, Any]:
    return {row["spec"]["service"]["name"]: row["spec"] for _, row in reports.desired.items()}


@given(st.lists(st.one_of(edits, st.none()), max_size=60))
def test_what_is_told_in_the_end_is_what_a_scan_says(plan: list[Any]) -> None:
    table, writer = health()
    reports = Reports(EU, table, clock=lambda: 0.0)
    for edit in plan:
        if edit is None:
            reports.renew()
            assert reports.complete
            continue
        *name, verdict = edit
        writer.drop(key(*name)) if verdict is None else writer.put(key(*name), verdict)
    reports.renew()
    expected: dict[str, dict[str, list[int]]] = {}
    for check, verdict in table.items():
        counts = expected.setdefault(check.service.name, {}).setdefault(check.cluster, [0, 0, 0])
        counts[[True, False, None].index(verdict.up)] += 1
    found = {
        name: {one["cluster"]: [one["up"], one["down"], one["unknown"]] for one in spec["sources"]}
        for name, spec in told(reports).items()
    }
    assert found == expected


def test_so_many_at_once_and_trouble_first() -> None:
    table, writer = health()
    reports = Reports(EU, table)
    for service in range(3 * PACE):
        writer.put(key(service, "us-1", 0), Verdict(up=True))
    writer.put(key(3 * PACE, "us-1", 0), Verdict(up=False))
    assert not reports.complete
    reports.renew()
    assert len(reports.desired) == PACE
    assert f"s{3 * PACE}" in told(reports)
    for _ in range(3):
        reports.renew()
    assert len(reports.desired) == 3 * PACE + 1
    assert reports.complete


def test_what_an_earlier_process_told_and_what_still_holds_is_not_told_again() -> None:
    table, writer = health()
    for service in range(3 * PACE):
        writer.put(key(service, "us-1", 0), Verdict(up=True))
    earlier = Reports(EU, table, clock=lambda: 1_000.0)
    for _ in range(3):
        earlier.renew()
    on_the_hub = dict(earlier.desired.items())
    assert len(on_the_hub) == 3 * PACE
    writer.put(key(7, "us-1", 0), Verdict(up=False))
    stored: list[HealthReport] | None = None
    later = Reports(EU, table, stored=lambda: stored, clock=lambda: 2_000.0)
    later.renew()
    assert not len(later.desired)
    assert not later.complete, "nothing is too many while it is not known what is there"
    stored = [msgspec.convert(row, HealthReport) for row in on_the_hub.values()]
    later.renew()
    changed = [ref for ref, row in later.desired.items() if row != on_the_hub[ref]]
    assert [ref.name for ref in changed] == ["s7.shop"]
    assert later.complete


def test_what_changes_no_count_is_not_told_again() -> None:
    now = 0.0
    table, writer = health()
    reports = Reports(EU, table, clock=lambda: now)
    writer.put(key(0, "us-1", 0), Verdict(up=True))
    reports.renew()
    now = 10.0
    writer.put(key(0, "us-1", 0), Verdict(up=True, wavering=True))
    reports.renew()
    assert told(reports)["s0"]["observedAt"].startswith("1970-01-01T00:00:00")


def test_a_service_that_is_no_longer_checked_has_no_report() -> None:
    table, writer = health()
    reports = Reports(EU, table)
    writer.put(key(0, "us-1", 0), Verdict(up=None))
    reports.renew()
    assert told(reports)["s0"]["sources"] == [{"cluster": "us-1", "up": 0, "down": 0, "unknown": 1}]
    writer.drop(key(0, "us-1", 0))
    assert told(reports) == {}


def test_a_cluster_that_leaves_takes_its_reports_back_and_one_that_returns_tells_again() -> None:
    table, writer = health()
    leaves = False
    reports = Reports(EU, table, silent=lambda: leaves)
    writer.put(key(0, "us-1", 0), Verdict(up=True))
    reports.renew()
    leaves = True
    assert not reports.withdraw()
    writer.put(key(0, "us-1", 1), Verdict(up=True))
    reports.renew()
    assert told(reports) == {}
    assert reports.withdraw()
    assert reports.complete
    leaves = False
    assert not reports.complete
    reports.renew()
    assert told(reports)["s0"]["sources"] == [{"cluster": "us-1", "up": 2, "down": 0, "unknown": 0}]


def test_who_found_no_room_is_told_when_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MOST", 2)
    table, writer = health()
    reports = Reports(EU, table)
    for service in range(3):
        writer.put(key(service, "us-1", 0), Verdict(up=True))
    reports.renew()
    assert set(told(reports)) == {"s0", "s1"}
    assert reports.complete  # no other report is to stay
    writer.drop(key(0, "us-1", 0))
    assert not reports.complete
    reports.renew()
    assert set(told(reports)) == {"s1", "s2"}
    assert reports.complete


def test_services_that_change_all_the_time_keep_nobody_from_being_told() -> None:
    table, writer = health()
    reports = Reports(EU, table)
    for service in range(3 * PACE):
        writer.put(key(service, "us-1", 0), Verdict(up=False))
    writer.put(key(3 * PACE, "us-1", 0), Verdict(up=True))
    for turn in range(12):
        reports.renew()
        for service in range(3 * PACE):
            writer.put(key(service, "us-1", 1), Verdict(up=bool(turn % 2)))
    assert f"s{3 * PACE}" in told(reports)
    assert reports.complete  # reports of services that are checked no more may be deleted


def test_a_cluster_that_leaves_right_after_a_start_may_delete_at_once() -> None:
    table, _writer = health()
    leaves = False
    reports = Reports(EU, table, silent=lambda: leaves)
    assert not reports.complete
    leaves = True
    assert reports.complete
