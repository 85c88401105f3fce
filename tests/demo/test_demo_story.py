"""The final page and what to try, in words."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import msgspec
import yaml

from isthmus.demo.forward import Door
from isthmus.demo.keep import what_to_try, write_kubeconfig
from isthmus.demo.population import DemoService
from isthmus.demo.report import AccidentReport, Failover, Quantiles, Report
from isthmus.demo.story import story

SILENT = AccidentReport(
    name="silent", requests=1_600, failed=0, moved_ms=1_300.0, settled_ms=1_250.0, dns_ms=1_340.0, bit=True,
    what="900 packets to eu-2 dropped",
)  # fmt: skip
REPORT = Report(
    requests=10_000, failed=0, by_cluster={"eu-1": 10_000}, latency_ms=Quantiles(1.6, 120.0),
    slowest_ms=1_290.0, failover_ms=Failover(1_300.0, 1_340.0), propagation_ms=Quantiles(23.0, 33.0),
    accidents=[SILENT], services=5, endpoints=33, rss_mb=350.0, queries=4_000, queries_failed=0,
    ready_s=4.0, failures=[], passed=True,
    checks={},
)  # fmt: skip


def told(report: Report, columns: int = 96) -> str:
    return " ".join(story(report, ["eu-1", "eu-2"], columns).split())


def test_the_page_tells_what_happened_and_what_callers_noticed() -> None:
    page = told(REPORT)
    assert "eu-1 and eu-2 offered 5 services on 33 endpoints" in page
    assert "fell silent: 900 packets to eu-2 dropped" in page
    assert "felt it came 1.3 s after its beginning; names led nobody there after 1.3 s" in page
    assert "latency was back after 1.2 s. None failed of 1600 requests." in page
    assert page.endswith("Callers noticed no failure. The slowest of 10000 requests took 1.3 s.")


def test_failures_are_not_talked_away() -> None:
    bad = msgspec.structs.replace(SILENT, failed=3, bit=False, settled_ms=None)
    page = told(msgspec.structs.replace(REPORT, failed=3, accidents=[bad], passed=False))
    assert "3 FAILED of 1600 requests" in page
    assert "latency did not come back" in page
    assert "Nothing shows that it did what it was meant to." in page
    assert "Callers noticed 3 failed requests of 10000" in page
    nothing = msgspec.structs.replace(REPORT, requests=0, slowest_ms=None, latency_ms=Quantiles(None, None))
    assert "nothing is proven" in told(nothing)


def test_the_page_fits_its_columns() -> None:
    for columns in (60, 96):
        assert max(map(len, story(REPORT, ["eu-1"] * 9, columns).splitlines())) <= columns


def test_what_to_try_is_made_of_commands_that_a_shell_understands(tmp_path: Path) -> None:
    doors = [
        Door(f"{kind} {name}".strip(), ("10.64.255.1", 1), ("127.0.0.1", 4_000 + n), n)
        for n, (kind, name) in enumerate(
            [
                ("api", "hub"),
                ("api", "eu-1"),
                ("dns", "eu-1"),
                ("envoy", "eu-1"),
                ("admin", "eu-1"),
                ("console", "eu-1"),
            ]
        )
    ]
    config = write_kubeconfig(doors, tmp_path)
    contexts = yaml.safe_load(config.read_text())["contexts"]
    assert [context["name"] for context in contexts] == ["hub", "eu-1"]
    front = DemoService(
        namespace="shop", name="front", headless=False, exported=True, http_port=80, ports=(80,)
    )
    lines = what_to_try(doors, config, front).splitlines()
    programs = {shlex.split(line, comments=True)[0] for line in lines if not line.startswith("#")}
    assert programs == {"export", "kubectl", "dig", "curl", sys.executable}
    assert "dig @127.0.0.1 -p 4002 front.shop.svc.clusterset.local   # eu-1" in lines
    assert "curl -H 'host: front.shop.svc.clusterset.local:80' http://127.0.0.1:4003/   # eu-1" in lines
