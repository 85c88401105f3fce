"""Rows of all processes become Prometheus' text, and say whether the doors are ready."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from isthmus.agent.workerstats import collect, not_ready
from isthmus.flow import Table
from isthmus.flow.stats import READY, STATS, Metric, Sample, Stats

PUSHES = Metric(name="isthmus_test_pushes", help="Pushes.", labels=("type",))
TIME = Metric(name="isthmus_test_seconds", help="Time.", kind="histogram", bounds=(0.1, 1.0))


def test_every_series_names_its_process_and_histograms_are_cumulative() -> None:
    table: Table[str, bytes] = Table(STATS)
    registry = CollectorRegistry()
    collect(table, registry, [PUSHES, TIME])
    for name, pushes in (("xds-0", 3.0), ("xds-1", 5.0)):
        Stats(name, table, prefix=f"{name}/").write(
            [Sample(PUSHES, ("cds",), (pushes,)), Sample(TIME, (), (1.0, 2.0, 4.0, 9.5))]
        )
    families = {family.name: family for family in text_string_to_metric_families(_text(registry))}
    assert [(one.labels, one.value) for one in families["isthmus_test_pushes"].samples] == [
        ({"process": "xds-0", "type": "cds"}, 3.0),
        ({"process": "xds-1", "type": "cds"}, 5.0),
    ]
    buckets = [
        (one.name, one.labels.get("le"), one.value)
        for one in families["isthmus_test_seconds"].samples
        if one.labels["process"] == "xds-1"
    ]
    assert buckets == [
        ("isthmus_test_seconds_bucket", "0.1", 1.0),
        ("isthmus_test_seconds_bucket", "1.0", 3.0),
        ("isthmus_test_seconds_bucket", "+Inf", 7.0),
        ("isthmus_test_seconds_count", None, 7.0),
        ("isthmus_test_seconds_sum", None, 9.5),
    ]


def test_the_doors_are_ready_when_every_worker_serves_and_is_there() -> None:
    table: Table[str, bytes] = Table(STATS)
    workers = {name: table.partition(f"worker {name}") for name in ("dns-0", "xds-0")}

    def tell(name: str, ready: float) -> None:
        rows = Stats(name, prefix=f"{name}/")
        rows.write([Sample(READY, (), (ready,))])
        workers[name].replace(dict(rows.table.items()))

    missing = "{} does not serve the rows of control yet".format
    assert not_ready(table, workers) == [missing("dns-0"), missing("xds-0")]
    tell("dns-0", 1.0)
    tell("xds-0", 0.0)
    assert not_ready(table, workers) == [missing("xds-0")]
    tell("xds-0", 1.0)
    assert not_ready(table, workers) == []
    workers["dns-0"].stale(1.0)  # its connection is gone, its last rows stay for a while
    assert not_ready(table, workers) == [missing("dns-0")]


def _text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()
