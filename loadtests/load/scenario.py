"""Scenario files: what happens, which load there is meanwhile, and what it must show.

A file is refused as a whole, in one line that names file and key and says what would be right.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from isthmus.errors import ConfigError
from loadtests.load.doors import DOORS, OURS
from loadtests.load.expect import EXPECTATIONS, Expectation
from loadtests.load.faults import FAULTS, Fault
from loadtests.load.ground import WORLD
from loadtests.load.peers import PEERS

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
MAX_RATE = 2_000.0
MAX_SECONDS = 3_600.0
TAIL_SECONDS = 1.0
"""So much must be left of the load after the last fault, or nobody sees whether callers come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fault that begins `at` seconds after the load and lasts `lasts`; names are unique in a file."""

    name: str
    at: float
    lasts: float
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`rates` are calls per second by door; `ci`: it is one of the few that every change runs.

    `by_chance`: its accidents were drawn, and need not all bite. `peers` stand beside our doors and have the
    same rates.
    """

    name: str
    about: str
    seconds: float
    rates: Mapping[str, float]
    events: tuple[Event, ...]
    expect: tuple[Expectation, ...]
    ci: bool
    by_chance: bool
    peers: tuple[str, ...]


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    about: str
    seconds: float
    load: dict[str, float]
    events: list[dict[str, Any]] = []
    expect: list[dict[str, dict[str, Any]]]
    ci: bool = False
    by_chance: bool = False
    peers: list[str] = []


class _Event(msgspec.Struct, kw_only=True):
    fault: str
    at: float
    lasts: float = msgspec.field(name="for", default=0.0)
    name: str = ""


def names() -> list[str]:
    """All scenarios of the project."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a scenario given by name or path; ConfigError names those there are."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"there is no scenario {name!r}{_meant(name, names())}; `--list` shows them all")
    return path


def read(path: Path) -> Scenario:
    """The scenario in a file; ConfigError in one line."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    try:
        return _scenario(path.stem, body)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _scenario(name: str, body: Any) -> Scenario:
    file = _convert(body, _File, "")
    if not 1 <= file.seconds <= MAX_SECONDS:
        raise ValueError(f"seconds: {file.seconds:g} is not from 1 to {MAX_SECONDS:g}")
    if not file.load:
        raise ValueError(f"load: names no door; there are {', '.join(OURS)}")
    for door, rate in file.load.items():
        if door not in OURS:
            raise ValueError(f"load.{door}: there is no door {door!r}{_meant(door, OURS)}")
        if not 0 < rate <= MAX_RATE:
            raise ValueError(f"load.{door}: {rate:g} is not a rate from 0 to {MAX_RATE:g} calls a second")
    for number, peer in enumerate(file.peers):
        if peer not in PEERS:
            raise ValueError(f"peers[{number}]: there is no peer {peer!r}{_meant(peer, PEERS)}")
        beside = DOORS[peer].beside
        if beside not in file.load:
            raise ValueError(f"peers[{number}]: {peer} stands beside {beside}, which the load has not")
    events = [_event(number, given, file.seconds) for number, given in enumerate(file.events)]
    for event in events if file.peers else ():
        if event.fault.leads():
            raise ValueError(
                f"peers: none can be where fault {event.fault.name} is: it tells whose packet it is by the "
                "process, and a peer's belong to no cluster; leave one of them out"
            )
    expect = [_expectation(number, given, file, events) for number, given in enumerate(file.expect)]
    if not expect:
        raise ValueError("expect: is empty, so the scenario could not fail; say what it must show")
    twice = {e.name for e in events if [x.name for x in events].count(e.name) > 1}
    if twice:
        raise ValueError(f"events: {min(twice)!r} is there twice; give each a `name` of its own")
    undisturbed(events)
    return Scenario(
        name=name,
        about=" ".join(file.about.split()),
        seconds=file.seconds,
        rates=file.load,
        events=tuple(events),
        expect=tuple(expect),
        ci=file.ci,
        by_chance=file.by_chance,
        peers=tuple(file.peers),
    )


def _event(number: int, given: Mapping[str, Any], seconds: float) -> Event:
    place = f"events[{number}]"
    mine = {key: value for key, value in given.items() if key in ("fault", "at", "for", "name")}
    event = _convert(mine, _Event, place)
    kind = FAULTS.get(event.fault)
    if kind is None:
        raise ValueError(f"{place}.fault: there is no fault {event.fault!r}{_meant(event.fault, FAULTS)}")
    fault = _convert(
        {k: v for k, v in given.items() if k not in mine}, kind, place, takes=f"fault {kind.name}"
    )
    if complaint := fault.complaint(WORLD):
        raise ValueError(f"{place}.{complaint}")
    if fault.least_seconds() > event.lasts:
        raise ValueError(f"{place}.for: {event.lasts:g} s are too few; it takes {fault.least_seconds():g} s")
    if event.at < 0 or event.lasts < 0 or event.at + event.lasts + TAIL_SECONDS > seconds:
        raise ValueError(
            f"{place}: lasts from {event.at:g} s to {event.at + event.lasts:g} s; it must begin with the "
            f"load or later and end {TAIL_SECONDS:g} s before it does ({seconds:g} s)"
        )
    return Event(name=event.name or event.fault, at=event.at, lasts=event.lasts, fault=fault)


def undisturbed(events: Sequence[Event]) -> None:
    """ValueError where two events touch at one time what each has to itself: undoing one would undo both."""
    for one, two in itertools.combinations(sorted(events, key=lambda event: event.at), 2):
        shared = set(one.fault.alone()) & set(two.fault.alone())
        if shared and two.at < one.at + one.lasts:
            raise ValueError(
                f"events: {two.name!r} begins at {two.at:g} s, when {one.name!r} still has {min(shared)}; "
                f"let it begin after {one.at + one.lasts:g} s"
            )


def _expectation(
    number: int, given: Mapping[str, Mapping[str, Any]], file: _File, events: Iterable[Event]
) -> Expectation:
    place = f"expect[{number}]"
    if len(given) != 1:
        raise ValueError(f"{place}: must have one key, the kind of expectation: {', '.join(EXPECTATIONS)}")
    ((name, arguments),) = given.items()
    kind = EXPECTATIONS.get(name)
    if kind is None:
        raise ValueError(f"{place}: there is no expectation {name!r}{_meant(name, EXPECTATIONS)}")
    place = f"{place}.{name}"
    expectation = _convert(arguments, kind, place, takes=name)
    for door in expectation.doors:
        if door not in file.load:
            raise ValueError(f"{place}.doors: the load has no door {door!r}{_meant(door, file.load)}")
    known = {event.name: event for event in events}
    apart = getattr(expectation, "apart", ())
    for key, said in (("event", expectation.event), *(("apart", one) for one in apart)):
        if said and said not in known:
            raise ValueError(f"{place}.{key}: there is no event {said!r}{_meant(said, known)}")
    if expectation.event in apart:
        raise ValueError(f"{place}.apart: {expectation.event!r} is the event itself; name others")
    for event in known.values():
        if expectation.event in ("", event.name) and (why := _pointless(expectation, event)):
            raise ValueError(f"{place}.{why}")
    return expectation


def _pointless(expectation: Expectation, event: Event) -> str:
    """Why the event cannot show what is asked of it, as "key: what is wrong, what would be right"; or ""."""
    fault, seconds = event.fault, getattr(expectation, "seconds", 0.0)
    if expectation.of_victims and not (fault.victims() or fault.leads()):
        return f"event: nobody is meant to leave a cluster for {event.name!r}; name another event"
    if expectation.of_phases and not fault.has_phases:
        return f"event: what clusters are to serve is not known for {event.name!r}; name another event"
    if (what := getattr(expectation, "what", "")) and what not in fault.counts:
        counted = ", ".join(fault.counts) or "nothing"
        return f"what: {event.name!r} does not count {what!r}; it counts {counted}"
    if expectation.from_beginning and not getattr(expectation, "over", False) and seconds >= event.lasts:
        return f"seconds: {event.name!r} lasts {event.lasts:g} s, so {seconds:g} s could not be missed"
    return ""


_T = TypeVar("_T")


def _convert(body: Any, kind: type[_T], place: str, takes: str = "") -> _T:
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        where = (place + path.rstrip("`")).lstrip(".") or "the file"
        fields = ", ".join(f.encode_name for f in msgspec.structs.fields(kind))  # type: ignore[arg-type]
        right = f"; {takes or 'it'} takes {fields or 'nothing'}" if "unknown field" in text else ""
        raise ValueError(f"{where}: {text[:1].lower()}{text[1:]}{right}") from error


def _meant(word: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are {', '.join(known)}" if known else ""
