"""What a process counts, as rows: so that control can tell monitoring about its door workers too.

A process counts with plain numbers where things happen. Once a second `Stats` reads them all and writes rows
`metric|label|label` to numbers into a table that is replicated to control (`flow.replica`); what did not
change costs nothing. `agent.workerstats` turns the rows of all processes into Prometheus' text. Values of
labels come from closed sets of ours, never from what somebody sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec

from isthmus.flow.table import Table

STATS: Final = "stats"
"""Name of the replicated table."""
EVERY_SECONDS = 1.0
SOON_SECONDS = 0.1
"""How often a process looks that is not ready yet: readiness shall not wait for the next second."""

Read = Callable[[], Iterable["Sample"]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[float, ...]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A family of numbers. `name` is Prometheus' (a counter's without `_total`), `labels` beside `process`.

    A histogram has `bounds`, the upper ends of its buckets but the last, which has none.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers a sample holds: a histogram's are each bucket's own count, then the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


class Sample(NamedTuple):
    """The numbers of one metric for these values of its labels."""

    metric: Metric
    labels: tuple[str, ...]
    numbers: tuple[float, ...]


READY: Final = Metric(
    name="isthmus_flow_replica_ready",
    help="1 where the process serves from rows that control has confirmed, else 0.",
    kind="gauge",
)


class Stats:
    """Writes what `read()` tells into a table; `prefix` is for a process that writes into control's own."""

    def __init__(self, name: str, table: Table[str, bytes] | None = None, *, prefix: str = "") -> None:
        self.table: Table[str, bytes] = Table(STATS) if table is None else table
        self._writer = self.table.partition(name)
        self._prefix = prefix

    async def run(self, read: Read, ready: Callable[[], bool]) -> None:
        """Writes once a second until cancelled, `READY` too."""
        while True:
            is_ready = ready()
            self.write([Sample(READY, (), (float(is_ready),)), *read()])
            await asyncio.sleep(EVERY_SECONDS if is_ready else SOON_SECONDS)

    def write(self, samples: Iterable[Sample]) -> None:
        """Makes the rows exactly these samples."""
        self._writer.replace(
            {
                f"{self._prefix}{'|'.join((metric.name, *labels))}": _encode(numbers)
                for metric, labels, numbers in samples
            }
        )


def samples(rows: Iterable[tuple[str, bytes]], metrics: Iterable[Metric]) -> Iterator[tuple[str, Sample]]:
    """Process and sample of each row of control's table that is one of these metrics; others are passed over.

    A worker of another version may count other things.
    """
    known = {metric.name: metric for metric in metrics}
    for key, raw in rows:
        process, _, rest = key.partition("/")
        name, *labels = rest.split("|")
        metric = known.get(name)
        if metric is None or len(labels) != len(metric.labels):
            continue
        try:
            numbers = _decode(raw)
        except msgspec.MsgspecError:
            continue
        if len(numbers) == metric.width:
            yield process, Sample(metric, tuple(labels), numbers)
