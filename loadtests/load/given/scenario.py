"""A scenario as it is played on given clusters: its parts have players, and all of it can be done there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from loadtests.load.expect.leaks import Flat, Leaks
from loadtests.load.faults import Fault
from loadtests.load.given.faults import cannot
from loadtests.load.scenario import Scenario, undisturbed


def unplayable(scenario: Scenario, plays: Mapping[str, str]) -> str:
    """Why a scenario cannot be played by the clusters that play these parts, or ""."""
    for event in scenario.events:
        if why := cannot(event.fault) or _one_for_two(event.fault, plays):
            return why
    try:
        undisturbed(recast(scenario, plays).events)
    except ValueError as error:  # what is of two clusters there is of one here
        return str(error)
    if scenario.peers:
        return f"the peer {scenario.peers[0]} stands on the demo's bed alone"
    if any(isinstance(wanted, Flat | Leaks) for wanted in scenario.expect):
        return "what Isthmus takes on machines of others is not ours to see (flat, leaks)"
    return ""


def _one_for_two(fault: Fault, plays: Mapping[str, str]) -> str:
    """The complaint about a fault between two parts that the same cluster plays, or ""."""
    players: dict[str, str] = {}
    for part in _parts(fault, plays).values():
        other = players.setdefault(plays[part], part)
        if other != part:
            return f"{fault.name} is between {other} and {part}, and {plays[part]} plays both"
    return ""


def recast(scenario: Scenario, plays: Mapping[str, str]) -> Scenario:
    """The scenario with the clusters that play in place of the parts."""
    events = (replace(event, fault=_recast(event.fault, plays)) for event in scenario.events)
    return replace(scenario, events=tuple(events))


def _recast(fault: Fault, plays: Mapping[str, str]) -> Fault:
    """Whatever argument is a part's name means that cluster."""
    changed = {key: plays[part] for key, part in _parts(fault, plays).items()}
    return msgspec.structs.replace(fault, **changed)


def _parts(fault: Fault, plays: Mapping[str, str]) -> dict[str, str]:
    """The arguments that name parts."""
    given = msgspec.structs.asdict(fault)
    return {key: value for key, value in given.items() if isinstance(value, str) and value in plays}
