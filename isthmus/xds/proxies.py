"""What a worker can tell about its clients: who has what, since when, and what is in the way.

Control asks by a row `proxies` in its table `looks`, whose value is a new text each time; the worker then
makes its table `proxies` hold one row for each client, and a row ANSWERED with that text when all are there.
Cost is paid when somebody asks and not when something changes: a stream keeps no table of what its client
has. What it has is what there is, but for the names that are due, in flight or held back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec

from isthmus.flow.table import Table, Writer
from isthmus.xds.ads import Ads
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Collection, version_text
from isthmus.xds.stream import Stream
from isthmus.xds.subscription import Subscription

LOOKS: Final = "looks"
PROXIES: Final = "proxies"
QUESTION: Final = "proxies"
"""The row of `looks` that asks for clients."""
ANSWERED: Final = "answered"
"""The row of `proxies` that says which question the others answer."""
LINGER_SECONDS = 30.0
AT_ONCE = 50
"""Clients that are described without giving way to others."""
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
        "unknownTypes": sorted(stream.unknown),
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
        "acceptedAt": round(subscription.accepted_at + wall, 3) if accepted is not None else None,
        "ackMs": round(subscription.took * 1000, 3) if accepted is not None else None,
        "rejected": subscription.refusal or "",
        "rejectedAt": round(subscription.refused_at + wall, 3) if subscription.refusal else None,
        "wildcard": names is None,
        "resources": len(known) if names is None else len(names) - len(missing),
        "differs": {
            "due": _told(subscription.due),
            "inFlight": _told(flight),
            "heldBack": {name: version_text(refused[name]) for name in _told(refused)},
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


class Looks:
    """Answers control's questions for as long as they come."""

    def __init__(self, ads: Ads, looks: Table[str, bytes], writer: Writer[str, bytes]) -> None:
        self._ads = ads
        self._looks = looks
        self._writer = writer
        writer.replace({})

    async def run(self) -> None:
        """Answers until cancelled; what nobody asks for again is forgotten after LINGER_SECONDS."""
        changes = cast("AsyncGenerator[frozenset[str], None]", self._looks.changes())
        async with aclosing(changes):
            following = asyncio.ensure_future(anext(changes))
            try:
                while True:
                    done, _ = await asyncio.wait([following], timeout=LINGER_SECONDS)
                    if not done:
                        self._writer.replace({})
                        continue
                    following.result()
                    if (question := self._looks.get(QUESTION)) is not None:
                        await self._answer(question)
                    following = asyncio.ensure_future(anext(changes))
            finally:
                following.cancel()
                await asyncio.wait([following])

    async def _answer(self, question: bytes) -> None:
        rows: dict[str, bytes] = {}
        wall = time.time() - self._ads.clock()
        for number, stream in enumerate(list(self._ads.streams())):
            if stream.node is not None:
                rows[str(number)] = msgspec.json.encode(describe(self._ads, stream, wall))
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)  # health goes first
        self._writer.replace({**rows, ANSWERED: question})
