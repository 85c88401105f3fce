"""A file of clusters is taken as a whole or refused in a line, and so is what cannot be played on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from calling import place

from isthmus.errors import ConfigError
from loadtests.load.errand import Place
from loadtests.load.faults import FAULTS
from loadtests.load.given.clusters import identity, read_clusters
from loadtests.load.given.scenario import recast, unplayable
from loadtests.load.run import main
from loadtests.load.scenario import find, names, read

A: dict[str, Any] = {
    "name": "a",
    "plays": ["eu-1"],
    "dns": "10.0.0.1:53",
    "xds": "10.0.0.1:18000",
    "console": "10.0.0.1:9000",
    "pods": ["10.244.0.0/16"],
}
B = {**A, "name": "b", "plays": ["eu-2", "us-1"], "dns": "[fd00::1]:53", "pods": ["10.245.0.0/16"]}
GOOD: dict[str, Any] = {"hub": {"context": "a"}, "clusters": [A, B]}
PLAYS = {"eu-1": "a", "eu-2": "b", "us-1": "b"}
PLAYED = {"drain", "hub-lost", "rolling-restart", "weight-shift"}


def written(folder: Path, body: Any) -> Path:
    file = folder / "clusters.yaml"
    file.write_text(body if isinstance(body, str) else yaml.safe_dump(body))
    return file


def unwrapped(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said, as a terminal that is wide enough shows it."""
    return " ".join(capsys.readouterr().err.split())


def test_who_plays_whom_is_read(tmp_path: Path) -> None:
    assert read_clusters(written(tmp_path, GOOD)).plays == PLAYS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("a: [b\n", "not YAML"),
        ("words\n", "expected `object`, got `str`"),
        ({"huub": {}}, "object contains unknown field `huub`"),
        ({"clusters": [A]}, "clusters: there are 1, at least 2 are needed"),
        ({"clusters": [A, {**B, "name": "a"}]}, "clusters: 'a' is there twice"),
        ({"clusters": [A, {**B, "plays": ["eu-2", "eu-1"]}]}, "clusters: 'eu-1' is played twice"),
        (
            {"clusters": [A, {**B, "plays": ["eu-2"]}]},
            "clusters: nobody plays 'us-1'; let one",
        ),
        (
            {"clusters": [A, {**B, "plays": ["eu-9"]}]},
            "'eu-9' is no part; there are eu-1, eu-2, us-1",
        ),
        ({"clusters": [A, {**B, "dns": "here"}]}, "clusters[1].dns: 'here' is not an IP address and a port"),
        (
            {"clusters": [A, {**B, "pods": ["10.244.1.0/16"]}]},
            "clusters[1].pods: 10.244.1.0/16 has",
        ),
        ({"clusters": [A, {**B, "port": 1}]}, "clusters[1]: object contains unknown field `port`"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path: Path, change: Any, said: str) -> None:
    file = written(tmp_path, change if isinstance(change, str) else {**GOOD, **change})
    with pytest.raises(ConfigError) as refused:
        read_clusters(file)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"--clusters {file}: ")
    assert "\n" not in str(refused.value)


def test_arguments_that_are_parts_mean_the_players() -> None:
    shift, restart = (recast(read(find(name)), PLAYS) for name in ("weight-shift", "rolling-restart"))
    assert [event.fault for event in shift.events] == [
        msgspec.convert({"origin": "a", "to": "b"}, FAULTS["weight-shift"])
    ]
    assert [event.fault for event in restart.events] == [
        msgspec.convert({"cluster": "b", "grace": 6.5}, FAULTS["rolling-restart"])
    ]


def test_what_needs_more_than_an_api_server_is_not_played() -> None:
    told = {name: unplayable(read(find(name)), PLAYS) for name in names()}
    assert {name for name, why in told.items() if not why} >= PLAYED
    silent = told["cluster-silent"]
    assert silent.startswith(
        "cluster-silent cannot be made through an API server; on given clusters there are"
    )


def test_what_is_between_two_parts_needs_two_players(tmp_path: Path) -> None:
    one = {"eu-1": "b", "eu-2": "a", "us-1": "b"}
    assert unplayable(read(find("weight-shift")), one) == (
        "weight-shift is between eu-1 and us-1, and b plays both"
    )
    drains = [
        {"fault": "drain", "name": name, "cluster": name, "at": 1, "for": 2} for name in ("eu-2", "us-1")
    ]
    body = {"about": "x", "seconds": 5, "load": {"grpc": 1}, "events": drains, "expect": [{"failures": {}}]}
    both = read(written(tmp_path, body))
    assert unplayable(both, one) == ""
    assert "'us-1' begins at 1 s, when 'eu-2' still has drain of b" in unplayable(both, PLAYS)


def test_it_is_said_before_anything_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, GOOD)
    out = ("--envoy", "/bin/true", "--out", str(tmp_path / "out"))
    assert main(["cluster-silent", "--clusters", str(file), *out]) == 3
    assert "load: cluster-silent is left out: cluster-silent cannot be made" in unwrapped(capsys)
    assert main(["drain", "--clusters", str(tmp_path / "none.yaml"), *out]) == 2
    assert "none.yaml: cannot be read as text" in unwrapped(capsys)


def test_certificates_are_found_beside_the_file(tmp_path: Path) -> None:
    files = {"ca": "ca.pem", "certificate": "/certificate.pem", "key": "../key.pem"}
    file = written(tmp_path, {**GOOD, "clusters": [{**A, "certificates": files}, B]})
    first, second = read_clusters(file).clusters
    assert first.certificates is not None
    found = identity(first.certificates, file)
    expected = (str(tmp_path / "ca.pem"), "/certificate.pem", str(tmp_path.parent / "key.pem"))
    assert (found.ca, found.certificate, found.key) == expected
    assert second.certificates is None
    whole = msgspec.structs.replace(place(), identity=found)
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Place) == whole


def test_the_owner_of_an_address_is_told_by_prefix() -> None:
    here = msgspec.structs.replace(place(), pods={"10.244.0.0/16": "a", "10.245.0.0/16": "b"})
    assert [here.owner(text) for text in ("10.244.3.4", "10.245.0.1", "10.246.0.1")] == ["a", "b", ""]
