"""The numbers of all processes of the agent, for the console's `/metrics`.

Each door worker publishes what it counts in the table `stats` (`flow.stats`), control writes its own rows
beside theirs. Every series is labelled with its process and none is summed: so a worker's restart is a reset
of its own series, which monitoring understands, and a restart of control is none at all.

A door declares its metrics as `METRICS` in a module of its own and reads its counters into `Sample`s; in its
worker stand `Stats(name)`, its table among those the `Replica` publishes, and `stats.run(read, ready)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from isthmus.dns import metrics as dns
from isthmus.flow import Table, pulse
from isthmus.flow.stats import READY, Metric, Read, Sample, samples
from isthmus.xds import metrics as xds

METRICS: tuple[Metric, ...] = (READY, *pulse.METRICS, *dns.METRICS, *xds.METRICS)
"""Everything that processes of an agent count in rows; a door adds its own."""

_READY = Sample(READY, (), (1.0,))

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Readings(Collector):
    """Metrics that are read when they are asked for, at no cost before.

    `read` gives samples, each with the values of the labels `first`, which stand before a metric's own.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        metrics: Iterable[Metric],
        read: Callable[[], Iterable[tuple[tuple[str, ...], Sample]]],
        first: tuple[str, ...] = (),
    ) -> None:
        self._metrics = tuple(metrics)
        self._read = read
        self._first = first
        registry.register(self)

    def describe(self) -> Iterator[Family]:
        return (_family(metric, self._first) for metric in self._metrics)

    def collect(self) -> Iterator[Family]:
        families = {metric: _family(metric, self._first) for metric in self._metrics}
        for labels, sample in sorted(self._read(), key=_order):
            _add(families[sample.metric], labels, sample)
        yield from families.values()


def collect(
    table: Table[str, bytes], registry: CollectorRegistry, metrics: Iterable[Metric] = METRICS
) -> None:
    """Shows the rows of all processes in that table."""
    known = tuple(metrics)

    def read() -> Iterator[tuple[tuple[str, ...], Sample]]:
        return (((process,), sample) for process, sample in samples(table.items(), known))

    Readings(registry, known, read, ("process",))


def show(registry: CollectorRegistry, metrics: Iterable[Metric], read: Read) -> None:
    """Shows samples of this process, as they are read."""
    Readings(registry, metrics, lambda: (((), sample) for sample in read()))


def not_ready(table: Table[str, bytes], workers: Iterable[str]) -> list[str]:
    """Why the doors are not ready, in words: which of these workers do not serve control's rows now."""
    ready = {process for process, sample in samples(table.items(), (READY,)) if sample == _READY}
    gone = {owner.removeprefix("worker ") for owner in table.stale}
    return [f"{name} does not serve the rows of control yet" for name in workers if name not in ready - gone]


def _order(row: tuple[tuple[str, ...], Sample]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    labels, sample = row
    return sample.metric.name, labels, sample.labels


def _family(metric: Metric, first: tuple[str, ...]) -> Family:
    labels = [*first, *metric.labels]
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.name, metric.help, labels=labels)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.help, labels=labels)
        case "histogram":
            return HistogramMetricFamily(metric.name, metric.help, labels=labels)


def _add(family: Family, first: tuple[str, ...], sample: Sample) -> None:
    labels = [*first, *sample.labels]
    if isinstance(family, HistogramMetricFamily):
        *counts, total = sample.numbers
        bounds = [*map(floatToGoString, sample.metric.bounds), "+Inf"]
        reached, buckets = 0.0, []
        for bound, count in zip(bounds, counts, strict=True):
            reached += count
            buckets.append((bound, reached))
        family.add_metric(labels, buckets, total)
    else:
        family.add_metric(labels, sample.numbers[0])
