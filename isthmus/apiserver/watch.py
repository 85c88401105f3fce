"""Watch streams: events of one resource for one client, as JSON lines.

A stream is a cursor over the resource's history; it wakes when something happened and never polls. An object
that enters a selector is ADDED, one that leaves is DELETED with its last matching state. Invariant: a client
that sees the stream end can resume from the last resourceVersion it saw, or learns by 410 that it must list
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator

from isthmus.apiserver.cluster import Cluster, present
from isthmus.apiserver.history import Event, History
from isthmus.apiserver.listing import Query, number
from isthmus.apiserver.resources import Resource
from isthmus.apiserver.status import StatusError, expired
from isthmus.apiserver.store import Entry, encode

_CHUNK = 256 * 1024
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


async def stream(
    cluster: Cluster,
    resource: Resource,
    query: Query,
    *,
    bookmark_seconds: float,
    default_timeout: float,
    check: Callable[[], None] = lambda: None,
) -> AsyncGenerator[bytes, None]:
    """Chunks of whole lines; ends at the query's timeout, when the resource goes, or when cut for slowness.

    `check` is called at every wake; a StatusError it raises becomes the stream's last line.
    """
    bucket = cluster.bucket(resource)
    clock = asyncio.get_running_loop().time
    timeout = default_timeout if query.timeout is None else query.timeout
    ends = clock() + timeout
    cursor = number(query.revision, "resourceVersion")
    if cursor == 0 or query.send_initial:
        cursor = cluster.store.revision
        lines = (line("ADDED", present(entry, resource)) for entry in _current(cluster, resource, query))
        for chunk in chunks(lines):
            yield chunk
        if query.send_initial and query.bookmarks:
            yield bookmark(resource, cursor, initial_end=True)
    marked = clock() + bookmark_seconds if query.bookmarks else ends
    while True:
        try:
            check()
            events = bucket.history.since(cursor)
        except LookupError:
            yield error(expired(f"too old resource version: {cursor} ({bucket.history.floor})"))
            return
        except StatusError as refusal:
            yield error(refusal)
            return
        if events:
            cursor = events[-1].revision
            for chunk in chunks(_lines(events, resource, query)):
                yield chunk
            continue
        if bucket.history.closed:
            return
        if clock() >= ends:
            if query.bookmarks and cluster.store.revision >= cursor:
                yield bookmark(resource, cluster.store.revision)
            return
        if clock() >= marked:
            marked = clock() + bookmark_seconds
            # A watch from a version of the future is told nothing until that is reached, as by the real ones.
            if cluster.store.revision >= cursor:
                cursor = cluster.store.revision
                yield bookmark(resource, cursor)
            continue
        await _changed(bucket.history, min(ends, marked), clock)


async def _changed(history: History, deadline: float, clock: Callable[[], float]) -> None:
    """Wait for an event, at most until a moment of the loop's clock."""
    future = history.changed()
    try:
        await asyncio.wait((future,), timeout=max(0.0, deadline - clock()))
    finally:
        future.cancel()


def _current(cluster: Cluster, resource: Resource, query: Query) -> list[Entry]:
    bucket = cluster.bucket(resource)
    entries = (bucket.entries[key] for key in bucket.keys(query.namespace))
    return [each for each in entries if _selects(query, each)]


def _selects(query: Query, entry: Entry) -> bool:
    if query.namespace and entry.key.namespace != query.namespace:
        return False
    return query.selector.matches(entry.key.namespace, entry.key.name, entry.labels)


def _lines(events: list[Event], resource: Resource, query: Query) -> Iterator[bytes]:
    for event in events:
        if query.namespace and event.entry.key.namespace != query.namespace:
            continue
        if query.selector.everything:
            yield line(event.type, present(event.entry, resource))
            continue
        before = event.previous is not None and _selects(query, event.previous)
        after = event.type != "DELETED" and _selects(query, event.entry)
        if after:
            yield line("MODIFIED" if before else "ADDED", present(event.entry, resource))
        elif before and event.type == "DELETED":
            yield line("DELETED", present(event.entry, resource))
        elif before and event.previous is not None:
            left = event.previous.object()
            yield line("DELETED", present(Entry(left, event.revision), resource))


def line(type_: str, raw: bytes) -> bytes:
    """One event as the wire has it."""
    return b'{"type":"%b","object":%b}\n' % (type_.encode(), raw)


def error(cause: StatusError) -> bytes:
    """The last line of a stream that cannot go on."""
    return line("ERROR", encode(cause.object()))


def bookmark(resource: Resource, revision: int, *, initial_end: bool = False) -> bytes:
    """A line that only moves the client's resourceVersion."""
    meta: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_end:
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    return line(
        "BOOKMARK", encode({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta})
    )


def chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines joined to chunks of moderate size, so that a large replay is never one allocation."""
    held: list[bytes] = []
    size = 0
    for each in lines:
        held.append(each)
        size += len(each)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
