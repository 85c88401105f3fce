"""`make soak`: accidents of all scenarios in an order by chance on one bed, and nothing may grow.

A seed gives the same soak again. What is drawn is written as a scenario file and played as one; each accident
brings the bounds along that its own scenario has for it. Where these allow a door no failure, or say nothing
of it, no call may fail there, then or at any other time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from loadtests.load import run
from loadtests.load.faults import FAULTS
from loadtests.load.order import EXIT_WRONG_USE
from loadtests.load.scenario import MAX_SECONDS, find, names, read

BOUNDS = frozenset({"failures", "in-flight", "detection", "stale", "moves"})
"""Kinds of expectations that accidents bring along. Not those that an accident before can change: the prober
holds back who has come and gone, so who was there twice returns later, and has a smaller share until then.
"""
GAP_SECONDS = 10.0
"""Between two accidents: the prober holds back who comes and goes."""
AFTER_SECONDS = 3.0
"""So long may doors feel that an accident is undone, where failures were allowed while it lasted."""
FIRST_SECONDS = 8.0
REST_SECONDS = 120.0
"""Without accidents at the end of a long soak: free memory goes back once a minute, a level is a minute's."""
LEVEL_SECONDS = 300.0
"""Memory has found its level so long after the beginning."""
PERCENT = 5.0
LOAD = {"envoy-get": 60.0, "envoy-post": 15.0, "grpc": 30.0, "dns-udp": 20.0, "dns-tcp": 20.0}


def library() -> dict[str, Any]:
    """All scenarios that have accidents and need no bed of their own, as they are written."""
    found = {}
    for name in names():
        body = yaml.safe_load(find(name).read_text(encoding="utf-8"))
        if _rooted(body) and os.geteuid() != 0:
            continue
        if body.get("events") and not set(body) - KNOWN:
            found[name] = body
    return found


def _rooted(body: Mapping[str, Any]) -> bool:
    return any(FAULTS[event["fault"]].needs_root for event in body.get("events", ()))


KNOWN = frozenset({"about", "seconds", "load", "events", "expect", "ci"})
"""A scenario that asks for more asks for a bed of its own."""


def compose(scenarios: Mapping[str, Any], seconds: float, seed: int) -> dict[str, Any]:
    """The scenario of a soak. Each comes once before any comes again; the same seed gives the same."""
    events: list[dict[str, Any]] = []
    expect: list[dict[str, Any]] = []
    allowed: dict[str, set[str]] = {}
    at, until = FIRST_SECONDS, seconds - min(REST_SECONDS, seconds / 10)
    for number, name in enumerate(_drawn(scenarios, random.Random(seed)), 1):
        body = scenarios[name]
        first = min(event["at"] for event in body["events"])
        lasts = max(event["at"] + event.get("for", 0.0) for event in body["events"]) - first
        if at + lasts + GAP_SECONDS > until:
            break
        renamed = {}
        for event in body["events"]:
            old = event.get("name", event["fault"])
            renamed[old] = f"{number} {old}"
            events.append({**event, "name": renamed[old], "at": round(at + event["at"] - first, 2)})
        for bound in _bounds(body["expect"], renamed):
            expect.append(bound)
            ((kind, arguments),) = bound.items()
            if allows(kind, arguments):
                allowed.setdefault(arguments["event"], set()).update(arguments.get("doors") or LOAD)
        at += lasts + GAP_SECONDS
    after = min(LEVEL_SECONDS, seconds / 4)
    return {
        "about": f"{len(events)} accidents by chance (seed {seed}), and nothing may grow.",
        "seconds": seconds,
        "load": dict(LOAD),
        "by_chance": True,
        "events": events,
        "expect": [
            *expect,
            {"between": {"after": AFTER_SECONDS, "but": {e: sorted(allowed[e]) for e in allowed}}},
            {"flat": {"percent": PERCENT, "after": after}},
            {"leaks": {}},
        ],
    }


def _drawn(scenarios: Mapping[str, Any], chance: random.Random) -> Iterator[str]:
    """Names without end, shuffled anew in every round."""
    while True:
        round_ = sorted(scenarios)
        chance.shuffle(round_)
        yield from round_


def allows(kind: str, arguments: Mapping[str, Any]) -> bool:
    """Whether calls may fail by this bound."""
    if kind == "failures":
        return bool(arguments.get("most") or arguments.get("ratio"))
    return kind in ("in-flight", "detection")


def _bounds(expect: Sequence[Mapping[str, Any]], renamed: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What a scenario bounds, for each of its events under its new name."""
    for one in expect:
        ((kind, arguments),) = one.items()
        if kind in BOUNDS:
            said, apart = arguments.get("event", ""), arguments.get("apart", ())
            for old, new in renamed.items():
                if said in ("", old) and old not in apart:
                    others = {"apart": [renamed[other] for other in apart]} if apart else {}
                    yield {kind: {**arguments, **others, "event": new}}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make soak",
        description="Play accidents by chance for a long time on one bed, and watch what grows.",
        epilog="Example: make soak MINUTES=30 SEED=7",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load runs (30)")
    parser.add_argument("--seed", type=int, help="play the soak of this seed again; without: a new one")
    parser.add_argument("--out", type=Path, default=run.OUT, help="folder of the reports (build/load)")
    parser.add_argument("--envoy", type=Path, help="the Envoy to use")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    if not 1 <= options.minutes <= MAX_SECONDS / 60:
        console.print(f"soak: --minutes {options.minutes:g} is not from 1 to {MAX_SECONDS / 60:g}")
        return EXIT_WRONG_USE
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 10_000)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"soak-{seed}.yaml"
    written = compose(library(), options.minutes * 60, seed)
    # By way of JSON: nothing in it is there twice, so the file has no anchors.
    plain = yaml.safe_dump(json.loads(json.dumps(written)), sort_keys=False, width=110)
    file.write_text(plain, encoding="utf-8")
    console.print(f"seed {seed}: what will happen is in {file}", markup=False)
    command = f"make soak MINUTES={options.minutes:g} SEED={seed}"
    return run.perform([(file, read(file))], options.envoy, options.out, console, command)


if __name__ == "__main__":
    run.begin(main)
