"""What the demo saw: counts, times and a judgement, computed from samples alone.

Pure. A request counts unless its own caller was dead for a moment of it. Judged are failures that a caller
should not have seen, and whether every accident was seen to bite; times are printed and not judged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from isthmus.demo.disturbance import moved_ms, settled_ms
from isthmus.demo.load import Query, Request

BEFORE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accident:
    """What was done, on the monotonic clock. `victim` "": no cluster's share was meant to move.

    `evidence` is what was seen beside the samples (packets dropped, another process id); `what` says it.
    """

    name: str
    victim: str
    began: float
    ended: float
    evidence: bool
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Callers of a cluster that were dead, from and until on the monotonic clock."""

    cluster: str
    began: float
    ended: float


class Quantiles(msgspec.Struct, frozen=True):
    p50: float | None
    p99: float | None


class Failover(msgspec.Struct, frozen=True):
    """Milliseconds until the silent cluster was last felt: by requests, and by name."""

    envoy: float | None
    dns: float | None


class AccidentReport(msgspec.Struct, frozen=True):
    """`moved_ms`: until the last request that it reached; `settled_ms`: until latency was back (None: never).

    Both count from its beginning; disturbance.py says exactly what they mean.
    """

    name: str
    requests: int
    failed: int
    moved_ms: float | None
    settled_ms: float | None
    dns_ms: float | None
    bit: bool
    what: str


class Report(msgspec.Struct, frozen=True):
    requests: int
    failed: int
    by_cluster: dict[str, int]
    latency_ms: Quantiles
    slowest_ms: float | None
    failover_ms: Failover
    propagation_ms: Quantiles
    accidents: list[AccidentReport]
    services: int
    endpoints: int
    rss_mb: float | None
    queries: int
    queries_failed: int
    ready_s: float
    checks: dict[str, int]
    """Endpoints that one agent found well before the accidents, by what it asked them."""
    failures: list[str]
    """The first few failures in words."""
    passed: bool


def quantiles(values: Sequence[float]) -> Quantiles:
    """Nearest-rank median and 99th percentile, None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return Quantiles(None, None)
    return Quantiles(*(round(ordered[math.ceil(p * len(ordered)) - 1], 1) for p in (0.5, 0.99)))


def judge(
    *,
    requests: Sequence[Request],
    queries: Sequence[Query],
    accidents: Sequence[Accident],
    deaths: Sequence[Death],
    owner: Callable[[str], str],
    propagation: Sequence[float],
    services: int,
    endpoints: int,
    rss_mb: float | None,
    ready_s: float,
    checks: Mapping[str, int] | None = None,
    scripted: bool = True,
) -> Report:
    """The report; `owner` names the cluster of an address, `propagation` is in milliseconds.

    Of accidents that were not `scripted` nobody knows what they should have done: they need not bite.
    """
    counted = [r for r in requests if not dead(r.caller, r.at, r.ms, deaths)]
    asked = [q for q in queries if not dead(q.caller, q.at, q.ms, deaths)]
    bad = [r for r in counted if r.status != 200]
    unanswered = [q for q in asked if not _answered(q)]
    told = [_accident(accident, counted, asked, owner) for accident in accidents]
    silent = next((a for a in told if a.name == "silent"), None)
    return Report(
        requests=len(counted),
        failed=len(bad),
        by_cluster=dict(sorted(Counter(r.cluster for r in counted if r.status == 200).items())),
        latency_ms=quantiles([r.ms for r in counted if r.status == 200]),
        slowest_ms=round(max((r.ms for r in counted if r.status == 200), default=0.0), 1) or None,
        failover_ms=Failover(silent.moved_ms, silent.dns_ms) if silent else Failover(None, None),
        propagation_ms=quantiles(propagation),
        accidents=told,
        services=services,
        endpoints=endpoints,
        rss_mb=rss_mb,
        queries=len(asked),
        queries_failed=len(unanswered),
        ready_s=round(ready_s, 1),
        checks=dict(checks or {}),
        failures=[_failure(r, accidents) for r in bad[:5]]
        + [_no_answer(q, accidents) for q in unanswered[:5]],
        passed=bool(counted) and not bad and not unanswered and all(a.bit or not scripted for a in told),
    )


def dead(caller: str, at: float, ms: float, deaths: Sequence[Death]) -> bool:
    """Whether the caller was dead for a moment of what it began at `at` and that took `ms`."""
    return any(d.cluster == caller and at < d.ended and at + ms / 1000 > d.began for d in deaths)


def _answered(query: Query) -> bool:
    return query.code == 0 and bool(query.addresses)


def _accident(
    accident: Accident, requests: Sequence[Request], queries: Sequence[Query], owner: Callable[[str], str]
) -> AccidentReport:
    during = [r for r in requests if accident.began <= r.at < accident.ended]
    named = [
        q.at + q.ms / 1000
        for q in queries
        if accident.began <= q.at < accident.ended and any(owner(a) == accident.victim for a in q.addresses)
    ]
    bit = accident.evidence and bool(during)
    if accident.victim:
        before = [r for r in requests if accident.began - BEFORE_SECONDS <= r.at < accident.began]
        late = accident.began + (accident.ended - accident.began) * 2 / 3
        served_late = any(r.at >= late and r.cluster == accident.victim for r in during)
        bit = bit and any(r.cluster == accident.victim for r in before) and not served_late
    return AccidentReport(
        name=accident.name,
        requests=len(during),
        failed=sum(r.status != 200 for r in during),
        moved_ms=moved_ms(during, accident.victim, accident.began),
        settled_ms=settled_ms(requests, accident.began, accident.ended),
        dns_ms=_since(accident.began, named) if accident.victim else None,
        bit=bit,
        what=accident.what,
    )


def _since(began: float, moments: Sequence[float]) -> float:
    return round((max(moments, default=began) - began) * 1000, 1)


def _failure(request: Request, accidents: Sequence[Accident]) -> str:
    said = f"HTTP {request.status}" if request.status else "no answer"
    why = f" ({request.why})" if request.why else ""
    return f"{request.caller} asked {request.authority}: {said}{why}, {_when(request.at, accidents)}"


def _no_answer(query: Query, accidents: Sequence[Accident]) -> str:
    said = "no answer" if query.code < 0 else f"response code {query.code}" if query.code else "no address"
    return f"{query.caller} looked up {query.name}: {said}, {_when(query.at, accidents)}"


def _when(at: float, accidents: Sequence[Accident]) -> str:
    """Where in the play a moment lies."""
    last = max((a for a in accidents if a.began <= at), key=lambda a: a.began, default=None)
    if last is None:
        return "before any accident"
    return f"{at - last.began:.1f} s into {last.name!r}" + (" (over by then)" if at >= last.ended else "")


def table(report: Report) -> str:
    """The report for people."""
    lines = [
        f"{report.services} services, {report.endpoints} endpoints; "
        f"first request served after {report.ready_s:g} s",
        f"{report.requests} requests, {report.failed} failed; "
        f"{report.queries} DNS queries, {report.queries_failed} failed",
        f"latency p50 {_ms(report.latency_ms.p50)}, p99 {_ms(report.latency_ms.p99)}",
        "served by " + ", ".join(f"{cluster} {count}" for cluster, count in report.by_cluster.items()),
    ]
    if report.checks:
        found = ", ".join(f"{count} by {protocol}" for protocol, count in report.checks.items())
        lines.append(f"endpoints that one agent found well: {found}")
    if report.propagation_ms.p50 is not None:
        lines.append(
            "a changed endpoint reaches another cluster's Envoy in "
            f"p50 {_ms(report.propagation_ms.p50)}, p99 {_ms(report.propagation_ms.p99)}"
        )
    if report.rss_mb is not None:
        lines.append(f"memory of Isthmus and the API servers: {report.rss_mb:.0f} MB")
    lines.append(_row("accident", "requests", "failed", "moved", "DNS", "p99 back") + "seen to bite")
    lines += [
        _row(a.name, a.requests, a.failed, _ms(a.moved_ms), _ms(a.dns_ms), _ms(a.settled_ms, "NEVER"))
        + f"{'yes' if a.bit else 'NO'}: {a.what}"
        for a in report.accidents
    ]
    lines += [f"failure: {failure}" for failure in report.failures]
    verdict = "passed: no caller saw a failure" if report.passed else "FAILED"
    return "\n".join([*lines, verdict])


def _row(name: str, requests: object, failed: object, *times: str) -> str:
    return f"{name:<9} {requests:>8} {failed:>6} " + " ".join(f"{time:>8}" for time in times) + "  "


def _ms(value: float | None, none: str = "-") -> str:
    return none if value is None else f"{value:.0f} ms"
