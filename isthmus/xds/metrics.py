"""What an xDS worker tells monitoring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from isthmus.flow.stats import Metric, Sample

if TYPE_CHECKING:
    from isthmus.xds.ads import Ads

STREAMS: Final = Metric(name="isthmus_xds_streams", help="Streams that are open.", kind="gauge")
REFUSED: Final = Metric(
    name="isthmus_xds_streams_refused",
    help="Streams that were ended: one too many, or one that broke the protocol.",
)
ROWS: Final = Metric(name="isthmus_xds_rows", help="Rows that control has rendered.", kind="gauge")
CLASSES: Final = Metric(
    name="isthmus_xds_proxy_classes", help="Classes of proxies that are rendered for.", kind="gauge"
)
PUSHES: Final = Metric(name="isthmus_xds_pushes", help="Responses sent, by type.", labels=("type",))
BYTES: Final = Metric(name="isthmus_xds_pushed_bytes", help="Bytes of responses, by type.", labels=("type",))
ACKS: Final = Metric(
    name="isthmus_xds_acks", help="Responses that a client accepted, by type.", labels=("type",)
)
NACKS: Final = Metric(
    name="isthmus_xds_nacks", help="Responses that a client rejected, by type.", labels=("type",)
)
STALE: Final = Metric(
    name="isthmus_xds_stale_requests",
    help="Requests that answered an older response than the last one, by type.",
    labels=("type",),
)
METRICS: Final = (STREAMS, REFUSED, ROWS, CLASSES, PUSHES, BYTES, ACKS, NACKS, STALE)


def samples(ads: Ads, rows: int) -> Iterator[Sample]:
    """The worker's numbers now; `rows` is how many it has from control."""
    counts = ads.counts
    yield Sample(STREAMS, (), (float(ads.open_streams),))
    yield Sample(REFUSED, (), (float(counts.refused),))
    yield Sample(ROWS, (), (float(rows),))
    yield Sample(CLASSES, (), (float(ads.classes),))
    for metric, by_type in (
        (PUSHES, counts.pushes),
        (BYTES, counts.bytes),
        (ACKS, counts.acceptances),
        (NACKS, counts.rejections),
        (STALE, counts.stale),
    ):
        for kind, number in by_type.items():
            yield Sample(metric, (kind.value,), (float(number),))
