"""The final page in words: what happened, and what callers noticed. Pure: it only reads the report."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from isthmus.demo.report import AccidentReport, Report

PAGE_COLUMNS = 96
_OPENINGS = {
    "silent": "A whole cluster fell silent: {what}, its pods, API server and agent among them.",
    "refused": "Pods died and their ports refused: {what}.",
    "pods dead": "Pods died and their ports refused: {what}.",
    "drained": "An operator took a cluster out of service: {what}.",
    "hub cut": "Nobody reached the hub any more, and the pods of a cluster fell silent: {what}.",
    "killed": "An agent lost its control process: {what}.",
}


def story(report: Report, clusters: Sequence[str], columns: int = PAGE_COLUMNS) -> str:
    """The page, `columns` wide."""
    paragraphs = [
        f"{_listed(clusters)} offered {report.services} services on {report.endpoints} endpoints. "
        f"Their callers sent {report.requests} requests through the Envoys of their own clusters and "
        f"looked up {report.queries} names. Half of the requests were answered within "
        f"{_time(report.latency_ms.p50)}, 99 of 100 within {_time(report.latency_ms.p99)}.",
        *(_accident(accident) for accident in report.accidents),
        _noticed(report),
    ]
    width = max(30, min(columns, PAGE_COLUMNS))
    return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in paragraphs)


def _accident(accident: AccidentReport) -> str:
    opening = _OPENINGS.get(accident.name, "{what}.").format(what=accident.what)
    told = [opening[0].upper() + opening[1:]]
    if accident.moved_ms:
        told.append(f"The last request that felt it came {_time(accident.moved_ms)} after its beginning;")
    else:
        told.append("No request was held up by it;")
    if accident.dns_ms is not None:
        told.append(f"names led nobody there after {_time(accident.dns_ms)};")
    if accident.settled_ms is None:
        told.append("latency did not come back before it was over.")
    elif accident.settled_ms == 0:
        told.append("latency stayed as it was.")
    else:
        told.append(f"latency was back after {_time(accident.settled_ms)}.")
    failed = "None failed" if accident.failed == 0 else f"{accident.failed} FAILED"
    told.append(f"{failed} of {accident.requests} requests.")
    if not accident.bit:
        told.append("Nothing shows that it did what it was meant to.")
    return " ".join(told)


def _noticed(report: Report) -> str:
    if not report.requests:
        return "Callers asked for nothing, so nothing is proven."
    if report.failed or report.queries_failed:
        return (
            f"Callers noticed {report.failed} failed requests of {report.requests} and "
            f"{report.queries_failed} unanswered names of {report.queries}."
        )
    return (
        f"Callers noticed no failure. The slowest of {report.requests} requests took "
        f"{_time(report.slowest_ms)}."
    )


def _listed(clusters: Sequence[str]) -> str:
    if len(clusters) > 6:
        return f"{len(clusters)} clusters"
    return f"{', '.join(clusters[:-1])} and {clusters[-1]}"


def _time(ms: float | None) -> str:
    if ms is None:
        return "no time at all"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
