"""A scenario file is taken as a whole, or refused in a line that names file, key, and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.errors import ConfigError
from loadtests.load.faults import FAULTS
from loadtests.load.run import main
from loadtests.load.scenario import find, names, read

GOOD: dict[str, Any] = {
    "about": "a test",
    "seconds": 20,
    "load": {"envoy-get": 10},
    "events": [{"fault": "cluster-silent", "cluster": "eu-2", "at": 4, "for": 10}],
    "expect": [{"failures": {"most": 0}}],
}
EVENT = GOOD["events"][0]
API = {"fault": "api-lost", "server": "hub", "for": 6}
SLOW = {"fault": "cluster-slow", "cluster": "eu-2", "ms": 25, "for": 4}
HUB_LOST = {"fault": "hub-lost", "at": 4, "for": 10}
ROLLING = {**EVENT, "fault": "rolling-restart"}
FLAPPING = {**EVENT, "fault": "flapping-endpoint"}
SHIFT = {
    **HUB_LOST,
    "fault": "weight-shift",
    "origin": "eu-1",
    "to": "us-1",
    "steps": [0, 50, 100],
    "each": 3,
}


def written(folder: Path, body: Any) -> Path:
    file = folder / "mine.yaml"
    file.write_text(body if isinstance(body, str) else yaml.safe_dump(body))
    return file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("a: [b\n", "line 2: not YAML"),
        ("just words\n", "the file: expected `object`, got `str`"),
        (
            {"colour": "red"},
            "the file: object contains unknown field `colour`; it takes about, seconds, load",
        ),
        ({"seconds": "long"}, "seconds: expected `float`, got `str`"),
        ({"seconds": 0}, "seconds: 0 is not from 1 to 3600"),
        ({"load": {}}, "load: names no door; there are envoy-get"),
        (
            {"load": {"envoy-got": 1}},
            "load.envoy-got: there is no door 'envoy-got'; did you mean 'envoy-get'?",
        ),
        ({"load": {"grpc": 0}}, "load.grpc: 0 is not a rate from 0 to 2000 calls a second"),
        (
            {"events": [{**EVENT, "fault": "cluster-silnt"}]},
            "events[0].fault: there is no fault 'cluster-silnt'; did",
        ),
        (
            {"events": [{**EVENT, "cluster": "eu-9"}]},
            "events[0].cluster: there is no cluster 'eu-9'; there are eu-1",
        ),
        ({"events": [{**EVENT, "cluster": 9}]}, "events[0].cluster: expected `str`, got `int`"),
        ({"events": [{**EVENT, "part": "half"}]}, "events[0].part: invalid enum value 'half'"),
        (
            {"events": [{**EVENT, "klaster": "eu-1"}]},
            "events[0]: object contains unknown field `klaster`; fault cluster-silent takes cluster, part",
        ),
        (
            {"events": [{**EVENT, "for": 16}]},
            "events[0]: lasts from 4 s to 20 s; it must begin with the load",
        ),
        ({"events": [EVENT, EVENT]}, "events: 'cluster-silent' is there twice"),
        (
            {"events": [{**API, "fault": "api-errors", "code": 500, "at": 2}, {**API, "at": 7}]},
            "events: 'api-lost' begins at 7 s, when 'api-errors' still has the API server of hub; let it",
        ),
        (
            {"events": [{**SLOW, "name": "later", "at": 6}, {**SLOW, "at": 4}]},
            "events: 'later' begins at 6 s, when 'cluster-slow' still has cluster-slow of eu-2",
        ),
        ({"expect": []}, "expect: is empty, so the scenario could not fail"),
        ({"expect": [{"luck": {}}]}, "expect[0]: there is no expectation 'luck'; there are"),
        ({"expect": [{"failures": {}, "p99": {"ms": 1}}]}, "expect[0]: must have one key"),
        ({"expect": [{"p99": {}}]}, "expect[0].p99: object missing required field `ms`"),
        (
            {"expect": [{"failures": {"doors": ["grpc"]}}]},
            "expect[0].failures.doors: the load has no door 'grpc'",
        ),
        ({"expect": [{"failures": {"event": "rain"}}]}, "expect[0].failures.event: there is no event 'rain'"),
        (
            {"expect": [{"failures": {"apart": ["rain"]}}]},
            "expect[0].failures.apart: there is no event 'rain'",
        ),
        (
            {"expect": [{"failures": {"event": EVENT["fault"], "apart": [EVENT["fault"]]}}]},
            "expect[0].failures.apart: 'cluster-silent' is the event itself; name others",
        ),
        # Targets that nothing could miss, or nothing could meet.
        ({"expect": [{"failures": {"most": -1}}]}, "expect[0].failures.most: expected `int` >= 0"),
        ({"expect": [{"failures": {"ratio": 1.5}}]}, "expect[0].failures.ratio: expected `float` <= 1.0"),
        ({"expect": [{"p99": {"ms": 0}}]}, "expect[0].p99.ms: expected `float` > 0.0"),
        ({"expect": [{"in-flight": {"seconds": 1, "share": 0}}]}, "in-flight.share: expected `float` > 0.0"),
        ({"expect": [{"between": {"after": -1}}]}, "expect[0].between.after: expected `float` >= 0.0"),
        (
            {"expect": [{"stale": {"seconds": 10}}]},
            "expect[0].stale.seconds: 'cluster-silent' lasts 10 s, so 10 s could not be missed",
        ),
        (
            {"events": [HUB_LOST], "expect": [{"moves": {"seconds": 1}}]},
            "expect[0].moves.event: nobody is meant to leave a cluster for 'hub-lost'; name another event",
        ),
        (
            {"expect": [{"shares": {}}]},
            "expect[0].shares.event: what clusters are to serve is not known for 'cluster-silent'; name",
        ),
        (
            {"events": [FLAPPING], "expect": [{"counted": {"what": "deaths", "most": 3}}]},
            "expect[0].counted.what: 'flapping-endpoint' does not count 'deaths'; it counts verdicts",
        ),
        ({"events": [{**SHIFT, "to": "eu-1"}]}, "events[0].to: 'eu-1' is the origin itself; name another"),
        ({"events": [{**SHIFT, "for": 8}]}, "events[0].for: 8 s are too few; it takes 9 s"),
        (
            {"events": [{**SHIFT, "services": []}]},
            "events[0].services: is empty; there are front, cart, checkout",
        ),
        (
            {"events": [{**SHIFT, "services": ["front", "bank"]}]},
            "events[0].services: callers use no service 'bank'; there are front, cart, checkout",
        ),
        (
            {"events": [{**FLAPPING, "service": "bank"}]},
            "events[0].service: callers use no service 'bank'; there are front, cart, checkout",
        ),
        ({"events": [{**FLAPPING, "down": 11.0}]}, "events[0].for: 10 s are too few; it takes 11 s"),
        ({"events": [{**ROLLING, "grace": -1}]}, "events[0].grace: -1 is less than 0 seconds"),
        ({"events": [{**ROLLING, "grace": 10}]}, "events[0].for: 10 s are too few; it takes 10.5 s"),
        (
            {"events": [{**ROLLING, "services": ["bank"]}]},
            "events[0].services: callers use no service 'bank'",
        ),
        (
            {"events": [{**ROLLING, "fault": "half-unhealthy", "services": []}]},
            "events[0].services: is empty; there are front, cart, checkout",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, change: Any, said: str) -> None:
    file = written(tmp_path, change if isinstance(change, str) else {**GOOD, **change})
    with pytest.raises(ConfigError) as refused:
        read(file)
    text = str(refused.value)
    assert text.startswith(str(file))
    assert said in text
    assert "\n" not in text


def test_what_is_right_is_taken(tmp_path: Path) -> None:
    scenario = read(written(tmp_path, GOOD))
    assert scenario.name == "mine"
    (event,) = scenario.events
    assert (event.name, event.at, event.lasts, event.fault.victims()) == ("cluster-silent", 4, 10, ("eu-2",))


def test_every_scenario_of_the_project_is_right_and_every_fault_is_in_one() -> None:
    scenarios = [read(find(name)) for name in names()]
    used = {event.fault.name for scenario in scenarios for event in scenario.events}
    assert used == set(FAULTS)
    assert any(scenario.ci for scenario in scenarios)


def test_the_command_says_it_in_one_line_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(written(tmp_path, {**GOOD, "load": {}}))]) == 2
    assert main(["stedy"]) == 2
    assert main(["steady", "--ci"]) == 2
    said = capfd.readouterr().err
    assert "load: names no door" in said
    assert "there is no scenario 'stedy'; did you mean 'steady'?" in said
    assert "load: --ci: nothing to play, steady is not marked `ci: true`" in said
    assert "Traceback" not in said


def test_scenarios_are_listed_where_other_programs_read(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["steady", "--list"]) == 0
    said = capfd.readouterr()
    assert said.out.startswith("steady  Nothing happens.")
    assert said.err == ""


def test_without_an_envoy_nothing_is_started(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["steady", "--envoy", "/nowhere/envoy"]) == 3
    assert "--envoy /nowhere/envoy: not a program that can be run" in capfd.readouterr().err
