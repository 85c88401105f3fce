"""What callers are promised is asked of every scenario that could break the promise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtests.load.expect.expectation import Expectation
from loadtests.load.expect.failures import Detection, Failures
from loadtests.load.expect.movement import Settles, Stale
from loadtests.load.scenario import Event, Scenario, find, names, read

SCENARIOS = [read(find(name)) for name in names()]
P99_BACK_SECONDS = 2.0
QUIET = {"hub-lost", "control-killed", "api-errors", "api-lost", "clock-jump", "disk-full", "memory-limit"}
"""Faults of agents, the hub and API servers: no door may lose a call for them."""

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


def asked(scenario: Scenario, kind: type[Expectation], door: str, event: Event) -> Iterator[Expectation]:
    """What is asked of this kind, at this door, of this event."""
    for one in scenario.expect:
        here = door in (one.doors or scenario.rates) and one.event in ("", event.name)
        if isinstance(one, kind) and here and event.name not in getattr(one, "apart", ()):
            yield one


def none_fails(one: Expectation) -> bool:
    return isinstance(one, Failures) and one.most == 0 and one.ratio is None


@every_scenario
def test_no_get_fails_while_there_is_an_alternative(scenario: Scenario) -> None:
    assert any(
        none_fails(one) and not one.event and not getattr(one, "apart", ())
        for one in scenario.expect
        if "envoy-get" in (one.doors or scenario.rates)
    )


@every_scenario
def test_the_p99_of_gets_is_back_within_two_seconds_of_every_accident(scenario: Scenario) -> None:
    for event in scenario.events:
        within = [one.seconds for one in asked(scenario, Settles, "envoy-get", event)]  # type: ignore[attr-defined]
        assert within, event.name
        assert min(within) <= P99_BACK_SECONDS, event.name


@every_scenario
def test_names_lead_nobody_astray_for_longer_than_detection_and_ttl(scenario: Scenario) -> None:
    for event in scenario.events:
        for door in {"dns-udp", "dns-tcp"} & set(scenario.rates):
            if event.fault.victims() or event.fault.leads():
                assert list(asked(scenario, Stale, door, event)), (event.name, door)
                bounds = [*asked(scenario, Detection, door, event)]
                assert bounds or any(map(none_fails, asked(scenario, Failures, door, event))), event.name


@every_scenario
def test_no_door_loses_a_call_for_an_accident_of_hubs_agents_and_api_servers(scenario: Scenario) -> None:
    others = {event.name for event in scenario.events if event.fault.name not in QUIET}
    for event in scenario.events:
        if event.fault.name in QUIET:
            for door in scenario.rates:
                strict = [one for one in asked(scenario, Failures, door, event) if none_fails(one)]
                assert any(set(getattr(one, "apart", ())) <= others for one in strict), (event.name, door)
                # Some of its own time is judged, before anything else happens.
                later = [o.at for o in scenario.events if o.name in others and o.at > event.at]
                assert min(later, default=scenario.seconds) - event.at >= 2.0
