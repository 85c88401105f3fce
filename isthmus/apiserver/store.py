"""What one cluster stores: objects as encoded bytes, one monotonic revision, a history per resource.

Bytes are the truth, as in etcd: reading costs no decoding, a writer decodes a private copy. Everything is
synchronous on one event loop, so each mutation is atomic. Invariant: a bucket's state at any revision that
its history still reaches can be rebuilt from its present state (`Bucket.at`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from isthmus.apiserver.history import Event, History
from isthmus.apiserver.status import expired

decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You must start a new list without the continue parameter."
)


class Key(NamedTuple):
    """Namespace ("" for cluster scope) and name; orders like the keys of etcd."""

    namespace: str
    name: str


class BucketId(NamedTuple):
    """Group and plural name: all versions of a resource are one bucket."""

    group: str
    plural: str


class Entry:
    """One object at one revision; never changes. Its bytes begin with its type, `body` is where that ends."""

    __slots__ = ("api_version", "body", "deleting", "key", "labels", "owners", "raw", "revision", "uid")

    def __init__(self, obj: dict[str, Any], revision: int) -> None:
        head = {"kind": obj["kind"], "apiVersion": obj["apiVersion"]}
        meta = obj["metadata"]
        meta["resourceVersion"] = str(revision)
        self.key = Key(meta.get("namespace", ""), meta["name"])
        self.revision = revision
        self.api_version: str = obj["apiVersion"]
        self.uid: str = meta["uid"]
        self.labels: dict[str, str] = meta.get("labels") or {}
        self.owners: tuple[str, ...] = tuple(ref["uid"] for ref in meta.get("ownerReferences") or ())
        self.deleting = "deletionTimestamp" in meta
        self.raw = encode({**head, **obj})
        self.body = len(encode(head))

    def untyped(self) -> bytes:
        """The object without kind and apiVersion, as lists of built-in kinds show it."""
        return b"{" + self.raw[self.body :]

    def object(self) -> Any:
        """A private, mutable copy of the object."""
        return decode(self.raw)


class Bucket:
    """All objects of one resource, ordered by key, with their recent history."""

    __slots__ = ("_keys", "entries", "history", "id")

    def __init__(self, id_: BucketId, history: History) -> None:
        self.id = id_
        self.entries: dict[Key, Entry] = {}
        self.history = history
        self._keys: list[Key] = []

    def keys(self, namespace: str = "") -> list[Key]:
        """Keys in order, of one namespace or of all ("")."""
        if not namespace:
            return self._keys
        start = bisect_left(self._keys, Key(namespace, ""))
        return self._keys[start : bisect_left(self._keys, Key(namespace + "\0", ""))]

    def at(self, revision: int, namespace: str = "") -> Iterator[Entry]:
        """Entries in key order as they were at a revision; raises 410 where history does not reach back."""
        try:
            later = self.history.since(revision)
        except LookupError:
            raise expired(_TOO_OLD) from None
        if not later:
            return iter([self.entries[key] for key in self.keys(namespace)])
        past: dict[Key, Entry | None] = {}
        for event in reversed(later):
            past[event.entry.key] = event.previous
        keys = {*self.keys(namespace), *(key for key in past if not namespace or key.namespace == namespace)}
        states = (past[key] if key in past else self.entries[key] for key in sorted(keys))
        return iter([state for state in states if state is not None])

    def put(self, entry: Entry) -> None:
        previous = self.entries.get(entry.key)
        if previous is None:
            insort(self._keys, entry.key)
        self.entries[entry.key] = entry
        event = Event(entry.revision, "ADDED" if previous is None else "MODIFIED", entry, previous)
        self.history.append(event)

    def drop(self, last: Entry) -> None:
        previous = self.entries.pop(last.key)
        del self._keys[bisect_left(self._keys, last.key)]
        self.history.append(Event(last.revision, "DELETED", last, previous))


class Store:
    """Buckets of one cluster under one revision counter, with indexes by uid and by owner."""

    def __init__(self, first_revision: int, *, history_events: int, history_bytes: int) -> None:
        self.revision = first_revision
        self.buckets: dict[BucketId, Bucket] = {}
        self.by_uid: dict[str, tuple[Bucket, Key]] = {}
        self.dependents: dict[str, set[str]] = {}
        """Owner uid to the uids of objects that name it, whether or not the owner exists."""
        self._first_revision = first_revision
        self._history_events = history_events
        self._history_bytes = history_bytes

    def bucket(self, id_: BucketId, *, began: int | None = None) -> Bucket:
        """The bucket of a resource, made at first use, with a history from `began` or the server's start."""
        found = self.buckets.get(id_)
        if found is None:
            floor = self._first_revision if began is None else began
            history = History(floor, events=self._history_events, size=self._history_bytes)
            found = self.buckets[id_] = Bucket(id_, history)
        return found

    def put(self, bucket: Bucket, obj: dict[str, Any]) -> Entry:
        """Store an object (created or changed) under the next revision."""
        self.revision += 1
        entry = Entry(obj, self.revision)
        previous = bucket.entries.get(entry.key)
        if previous is None or previous.owners != entry.owners:
            self._unlink(previous)
            self._link(entry)
        self.by_uid[entry.uid] = (bucket, entry.key)
        bucket.put(entry)
        return entry

    def drop(self, bucket: Bucket, obj: dict[str, Any]) -> Entry:
        """Remove an object under the next revision; `obj` is its last state."""
        self.revision += 1
        last = Entry(obj, self.revision)
        self._unlink(bucket.entries[last.key])
        self.by_uid.pop(last.uid, None)
        bucket.drop(last)
        return last

    def close(self, id_: BucketId) -> None:
        """Forget an empty bucket (its resource is gone); its watches end."""
        bucket = self.buckets.pop(id_, None)
        if bucket is not None:
            bucket.history.close()

    def _link(self, entry: Entry) -> None:
        for owner in entry.owners:
            self.dependents.setdefault(owner, set()).add(entry.uid)

    def _unlink(self, entry: Entry | None) -> None:
        for owner in entry.owners if entry else ():
            uids = self.dependents.get(owner)
            if uids is not None:
                uids.discard(entry.uid if entry else "")
                if not uids:
                    del self.dependents[owner]
