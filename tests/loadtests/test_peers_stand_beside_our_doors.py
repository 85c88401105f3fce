"""Peers' callers do as ours, stand beside them in the report, change no verdict; a missing peer is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml
from calling import place

from isthmus.errors import ConfigError
from loadtests.load.census import Count, Taken
from loadtests.load.comparison import Felt, felt
from loadtests.load.doors import DOORS, OURS, Program
from loadtests.load.errand import Errand
from loadtests.load.expect import Seen, judge
from loadtests.load.expect.failures import Failures
from loadtests.load.marks import Mark
from loadtests.load.peers import PEERS
from loadtests.load.play import rates_with
from loadtests.load.report import page
from loadtests.load.result import Result, Surroundings, result
from loadtests.load.samples import Sample
from loadtests.load.scenario import find, read

CLUSTERS = ("eu-1", "eu-2", "us-1")
MARK = Mark(
    name="silent", fault="cluster-silent", victims=("eu-2",), began=5.0, ended=15.0, undone=15.1, evidence="9"
)


def calls(door: str, *, until: float) -> list[Sample]:
    """Ten a second for 20 s; a third goes to eu-2 and fails there from the fault's beginning `until` then."""
    rows = []
    for number in range(200):
        at = number / 10
        lost = number % 3 == 1 and MARK.began <= at < until
        there = number % 3 == 1 and not until <= at < MARK.ended
        cluster = "eu-2" if there else "eu-1"
        rows.append(Sample(at, 2.0, door, "us-1", cluster, "timeout" if lost else ""))
    return rows


def seen() -> Seen:
    return Seen(
        began=0.0,
        ended=20.0,
        rows=calls("envoy-get", until=6.0),
        others=calls("envoy-static", until=15.0),
        marks=[MARK],
        watch=[
            Taken(at=at, roles={"envoy": Count(cpu_s=at), "envoy-static": Count(cpu_s=2 * at)}, other=[])
            for at in (1.0, 3.0)
        ],
    )


def told() -> Result:
    around = Surroundings(command="", started="", machine="", cores=2, load_average=0.0, versions={})
    missing = {"envoy-static": "", "coredns-static": "there is no coredns: put one on PATH"}
    return result(read(find("beside-peers")), seen(), [], CLUSTERS, around, missing)


def test_what_callers_felt_is_told_of_both() -> None:
    ours, theirs = felt([*seen().rows, *seen().others], [MARK], "envoy-static")
    assert ours == Felt(event="silent", door="envoy-get", calls=100, failed=3, moved_s=ours.moved_s)
    assert ours.moved_s is not None
    assert 0.5 < ours.moved_s < 1.1
    assert (theirs.door, theirs.failed, theirs.moved_s) == ("envoy-static", 33, None)


def test_no_expectation_is_about_a_peer() -> None:
    findings = judge([Failures(most=3)], seen())
    assert [finding.door for finding in findings] == ["", "envoy-get"]
    assert all(finding.passed for finding in findings)


def test_a_peer_that_is_missing_is_shown_as_left_out() -> None:
    beside = {peer.peer: peer for peer in told().peers}
    assert beside["envoy-static"].cpu_s == (4.0, 2.0, 0.0)
    assert beside["coredns-static"].felt == []
    assert [door.door for door in told().peer_doors] == ["envoy-static"]
    text = page(msgspec.json.decode(msgspec.json.encode(told()), type=Result))
    assert "left out: there is no coredns: put one on PATH" in text
    assert "not while it lasted" in text


def test_a_peer_has_the_rate_of_the_door_that_it_stands_beside() -> None:
    assert rates_with({"envoy-get": 60.0, "grpc": 5.0}, ["envoy-tuned"]) == {
        "envoy-get": 60.0,
        "grpc": 5.0,
        "envoy-tuned": 60.0,
    }
    assert {DOORS[name].beside for name in PEERS} <= set(OURS)
    for name, peer in PEERS.items():
        assert DOORS[name].beside != ""
        assert peer.about
        # Its callers ask for what those at our door ask for.
        assert DOORS[name].service == DOORS[DOORS[name].beside].service
        assert peer.service == ("shop", DOORS[name].service.partition(".")[0])


@pytest.mark.parametrize("program", ["http", "dns"])
def test_callers_of_all_doors_of_a_program_start_in_one_process(tmp_path: Path, program: Program) -> None:
    peers = dict.fromkeys(PEERS, ("127.0.0.1", 2))
    places = tuple(msgspec.structs.replace(place(), cluster=cluster, peers=peers) for cluster in CLUSTERS)
    rates = {door.name: 1.0 for door in DOORS.values() if door.program == program}
    errand = tmp_path / "errand.json"
    errand.write_bytes(msgspec.json.encode(Errand(program=program, places=places, rates=rates)))
    command = [sys.executable, "-m", f"loadtests.load.callers.{program}", str(errand)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], input=b"", capture_output=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, [b"ready"]), done.stderr.decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"peers": ["envoy-statik"]},
            "peers[0]: there is no peer 'envoy-statik'; did you mean 'envoy-static'?",
        ),
        (
            {"peers": ["coredns-static"]},
            "peers[0]: coredns-static stands beside dns-udp, which the load has not",
        ),
        (
            {
                "peers": ["envoy-tuned"],
                "events": [{"fault": "partition", "cluster": "eu-2", "at": 1, "for": 2}],
            },
            "peers: none can be where fault partition is: it tells whose packet it is by the process",
        ),
        ({"load": {"envoy-static": 5}}, "load.envoy-static: there is no door 'envoy-static'"),
    ],
)
def test_a_mistake_about_peers_is_one_line(tmp_path: Path, change: dict[str, object], said: str) -> None:
    good = {"about": "x", "seconds": 5, "load": {"envoy-get": 1}, "expect": [{"failures": {}}]}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**good, **change}))
    with pytest.raises(ConfigError) as refused:
        read(file)
    assert said in str(refused.value)
