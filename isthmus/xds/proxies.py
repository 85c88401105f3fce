"""What a worker can tell about its clients: who has what, since when, and what is in the way.

Cost is paid when somebody asks and not when something changes: a stream keeps no table of what its client
has. What it has is what there is, but for the names that are due, in flight or held back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.xds.ads import Ads
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Collection, version_text
from isthmus.xds.stream import Stream
from isthmus.xds.subscription import Subscription

MOST_NAMES = 50
"""Names told in each list."""


def describe(ads: Ads, stream: Stream, wall: float) -> dict[str, Any]:
    """One client. `wall` is to be added to times of the streams' clock to get Unix seconds."""
    assert stream.node is not None
    return {
        "node": stream.node.id,
        "class": str(stream.node.proxy_class),
        "peer": stream.peer,
        "identity": stream.identity,
        "variant": stream.variant.value,
        "since": round(stream.opened_at + wall, 3),
        "unknown_types": sorted(stream.unknown),
        "types": {
            kind.value: _type(subscription, ads.collection(kind, stream.scopes), stream.kept, wall)
            for kind, subscription in sorted(stream.subscriptions.items())
        },
    }


def described(ads: Ads, wall: float) -> Iterable[dict[str, Any]]:
    """All clients."""
    return (describe(ads, stream, wall) for stream in ads.streams())


def _type(
    subscription: Subscription, collection: Collection, kept: frozenset[str], wall: float
) -> dict[str, Any]:
    known, names = collection.resources, subscription.names
    accepted = subscription.accepted
    flight = (
        [resource.name for resource in subscription.in_flight.resources] if subscription.in_flight else []
    )
    missing = [] if names is None else [name for name in names if name not in known]
    refused = subscription.quarantine.refused
    return {
        "state": _state(subscription),
        "accepted": accepted.version if accepted is not None else "",
        "accepted_at": round(subscription.accepted_at + wall, 3) if accepted is not None else None,
        "ack_ms": round(subscription.took * 1000, 3) if accepted is not None else None,
        "rejected": subscription.refusal or "",
        "rejected_at": round(subscription.refused_at + wall, 3) if subscription.refusal else None,
        "wildcard": names is None,
        "resources": len(known) if names is None else len(names) - len(missing),
        "differs": {
            "due": _told(subscription.due),
            "in_flight": _told(flight),
            "held_back": {name: version_text(refused[name]) for name in _told(refused)},
            "missing": _told(missing),
            "kept": _told(kept) if subscription.kind is ResourceType.CDS else [],
        },
    }


def _state(subscription: Subscription) -> str:
    """In one word, as CSDS says it: what is sent and not answered is not accepted."""
    if subscription.refusal is not None:
        return "rejected"
    if subscription.waiting or subscription.in_flight is not None:
        return "pending"
    return "accepted" if subscription.accepted is not None else "requested"


def _told(names: Iterable[str] | Mapping[str, object]) -> list[str]:
    return sorted(names)[:MOST_NAMES]
