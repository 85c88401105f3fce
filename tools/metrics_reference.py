"""Writes docs/metrics.md from the registries themselves; with --check, only says whether it is current."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "metrics.md"
HEAD = """\
# Metrics

The table is written by `tools/metrics_reference.py` from the code; do not edit.

An agent tells all of its numbers at `/metrics` of its console (`--console-listen`, by default
`127.0.0.1:9470`), those of its door workers too: each series names the process that counts it, so that
the restart of one worker is a reset of its own series and no other. The hub's process has a console of
its own (`127.0.0.1:9471`). `/healthz` says that the process lives, `/readyz` that it is of use: an agent
is ready once everything is planned and every door worker serves the rows of its control process.

Labels are closed sets. `cluster` alone is as large as the clusterset, and only where something is wrong
with a cluster or counted of it. No label names a service, an endpoint or an address, so the number of
series does not grow with the number of services. Series are there from the start with the value 0; those
of `isthmus_kube_requests_total` from the first request of their kind on, those of `isthmus_mcs_refused`
while it is not 0.

Rules for Prometheus that people should have are in [deploy/alerts](../deploy/alerts/isthmus.rules.yaml);
each of them says what to look at.
"""
FROM = {"agent": "agent", "both": "agent, hub"}


class Family(NamedTuple):
    """What a reader has to know of a metric. `name` is as it is asked for."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    told: str


def families() -> list[Family]:
    """Every metric of every process, by name."""
    sys.path.insert(0, str(ROOT))
    from isthmus.agent import metrics, workerstats
    from isthmus.flow import pulse
    from isthmus.flow.stats import READY

    hub = {metric.name for metric in (*metrics.HUB_METRICS, *pulse.METRICS, READY)}
    found = [*_probes()]
    for first, family in (((), metrics.METRICS), (("process",), workerstats.METRICS)):
        for metric in family:
            name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
            told = FROM["both" if metric.name in hub else "agent"]
            found.append(Family(name, metric.kind, (*first, *metric.labels), metric.help, told))
    return sorted(found)


def _probes() -> Iterator[Family]:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics import MetricWrapperBase

    from isthmus.probes.metrics import Metrics

    registry = CollectorRegistry()
    Metrics(registry)
    for collector in dict.fromkeys(registry._names_to_collectors.values()):
        assert isinstance(collector, MetricWrapperBase)
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Family(name, family.type, tuple(collector._labelnames), family.documentation, FROM["agent"])


def page() -> str:
    """The whole text of docs/metrics.md."""
    lines = ["| metric | type | labels | what it says | of |", "|---|---|---|---|---|"]
    for family in families():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.text} | {family.told} |")
    return HEAD + "\n" + "\n".join(lines) + "\n"


def main() -> int:
    from generated import renew  # found only where this file is run: tests read it from elsewhere

    return renew(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
