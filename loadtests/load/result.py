"""The result of a scenario as JSON, as `loadtests/README.md` documents it; the HTML is drawn from it. Pure.

Times are seconds since the load began, latencies milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from loadtests.load.census import Count
from loadtests.load.comparison import Beside, felt
from loadtests.load.doors import DOORS
from loadtests.load.expect import Finding, Seen
from loadtests.load.marks import Mark
from loadtests.load.peers import PEERS, Peer
from loadtests.load.samples import Sample, quantile
from loadtests.load.scenario import Scenario

SCHEMA = 2
STEP_SECONDS = 0.5
MOST_STEPS = 400
"""A longer course is told in longer steps."""
FAILURES_KEPT = 10


class Accident(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    fault: str
    victims: tuple[str, ...]
    began: float
    ended: float
    undone: float
    evidence: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    caller: str
    cluster: str
    why: str


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A door's course, an entry for each step: calls `served` by cluster, `failed` by that of their caller.

    Latencies are of what was answered.
    """

    served: dict[str, list[int]]
    failed: dict[str, list[int]]
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class DoorResult(msgspec.Struct, frozen=True, kw_only=True):
    door: str
    idempotent: bool
    calls: int
    failed: int
    by_cluster: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    slowest_ms: float | None
    failures: list[Failure]
    causes: dict[str, int]
    line: Line


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """A role's processes. `memory_mb` as pairs of time and megabytes.

    `rest` has processes, descriptors and tasks before the callers came and after; empty where nobody waited.
    """

    role: str
    cpu_s: float
    memory_mb: list[tuple[float, float]]
    rest: list[tuple[int, int, int]]


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What it ran on, and how to run it again; `withheld` as `machine.Ticks.part` while it was played."""

    command: str
    started: str
    machine: str
    cores: int
    load_average: float
    withheld: float = 0.0
    versions: dict[str, str]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    schema: int
    scenario: str
    about: str
    passed: bool
    seconds: float
    step_s: float
    rates: dict[str, float]
    clusters: list[str]
    accidents: list[Accident]
    findings: list[Finding]
    doors: list[DoorResult]
    memory_mb: list[tuple[float, float]]
    levels: list[Level]
    peers: list[Beside]
    peer_doors: list[DoorResult]
    surroundings: Surroundings


def result(
    scenario: Scenario,
    seen: Seen,
    findings: Sequence[Finding],
    clusters: Sequence[str],
    surroundings: Surroundings,
    missing: Mapping[str, str],
) -> Result:
    """`missing`: the peers that were asked for, and why each was left out ("": it was not)."""
    seconds = seen.ended - seen.began
    step = STEP_SECONDS * math.ceil(seconds / STEP_SECONDS / MOST_STEPS)
    steps = max(1, round(seconds / step))
    return Result(
        schema=SCHEMA,
        scenario=scenario.name,
        about=scenario.about,
        passed=all(finding.passed for finding in findings),
        seconds=round(seconds, 1),
        step_s=step,
        rates=dict(scenario.rates),
        clusters=list(clusters),
        accidents=[_accident(mark, seen.began) for mark in seen.marks],
        findings=list(findings),
        doors=[
            _door(door, rows, seen.began, (steps, step), clusters)
            for door, rows in seen.at(tuple(scenario.rates))
        ],
        memory_mb=[(round(t.at - seen.began, 1), round(t.memory_mb, 1)) for t in seen.watch if t.memory_mb],
        levels=_levels(seen),
        peers=[_beside(PEERS[name], why, seen) for name, why in missing.items()],
        peer_doors=[
            _door(name, [row for row in seen.others if row.door == name], seen.began, (steps, step), clusters)
            for name, why in missing.items()
            if not why
        ],
        surroundings=surroundings,
    )


def outlived(told: Result, processes: int, text: str) -> Result:
    """The same with what shows only when the bed has ended: processes that did not."""
    left = Finding(
        expectation="ends", value=float(processes), bound=0, unit="processes", passed=False, text=text
    )
    return msgspec.structs.replace(told, passed=False, findings=[*told.findings, left])


def _accident(mark: Mark, began: float) -> Accident:
    return Accident(
        name=mark.name,
        fault=mark.fault,
        victims=mark.victims,
        began=round(mark.began - began, 2),
        ended=round(mark.ended - began, 2),
        undone=round(mark.undone - began, 2),
        evidence=mark.evidence,
    )


def _beside(peer: Peer, missing: str, seen: Seen) -> Beside:
    spent = {level.role: level.cpu_s for level in _levels(seen)}
    its, ours, control = (spent.get(role, 0.0) for role in (peer.name, peer.beside_role, "control"))
    return Beside(
        peer=peer.name,
        about=peer.about,
        door=DOORS[peer.name].beside,
        missing=missing,
        felt=[] if missing else felt([*seen.rows, *seen.others], seen.marks, peer.name),
        cpu_s=(0.0, 0.0, 0.0) if missing else (its, ours, control),
    )


def _levels(seen: Seen) -> list[Level]:
    """All roles that were seen; what they spent is from the first census to the last."""
    if not seen.watch:
        return []
    first, last = seen.watch[0].roles, seen.watch[-1].roles
    return [
        Level(
            role=role,
            cpu_s=round(last[role].cpu_s - (first[role].cpu_s if role in first else 0.0), 2),
            memory_mb=[
                (round(taken.at - seen.began, 1), taken.roles[role].memory_mb)
                for taken in seen.watch
                if role in taken.roles and taken.roles[role].memory_mb
            ],
            rest=[
                (count.processes, count.descriptors, count.tasks)
                for taken in seen.rest or ()
                for count in (taken.roles.get(role, Count()),)
            ],
        )
        for role in sorted(last)
    ]


def _door(
    door: str, rows: Sequence[Sample], began: float, course: tuple[int, float], clusters: Sequence[str]
) -> DoorResult:
    bad = [row for row in rows if row.why]
    took = [row.ms for row in rows if not row.why]
    return DoorResult(
        door=door,
        idempotent=DOORS[door].idempotent,
        calls=len(rows),
        failed=len(bad),
        by_cluster=dict(sorted(Counter(row.cluster for row in rows if not row.why).items())),
        p50_ms=_rounded(quantile(took, 0.5)),
        p99_ms=_rounded(quantile(took, 0.99)),
        slowest_ms=_rounded(max(took, default=None)),
        failures=[
            Failure(at=round(row.at - began, 2), caller=row.caller, cluster=row.cluster, why=row.why)
            for row in bad[:FAILURES_KEPT]
        ],
        causes=dict(Counter(row.why for row in bad).most_common()),
        line=_line(rows, began, course, clusters),
    )


def _line(rows: Sequence[Sample], began: float, course: tuple[int, float], clusters: Sequence[str]) -> Line:
    steps, seconds = course
    taken: list[list[Sample]] = [[] for _ in range(steps)]
    for row in rows:
        step = int((row.at - began) / seconds)
        if 0 <= step < steps:
            taken[step].append(row)
    answered = [[row.ms for row in some if not row.why] for some in taken]
    return Line(
        served={c: [sum(r.cluster == c and not r.why for r in some) for some in taken] for c in clusters},
        failed={c: [sum(r.caller == c and bool(r.why) for r in some) for some in taken] for c in clusters},
        p50_ms=[_rounded(quantile(some, 0.5)) for some in answered],
        p99_ms=[_rounded(quantile(some, 0.99)) for some in answered],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
