"""A scenario as it is played on given clusters: its parts have players, and all of it can be done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from loadtests.load.expect.leaks import Flat, Leaks
from loadtests.load.faults import Fault
from loadtests.load.given.faults import cannot
from loadtests.load.scenario import Scenario


def unplayable(scenario: Scenario) -> str:
    """Why a scenario cannot be played on given clusters, or ""."""
    for event in scenario.events:
        if why := cannot(event.fault):
            return why
    if scenario.peers:
        return f"the peer {scenario.peers[0]} stands on the demo's bed alone"
    if any(isinstance(wanted, Flat | Leaks) for wanted in scenario.expect):
        return "what Isthmus takes on machines of others is not ours to see (flat, leaks)"
    return ""


def recast(scenario: Scenario, plays: Mapping[str, str]) -> Scenario:
    """The scenario with the clusters that play in place of the parts."""
    events = (replace(event, fault=_recast(event.fault, plays)) for event in scenario.events)
    return replace(scenario, events=tuple(events))


def _recast(fault: Fault, plays: Mapping[str, str]) -> Fault:
    """Whatever argument is a part's name means that cluster."""
    given = msgspec.structs.asdict(fault)
    changed = {key: plays[value] for key, value in given.items() if isinstance(value, str) and value in plays}
    return msgspec.structs.replace(fault, **changed)
