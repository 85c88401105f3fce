"""What an xDS worker tells monitoring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from isthmus.flow.stats import Metric, Sample
from isthmus.xds.counts import ACK_BOUNDS

if TYPE_CHECKING:
    from isthmus.xds.ads import Ads

STREAMS: Final = Metric(name="isthmus_xds_streams", help="Streams that are open.", kind="gauge")
REFUSED: Final = Metric(
    name="isthmus_xds_streams_refused",
    help="Streams that were refused or ended, by reason.",
    labels=("reason",),
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
ACK_SECONDS: Final = Metric(
    name="isthmus_xds_ack_seconds",
    help="Time from sending a response to its acceptance, by type.",
    kind="histogram",
    labels=("type",),
    bounds=ACK_BOUNDS,
)
UNKNOWN: Final = Metric(
    name="isthmus_xds_unknown_type_requests", help="Requests for types that are not served."
)
METHODS: Final = Metric(name="isthmus_xds_unknown_method_calls", help="Calls of methods that are not served.")
HANDSHAKES: Final = Metric(
    name="isthmus_xds_tls_handshakes",
    help="TLS handshakes begun, also those that came to nothing: garbage, or no certificate.",
)
NAMES: Final = Metric(
    name="isthmus_xds_subscribed_names",
    help="Names in subscriptions, equal sets of several streams counted once.",
    kind="gauge",
)
METRICS: Final = (
    STREAMS,
    REFUSED,
    ROWS,
    CLASSES,
    PUSHES,
    BYTES,
    ACKS,
    NACKS,
    STALE,
    ACK_SECONDS,
    UNKNOWN,
    METHODS,
    HANDSHAKES,
    NAMES,
)


def samples(ads: Ads, rows: int) -> Iterator[Sample]:
    """The worker's numbers now; `rows` is how many it has from control."""
    counts = ads.counts
    yield Sample(STREAMS, (), (float(ads.open_streams),))
    for reason, number in counts.endings.items():
        yield Sample(REFUSED, (reason.value,), (float(number),))
    yield Sample(ROWS, (), (float(rows),))
    yield Sample(CLASSES, (), (float(ads.classes),))
    yield Sample(UNKNOWN, (), (float(counts.unknown),))
    yield Sample(METHODS, (), (float(counts.methods),))
    yield Sample(HANDSHAKES, (), (float(counts.handshakes),))
    yield Sample(NAMES, (), (float(ads.sets.total),))
    for kind, times in counts.ack_seconds.items():
        yield Sample(ACK_SECONDS, (kind.value,), tuple(times))
    for metric, by_type in (
        (PUSHES, counts.pushes),
        (BYTES, counts.bytes),
        (ACKS, counts.acceptances),
        (NACKS, counts.rejections),
        (STALE, counts.stale),
    ):
        for kind, number in by_type.items():
            yield Sample(metric, (kind.value,), (float(number),))
