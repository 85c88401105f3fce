"""A soak is drawn by its seed alone, brings every accident's bounds along, and tells what has grown."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from loadtests.load.census import BED, ISTHMUS, Census, Count, Taken, least, role_of, survivors, tasks_in
from loadtests.load.expect.between import Between
from loadtests.load.expect.expectation import Seen, judge
from loadtests.load.expect.leaks import Flat, Leaks
from loadtests.load.marks import Mark
from loadtests.load.result import Surroundings, outlived, result
from loadtests.load.samples import Sample
from loadtests.load.scenario import find, read
from loadtests.load.soak import FIRST_SECONDS, GAP_SECONDS, REST_SECONDS, compose, library, main


def test_a_seed_gives_the_same_soak_and_another_gives_another() -> None:
    assert compose(library(), 600, 7) == compose(library(), 600, 7)
    assert compose(library(), 600, 7)["events"] != compose(library(), 600, 8)["events"]


@pytest.mark.parametrize("minutes", [2, 30])
def test_what_is_drawn_is_a_scenario(tmp_path: Path, minutes: int) -> None:
    file = tmp_path / "soak.yaml"
    file.write_text(yaml.safe_dump(compose(library(), minutes * 60, 3)))
    scenario = read(file)
    assert len(scenario.events) >= 2 * minutes / 2
    assert scenario.seconds == minutes * 60


def test_every_accident_comes_and_accidents_of_different_scenarios_are_apart() -> None:
    events = compose(library(), 1800, 5)["events"]
    faults = {event["fault"] for body in library().values() for event in body["events"]}
    assert {event["fault"] for event in events} == faults
    ends: dict[str, float] = {}
    for event in events:
        number = event["name"].split()[0]
        others = [end for one, end in ends.items() if one != number]
        assert event["at"] >= max([end + GAP_SECONDS for end in others], default=FIRST_SECONDS) - 0.01
        ends[number] = max(ends.get(number, 0.0), event["at"] + event.get("for", 0.0))


def test_bounds_come_along_under_the_new_name() -> None:
    body = {
        "about": "one",
        "seconds": 20,
        "load": {"grpc": 1},
        "events": [{"fault": "drain", "cluster": "eu-2", "at": 5, "for": 4}],
        "expect": [{"failures": {"most": 0}}, {"returns": {"seconds": 2}}],
    }
    drawn = compose({"one": body}, 40, 1)
    assert [event["name"] for event in drawn["events"]] == ["1 drain", "2 drain"]
    assert drawn["expect"][:2] == [
        {"failures": {"most": 0, "event": "1 drain"}},
        {"failures": {"most": 0, "event": "2 drain"}},
    ]
    assert [next(iter(one)) for one in drawn["expect"][2:]] == ["between", "flat", "leaks"]
    assert drawn["expect"][2]["between"]["but"] == {}


def test_events_that_stand_apart_are_renamed_too() -> None:
    body = {
        "events": [
            {"fault": "hub-lost", "at": 1, "for": 9},
            {"fault": "cluster-refusing", "cluster": "eu-2", "at": 4, "for": 4},
        ],
        "expect": [{"failures": {"apart": ["cluster-refusing"], "most": 0}}],
    }
    (bound, *_) = compose({"one": body}, 30, 1)["expect"]
    assert bound == {"failures": {"apart": ["1 cluster-refusing"], "most": 0, "event": "1 hub-lost"}}


def test_doors_are_let_off_only_where_an_accident_has_bounds_for_them() -> None:
    body = {
        "about": "one",
        "seconds": 20,
        "load": {"grpc": 1},
        "events": [{"fault": "cluster-silent", "cluster": "eu-2", "at": 5, "for": 4}],
        "expect": [
            {"failures": {"doors": ["envoy-get"], "most": 0}},
            {"failures": {"doors": ["envoy-post"], "ratio": 0.1}},
            {"in-flight": {"doors": ["grpc"], "event": "cluster-silent", "seconds": 2}},
            {"stale": {"doors": ["dns-udp"], "seconds": 7}},
        ],
    }
    drawn = compose({"one": body}, 30, 1)
    (between,) = (one["between"] for one in drawn["expect"] if "between" in one)
    assert between["but"] == {"1 cluster-silent": ["envoy-post", "grpc"]}
    assert {"stale": {"doors": ["dns-udp"], "seconds": 7, "event": "1 cluster-silent"}} in drawn["expect"]


def test_a_failure_counts_at_any_time_where_no_accident_allows_for_it() -> None:
    mark = Mark(
        name="1 silent", fault="cluster-silent", victims=(), began=10.0, ended=20.0, undone=21.0, evidence="9"
    )
    wanted = Between(after=3.0, but={"1 silent": ("grpc",)})
    for at, door, counts in [
        (5.0, "grpc", True),
        (15.0, "grpc", False),
        (23.9, "grpc", False),
        (24.1, "grpc", True),
        (15.0, "envoy-get", True),
    ]:
        rows = [Sample(at, 2.0, door, "us-1", "eu-1", "timeout"), Sample(40.0, 2.0, door, "us-1", "eu-1")]
        (finding,) = wanted.judge(Seen(began=0.0, ended=60.0, rows=rows, marks=[mark]))
        assert finding.passed is not counts, (at, door, finding)
    (nothing,) = wanted.judge(
        Seen(began=0.0, ended=60.0, rows=[Sample(15.0, 2.0, "grpc", "", "")], marks=[mark])
    )
    assert not nothing.passed


def test_each_kind_of_accident_must_bite_once_where_they_come_by_chance() -> None:
    def drawn(name: str, fault: str, evidence: str) -> Mark:
        return Mark(name=name, fault=fault, victims=(), began=1.0, ended=2.0, undone=2.5, evidence=evidence)

    marks = [drawn("1 a", "a", "killed"), drawn("2 b", "b", ""), drawn("3 a", "a", "")]
    for by_chance, passed in ((True, [True, False, True]), (False, [True, False, False])):
        bites = judge([], Seen(began=0.0, ended=9.0, rows=[], marks=marks), by_chance=by_chance)
        assert [one.passed for one in bites] == passed
    assert (
        "another a did bite"
        in judge([], Seen(began=0.0, ended=9.0, rows=[], marks=marks), by_chance=True)[2].text
    )


def test_a_long_soak_ends_without_accidents() -> None:
    for seconds in (120.0, 1800.0):
        last = max(one["at"] + one.get("for", 0.0) for one in compose(library(), seconds, 3)["events"])
        assert last <= seconds - min(REST_SECONDS, seconds / 10)


def taken(at: float = 0.0, *, mb: float = 100.0, **other: int) -> Taken:
    """`mb` of control and `other` counts of it; all else is as always."""
    counts = {"processes": 3, "descriptors": 60, "tasks": 30, "told": 3}
    roles = {role: Count(memory_mb=1.0, **counts) for role in ISTHMUS}
    roles |= {"control": Count(memory_mb=mb, **{**counts, **other}), "apiserver": Count(memory_mb=at)}
    return Taken(at=at, roles=roles, other=[])


def seen(watch: list[Taken], rest: tuple[Taken, Taken] | None = None) -> Seen:
    return Seen(began=0.0, ended=600.0, rows=[], marks=[], watch=watch, rest=rest)


def test_memory_that_grows_beyond_its_level_is_found() -> None:
    before = [taken(at, mb=50.0) for at in range(0, 300, 2)]
    flat = [taken(at, mb=104.0 if at > 500 else 100.0) for at in range(300, 600, 2)]
    grown = [taken(at, mb=106.0 if at > 500 else 100.0) for at in range(300, 600, 2)]
    for after, passed in ((flat, True), (grown, False)):
        findings = list(Flat(percent=5.0, after=300.0).judge(seen(before + after)))
        assert [finding.passed for finding in findings] == [passed, passed, *[True] * 4], findings
    for each in flat:
        del each.roles["xds"]
    (bad,) = (finding for finding in Flat(percent=5.0, after=300.0).judge(seen(flat)) if not finding.passed)
    assert bad.text == "xds: was not seen"
    assert not list(Flat(percent=5.0, after=300.0).judge(seen([])))


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (taken(), ""),
        (taken(descriptors=73), "control: 60 descriptors became 73"),
        (taken(tasks=40), "control: 30 tasks became 40"),
        (taken(tasks=20, told=2), "control: 2 of 3 processes told their tasks"),
        (Taken(at=0.0, roles={}, other=[]), "hub: was not seen"),
        (
            Taken(at=0.0, roles=taken().roles, other=[], mute=["10.64.255.2:9470"]),
            "10.64.255.2:9470 did not tell",
        ),
        (Taken(at=0.0, roles=taken().roles, other=[], zombies=["sh"]), "nobody reaped a sh"),
        (taken(processes=4), "control: 3 processes became 4"),
        (taken(processes=2), "control: 3 processes became 2"),
        (Taken(at=0.0, roles=taken().roles, other=["sleep 9"]), "still there: sleep 9"),
        (Taken(at=0.0, roles=taken().roles, other=[], rules=2), "2 rules that drop packets"),
        (
            Taken(at=0.0, roles={**taken().roles, "callers": Count(processes=1)}, other=[]),
            "callers: 0 processes became 1",
        ),
    ],
)
def test_what_is_left_over_is_found(after: Taken, said: str) -> None:
    (finding,) = Leaks().judge(seen([], (taken(), after)))
    assert finding.passed is not bool(said)
    assert said in finding.text
    assert not list(Leaks().judge(seen([])))


def test_processes_are_told_by_what_they_run() -> None:
    assert role_of("python\0-m\0isthmus.agent.worker\0/f/settings.json\0dns\x000\0") == "dns"
    assert role_of("python\0-m\0isthmus.agent.control\0/f/settings.json\0") == "control"
    assert role_of("python\0-m\0isthmus.agent.supervisor\0/f/settings.json\0") == "supervisor"
    assert role_of("python\0-m\0isthmus\0run\0agent\0--cluster\0eu-1\0") == "supervisor"
    assert role_of("/x/envoy\0-c\0/f/envoy-static-eu-1.json\0") == "envoy-static"
    assert role_of("/x/envoy\0-c\0/f/envoy-eu-1.json\0") == "envoy"
    assert role_of("sleep\x009\0") == ""


def test_who_outlives_its_bed_is_found(tmp_path: Path) -> None:
    assert survivors(str(tmp_path)) == []
    command = ["sh", "-c", "echo here; read line", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # a program that has only just been started has no command line yet
        (left,) = survivors(str(tmp_path))
        assert left.startswith("sh -c echo here; read line /")


def test_who_does_not_name_its_bed_is_known_by_its_environment(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo here; read line"]
    environ = {**os.environ, BED: str(tmp_path)}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert survivors(str(tmp_path)) == [" ".join(command)]


def test_who_has_ended_and_is_not_waited_for_is_counted(tmp_path: Path) -> None:
    def zombies() -> int:
        return asyncio.run(Census([]).take()).zombies.count(program.name)

    program = tmp_path / f"gone-{os.getpid()}"  # others on this machine have zombies, too
    program.symlink_to(shutil.which("true") or "/bin/true")
    with subprocess.Popen([str(program)]):
        while not zombies():
            pass
        assert zombies() == 1
    assert not zombies()


def test_the_least_of_several_censuses_is_how_it_is_at_rest() -> None:
    some = [taken(1.0, descriptors=60, tasks=40), taken(2.0, descriptors=55, tasks=30), taken(3.0, tasks=35)]
    rest = least(some)
    assert (rest.at, rest.roles["control"].descriptors, rest.roles["control"].tasks) == (3.0, 55, 30)
    silent = [taken(1.0, tasks=10, told=1), taken(2.0)]
    assert least(silent).roles["control"].tasks == 30


def test_a_bed_that_does_not_end_fails_its_report_too() -> None:
    around = Surroundings(command="", started="", machine="", cores=2, load_average=0.0, versions={})
    told = result(read(find("steady")), seen([]), [], (), around, {})
    assert told.passed
    after = outlived(told, 2, "2 processes of the bed are left: sleep 9")
    assert not after.passed
    assert [(f.expectation, f.value, f.passed) for f in after.findings] == [("ends", 2.0, False)]


def test_tasks_are_read_from_a_page_of_metrics() -> None:
    lines = ['isthmus_process_tasks{process="control"} 41.0', 'isthmus_process_tasks{process="dns-0"} 7.0']
    page = "\n".join(["# HELP isthmus_process_tasks x", *lines]).encode()
    assert list(tasks_in(page)) == [("control", 41), ("dns", 7)]


def test_a_soak_of_no_length_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0"]) == 2
    assert "soak: --minutes 0 is not from 1 to 60" in capfd.readouterr().err
