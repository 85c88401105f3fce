"""Reports are drawn from the JSON result alone, stand by themselves, and say what was seen."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec

from loadtests.load.census import Count, Taken
from loadtests.load.expect import EXPECTATIONS, Finding, Seen, judge
from loadtests.load.marks import Mark
from loadtests.load.report import page, write_index, write_report
from loadtests.load.result import SCHEMA, Result, Surroundings, outlived, result
from loadtests.load.samples import Sample
from loadtests.load.scenario import find, read

CLUSTERS = ("eu-1", "eu-2", "us-1")
SURROUNDINGS = Surroundings(
    command="make load SCENARIO=cluster-silent",
    started="2031-01-01T00:00:00+00:00",
    machine="Linux x86_64",
    cores=2,
    load_average=0.5,
    versions={"isthmus": "1", "envoy": "2"},
)


def told() -> Result:
    """Ten seconds of calls at two doors, a failed one with markup in its cause among them."""
    rows = [
        Sample(n / 10, 3.0, door, "eu-1", CLUSTERS[n % 3], "<b>lost</b>" if n == 51 else "")
        for n in range(100)
        for door in ("envoy-get", "grpc")
    ]
    mark = Mark(
        name="cluster-silent",
        fault="cluster-silent",
        victims=("eu-2",),
        began=5.0,
        ended=7.0,
        undone=7.1,
        evidence="12 packets dropped",
    )
    watch = [
        Taken(at=at, roles={"control": Count(memory_mb=mb)}, other=[])
        for at, mb in ((1.0, 300.0), (3.0, 301.0))
    ]
    seen = Seen(began=0.0, ended=10.0, rows=rows, marks=[mark], watch=watch)
    scenario = read(find("cluster-silent"))
    findings = judge([EXPECTATIONS["failures"](doors=("envoy-get",))], seen)
    return result(scenario, seen, findings, CLUSTERS, SURROUNDINGS, {})


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("src", "href", "xlink:href") and tag != "a" and not str(value).startswith("#"):
                self.fetched.append(f"{tag} {value}")
            if key == "id":
                self.ids.append(str(value))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_shows_everything_and_fetches_nothing(tmp_path: Path) -> None:
    file = tmp_path / "cluster-silent.html"
    write_report(told(), file)
    page = _Page()
    page.feed(file.read_text())
    text = " ".join(" ".join(page.text).split())
    for word in (
        "FAILED",
        "12 packets dropped",
        "<b>lost</b>",
        "envoy-get",
        "grpc",
        "load average 0.5",
        "us-1 33",
        "errors/s",
        "of eu-2",
    ):
        assert word in text, word
    assert page.fetched == []
    assert len(page.ids) == len(set(page.ids)), "two plots share an id"


def test_what_failed_comes_first_with_its_reason() -> None:
    steady = msgspec.structs.replace(told(), passed=True, findings=[])
    assert "What failed" not in page(steady)
    text = page(outlived(told(), 2, "2 processes of the bed are left: sleep 9"))
    missed, _, rest = text.partition("What failed")[2].partition("What happened")
    for reason in ("1 of 100 calls failed", "2 processes of the bed are left: sleep 9"):
        assert reason in missed
        assert reason in rest


def test_the_json_keeps_its_words_and_adds_up() -> None:
    body = msgspec.json.decode(msgspec.json.encode(told()))
    assert body["schema"] == SCHEMA == 2
    assert set(body) == {
        *("schema", "scenario", "about", "passed", "seconds", "step_s", "rates", "clusters"),
        *("accidents", "findings", "doors", "memory_mb", "levels", "peers", "peer_doors", "surroundings"),
    }
    assert body["passed"] is False
    assert body["memory_mb"] == [[1.0, 300.0], [3.0, 301.0]]
    assert [door["door"] for door in body["doors"]] == [
        "envoy-get",
        "envoy-post",
        "grpc",
        "dns-udp",
        "dns-tcp",
    ]
    for door in (body["doors"][0], body["doors"][2]):
        line = door["line"]
        served = sum(sum(counts) for counts in line["served"].values())
        assert served == 99
        assert {caller: sum(counts) for caller, counts in line["failed"].items()} == {
            "eu-1": 1,
            "eu-2": 0,
            "us-1": 0,
        }
        assert (door["calls"], door["failed"]) == (100, 1)
        counts = [*line["failed"].values(), *line["served"].values()]
        assert {len(line["p99_ms"]), *map(len, counts)} == {20}


def test_the_published_table_has_the_longest_time_of_all_accidents(tmp_path: Path) -> None:
    moves = [("envoy-get", 0.8, "s"), ("envoy-get", 1.24, "s"), ("grpc", 9.0, "s")]
    findings = [
        Finding(expectation="moves", door=door, value=value, unit=unit, passed=True)
        for door, value, unit in moves
    ]
    never = Finding(expectation="stale", door="dns-udp", value=None, passed=False)
    file = tmp_path / "one.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(told(), findings=[*findings, never])))
    tool = Path(__file__).parents[2] / "tools" / "load_table.py"
    done = subprocess.run([sys.executable, tool, file], capture_output=True, text=True, check=True)
    row = "| `cluster-silent` (**failed**) | 1 of 100 | 0 of 0 | 1 of 100 | 0 of 0 | 1.2 s |  |  | never |"
    assert row in done.stdout.splitlines()
    assert "1 scenarios, 200 calls, load average 0.5 to 0.5 before each" in done.stdout


def test_the_index_names_each_scenario_with_its_failures(tmp_path: Path) -> None:
    found = told()
    (tmp_path / "cluster-silent.json").write_bytes(msgspec.json.encode(found))
    (tmp_path / "of-another-time.json").write_text("{}")
    (tmp_path / "cut.json").write_text('{"schema": 2, "scen')
    write_report(found, tmp_path / "cluster-silent.html")
    older = msgspec.structs.replace(found, scenario="older", passed=True)
    (tmp_path / "older.json").write_bytes(msgspec.json.encode(older))
    write_report(older, tmp_path / "older.html")
    write_index(tmp_path, ["cluster-silent", "broken"])
    text = (tmp_path / "index.html").read_text()
    now, _, before = text.partition("From earlier runs")
    assert "<b>broken</b>" in now
    assert "<b>broken</b>" not in before
    assert 'href="older.html"' in before
    assert "older" not in now
    assert 'href="cluster-silent.html"' in text
    assert "0 of 2 passed" in text
    assert "another" not in text
