"""The aggregated discovery protocol, both variants, free of any transport (xDS protocol, "ADS").

Invariants: nothing is sent to a class before its listener is rendered, so a slow control process never looks
like an empty world; a change costs the streams that want what has changed; what was removed is remembered as
long as a client may still be led to it. What one client is owed, and in which order, is in `stream`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from weakref import WeakKeyDictionary

from isthmus.model.names import ClusterId
from isthmus.xds import wire
from isthmus.xds.counts import Counts
from isthmus.xds.holders import Holders
from isthmus.xds.names import NameSets
from isthmus.xds.node import Node
from isthmus.xds.refusal import TooManyClasses
from isthmus.xds.rows import ProxyClass, ResourceType, Row, ready_row
from isthmus.xds.snapshot import Body, Collection, Resource, Scope, Snapshot, Variant
from isthmus.xds.stream import Stream
from isthmus.xds.wants import Wants

REMOVED_SECONDS = 60.0
"""How long a removed cluster is remembered at least."""
MAX_CLASSES = 256
_NAMES_CLUSTERS = {ResourceType.LDS: 2, ResourceType.RDS: 1}
"""Field numbers of what names a cluster: TcpProxy.cluster (and Rds.route_config_name, where routes are named
as their cluster is), RouteAction.cluster."""


class Ads:
    """All streams of a worker and what they are served. `clock` gives seconds, monotonic."""

    def __init__(
        self,
        cluster: ClusterId,
        wants: Wants,
        clock: Callable[[], float],
        sets: NameSets | None = None,
    ) -> None:
        self.cluster = cluster
        self.clock = clock
        self.snapshot = Snapshot()
        self.counts = Counts()
        self.sets = sets or NameSets()
        self.holders = Holders()
        self.looked_up: dict[str, WeakKeyDictionary[Resource, bool]] = {}
        """By cluster that is gone and not forgotten: what is known of leaders to it."""
        self._removed: dict[str, dict[str, tuple[Resource, float]]] = {}
        self._wants = wants
        self._classes: dict[ProxyClass, set[Stream]] = {}
        self._serialised: dict[ResourceType, tuple[Body, str, bytes]] = {}

    def open(
        self,
        write: Callable[[bytes], bool],
        variant: Variant = Variant.SOTW,
        only: ResourceType | None = None,
        admit: Callable[[Node], None] = lambda _node: None,
    ) -> Stream:
        """A new stream. `write` takes one response and says whether more may follow at once."""
        return Stream(self, write, variant, only, admit)

    def apply(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Takes changed rows (None: gone) and sends to every stream what concerns it."""
        now, was_synced = self.clock(), self.snapshot.synced
        self.snapshot.synced = True
        changed, removed = self.snapshot.apply(rows)
        self._remember(changed, removed, now)
        concerned = self._concerned(changed, now) if was_synced else self.streams()
        for stream in list(concerned):
            stream.flush(now)

    def tick(self) -> None:
        """Sends what has waited for an answer long enough, and forgets what is over; once a second."""
        now = self.clock()
        self._serialised.clear()
        for stream in self.streams():
            stream.tick(now)
        self._wants.expire(now)
        self.sets.tick(now)
        for scope, gone in list(self._removed.items()):
            for name in [name for name, (_, since) in gone.items() if now - since >= REMOVED_SECONDS]:
                if not any(name in stream.kept for stream in self.streams()):
                    del gone[name]
                    self.looked_up.pop(name, None)
            if not gone:
                del self._removed[scope]

    def ready(self, row: Row) -> bool:
        """Whether the class is rendered that this is the `ready_row` of."""
        return bool(self.snapshot.collection(row.type, row.scope).resources)

    def collection(self, kind: ResourceType, scopes: Mapping[ResourceType, str]) -> Collection:
        """What proxies of the class with these scopes may see of a type."""
        return self.snapshot.collection(kind, scopes[kind])

    def removed(self, scopes: Mapping[ResourceType, str]) -> Mapping[str, tuple[Resource, float]]:
        """Clusters by name that are gone and may still be routed to, with the time of their removal."""
        return self._removed.get(scopes[ResourceType.CDS], {})

    def leads(self, kind: ResourceType, leader: Resource, cluster: str) -> bool:
        """Whether a listener or a route configuration may lead to that cluster.

        Looked up once, however many streams have it. A listener names clusters of TCP itself, and those of
        HTTP by the routes of the same name.
        """
        known = self.looked_up.get(cluster)
        if known is None:
            known = self.looked_up[cluster] = WeakKeyDictionary()
        found = known.get(leader)
        if found is None:
            number = _NAMES_CLUSTERS[kind]
            found = known[leader] = wire.field(number, cluster) in leader.framed
        return found

    def serialised(self, body: Body, nonce: str) -> bytes:
        """A response's bytes; the same ones for streams that are equally far, which are most of a fleet."""
        known = self._serialised.get(body.kind)
        if known is None or known[0] is not body or known[1] != nonce:
            known = self._serialised[body.kind] = (body, nonce, body.with_nonce(nonce))
        return known[2]

    def streams(self) -> Iterator[Stream]:
        """Every stream that has said who it is."""
        return (stream for streams in self._classes.values() for stream in streams)

    @property
    def open_streams(self) -> int:
        """How many streams have said who they are."""
        return sum(map(len, self._classes.values()))

    @property
    def classes(self) -> int:
        """How many classes of proxies are wanted."""
        return len(self._wants)

    def join(self, stream: Stream, proxy_class: ProxyClass) -> None:
        """Counts a stream in its class. Raises TooManyClasses."""
        if proxy_class not in self._wants and len(self._wants) >= MAX_CLASSES:
            raise TooManyClasses(
                f"more than {MAX_CLASSES} classes of proxies: check their localities and metadata"
            )
        self._classes.setdefault(proxy_class, set()).add(stream)
        self._wants.join(proxy_class)

    def leave(self, stream: Stream, proxy_class: ProxyClass) -> None:
        """Counts a stream out."""
        self._classes[proxy_class].discard(stream)
        if not self._classes[proxy_class]:
            del self._classes[proxy_class]
        self._wants.leave(proxy_class, self.clock())

    def _remember(
        self, changed: dict[Scope, set[str]], removed: list[tuple[Scope, Resource]], now: float
    ) -> None:
        for (kind, scope), resource in removed:
            if kind is ResourceType.CDS:
                self._removed.setdefault(scope, {})[resource.name] = (resource, now)
        for (kind, scope), names in changed.items():
            if kind is ResourceType.CDS and (gone := self._removed.get(scope)) is not None:
                for name in names & self.snapshot.collection(kind, scope).resources.keys():
                    gone.pop(name, None)
                    self.looked_up.pop(name, None)

    def _concerned(self, changed: dict[Scope, set[str]], now: float) -> Iterable[Stream]:
        """Streams that want some of the changes, and are told so; and those of a class that is new."""
        found: dict[Stream, None] = {}
        for (kind, scope), names in changed.items():
            for stream in self.holders.wanting((kind, scope), names):
                stream.changed(kind, names, now)
                found[stream] = None
        listeners = {scope for kind, scope in changed if kind is ResourceType.LDS}
        for proxy_class, streams in self._classes.items() if listeners else ():
            if ready_row(proxy_class).scope in listeners:
                found.update(dict.fromkeys(streams))
        return found
