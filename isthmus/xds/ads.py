"""The aggregated discovery protocol, state of the world, free of any transport (xDS protocol, "ADS").

Invariants: nothing is sent to a class before its listener is rendered, so a slow control process never looks
like an empty world; clusters go before assignments before listeners before routes; a changed cluster's
assignment is sent again behind it (else the cluster warms until it gives up waiting); a removed cluster stays
until the client has accepted routes without it; a slow client costs the newest state and no queue. Nothing
here waits: health reaches a client in the same turn of the loop in which its row arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from isthmus.errors import WireError
from isthmus.model.names import ClusterId
from isthmus.xds import wire
from isthmus.xds.node import Node, read_node
from isthmus.xds.request import Request, RequestReader
from isthmus.xds.rows import EVERYBODY, ProxyClass, ResourceType, ready_row, scope_of
from isthmus.xds.snapshot import TYPE_URLS, Collection, Resource, Scope, Snapshot
from isthmus.xds.subscription import Subscription
from isthmus.xds.wants import Wants

log = structlog.get_logger()

ACK_SECONDS = 5.0
"""How long newer state waits for an answer to what was sent (Envoy answers CDS once it has warmed)."""
ORDER_SECONDS = 5.0
"""How long listeners and routes wait for clusters to be accepted."""
REMOVED_SECONDS = 60.0
"""How long a removed cluster is remembered at least."""
MAX_CLASSES = 256
_KINDS = {url: kind for kind, url in TYPE_URLS.items()}


def _zeros() -> dict[ResourceType, int]:
    return dict.fromkeys(ResourceType, 0)


@dataclass(slots=True)
class Counts:
    """What happened since the start, by type."""

    pushes: dict[ResourceType, int] = field(default_factory=_zeros)
    bytes: dict[ResourceType, int] = field(default_factory=_zeros)
    acceptances: dict[ResourceType, int] = field(default_factory=_zeros)
    rejections: dict[ResourceType, int] = field(default_factory=_zeros)
    stale: dict[ResourceType, int] = field(default_factory=_zeros)
    refused: int = 0
    """Streams that were ended: one too many, or one that broke the protocol."""


class Ads:
    """All streams of a worker and what they are served. `clock` gives seconds, monotonic."""

    def __init__(self, cluster: ClusterId, wants: Wants, clock: Callable[[], float]) -> None:
        self.cluster = cluster
        self.clock = clock
        self.snapshot = Snapshot()
        self.counts = Counts()
        self.removed: dict[str, tuple[Resource, float]] = {}
        """Clusters that are gone and may still be routed to, with the time of their removal."""
        self._wants = wants
        self._classes: dict[ProxyClass, set[Stream]] = {}
        self._leads: WeakKeyDictionary[Resource, dict[str, bool]] = WeakKeyDictionary()

    def open(self, write: Callable[[bytes], bool]) -> Stream:
        """A new stream. `write` takes one response and says whether more may follow at once."""
        return Stream(self, write)

    def apply(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Takes changed rows (None: gone) and sends to every stream what concerns it."""
        now, was_synced = self.clock(), self.snapshot.synced
        self.snapshot.synced = True
        changed, removed = self.snapshot.apply(rows)
        for (kind, scope), resource in removed:
            if (kind, scope) == (ResourceType.CDS, EVERYBODY):
                self.removed[resource.name] = (resource, now)
        for name in changed.get((ResourceType.CDS, EVERYBODY), ()):
            if name in self.collection(ResourceType.CDS, None).resources:
                self.removed.pop(name, None)
        for proxy_class, streams in self._classes.items():
            concerns = _concerns(changed, proxy_class)
            for stream in streams if concerns or not was_synced else ():
                stream.changed(concerns, now)
                stream.flush(now)

    def tick(self) -> None:
        """Sends what has waited for an answer long enough, and forgets what is over; once a second."""
        now = self.clock()
        for streams in self._classes.values():
            for stream in streams:
                stream.flush(now)
        self._wants.expire(now)
        for name in [n for n, (_, since) in self.removed.items() if now - since >= REMOVED_SECONDS]:
            if not any(name in stream.kept for streams in self._classes.values() for stream in streams):
                del self.removed[name]

    def ready(self, proxy_class: ProxyClass) -> bool:
        """Whether that class is rendered."""
        row = ready_row(proxy_class)
        return self.snapshot.synced and bool(self.snapshot.collection(row.type, row.scope).resources)

    def collection(self, kind: ResourceType, proxy_class: ProxyClass | None) -> Collection:
        """What proxies of that class (None: all) may see of a type."""
        scope = EVERYBODY if proxy_class is None else scope_of(kind, proxy_class)
        return self.snapshot.collection(kind, scope)

    def leads(self, routes: Resource, cluster: str) -> bool:
        """Whether these routes may lead to that cluster; looked up once, however many streams have them."""
        known = self._leads.setdefault(routes, {})
        found = known.get(cluster)
        if found is None:
            found = known[cluster] = wire.field(1, cluster) in routes.framed
        return found

    def streams(self) -> list[dict[str, Any]]:
        """For people: every stream with its node, class, accepted versions and rejections by type."""
        return [stream.describe() for streams in self._classes.values() for stream in streams]

    @property
    def open_streams(self) -> int:
        """How many streams have said who they are."""
        return sum(map(len, self._classes.values()))

    @property
    def classes(self) -> int:
        """How many classes of proxies are wanted."""
        return len(self._wants)

    def join(self, stream: Stream, proxy_class: ProxyClass) -> None:
        """Counts a stream in its class. Raises WireError when there are too many classes."""
        if proxy_class not in self._wants and len(self._wants) >= MAX_CLASSES:
            raise WireError(
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


class Stream:
    """One client. `request` takes its bytes, `drained` says that it can take more of ours."""

    def __init__(self, ads: Ads, write: Callable[[bytes], bool]) -> None:
        self.node: Node | None = None
        self.kept: frozenset[str] = frozenset()
        """Clusters that are gone and that this client still has."""
        self._ads = ads
        self._write = write
        self._reader = RequestReader()
        self._subscriptions: dict[ResourceType, Subscription] = {}
        self._routes: dict[str, Resource] = {}
        self._responses = 0
        self._blocked = False

    def request(self, data: bytes) -> None:
        """Takes one serialised DiscoveryRequest. Raises WireError when it is none."""
        request, message = self._reader.read(data)
        now = self._ads.clock()
        if self.node is None:
            node = read_node(message.node, self._ads.cluster)
            self._ads.join(self, node.proxy_class)
            self.node = node
            log.info("xds stream opened", node=node.id, proxy_class=str(node.proxy_class))
        kind = _KINDS.get(request.type_url)
        if kind is None:
            return
        subscription = self._subscriptions.get(kind)
        if subscription is None:
            subscription = self._subscriptions[kind] = Subscription(kind, now)
        elif request.nonce != subscription.nonce:
            self._ads.counts.stale[kind] += 1
            self._reader.forget(request.type_url)
            return
        self._answered(subscription, request, now)
        self.flush(now)

    def changed(self, names: dict[ResourceType, set[str]], now: float) -> None:
        """Notes resources of this stream's class that have changed."""
        for kind, changed in names.items():
            if (subscription := self._subscriptions.get(kind)) is not None:
                subscription.mark(changed, now)

    def drained(self) -> None:
        """The transport can take more."""
        self._blocked = False
        self.flush(self._ads.clock())

    def flush(self, now: float) -> None:
        """Sends what is due and may go now, in order of types."""
        if self._blocked or self.node is None or not self._ads.ready(self.node.proxy_class):
            return
        for kind in ResourceType:
            subscription = self._subscriptions.get(kind)
            if subscription is None or not subscription.waiting or self._held_back(subscription, now):
                continue
            if not self._send(subscription, self.node.proxy_class, now):
                return

    def close(self) -> None:
        """The client is gone."""
        if self.node is not None:
            self._ads.leave(self, self.node.proxy_class)
            log.info("xds stream closed", node=self.node.id)
            self.node = None

    def describe(self) -> dict[str, Any]:
        """For people: see `Ads.streams`."""
        assert self.node is not None
        return {
            "node": self.node.id,
            "class": str(self.node.proxy_class),
            "types": {
                kind.value: {
                    "accepted": subscription.accepted.version if subscription.accepted else "",
                    "pending": subscription.waiting or subscription.in_flight is not None,
                    "rejected": subscription.refusal or "",
                }
                for kind, subscription in self._subscriptions.items()
            },
        }

    def _answered(self, subscription: Subscription, request: Request, now: float) -> None:
        kind, was = subscription.kind, subscription.refusal
        in_flight = subscription.in_flight is not None
        accepted = subscription.take(request, now)
        if in_flight and request.error is not None:
            self._ads.counts.rejections[kind] += 1
            if request.error != was:
                node = self.node.id if self.node else ""
                log.warning("xds rejected", node=node, type=kind.value, reason=request.error)
        if accepted is None:
            return
        self._ads.counts.acceptances[kind] += 1
        if kind is ResourceType.RDS:
            self._routes.update((resource.name, resource) for resource in accepted.resources)
            if released := self.kept - {resource.name for resource in self._keep()}:
                self._subscriptions[ResourceType.CDS].mark(set(released), now)

    def _held_back(self, subscription: Subscription, now: float) -> bool:
        if subscription.in_flight is not None and now - subscription.sent_at < ACK_SECONDS:
            return True
        clusters = self._subscriptions.get(ResourceType.CDS)
        if subscription.kind in (ResourceType.CDS, ResourceType.EDS) or clusters is None:
            return False
        since = now if subscription.due_since is None else subscription.due_since
        return (clusters.waiting or clusters.in_flight is not None) and now - since < ORDER_SECONDS

    def _send(self, subscription: Subscription, proxy_class: ProxyClass, now: float) -> bool:
        """Sends what is due of one type; says whether the transport can take more."""
        kept = self._keep() if subscription.kind is ResourceType.CDS else []
        if subscription.kind is ResourceType.CDS:
            self.kept = frozenset(resource.name for resource in kept)
        changed = None if subscription.first or subscription.grown else set(subscription.due)
        body = subscription.body(self._ads.collection(subscription.kind, proxy_class), kept)
        if body is None:
            subscription.settled()
            return True
        self._responses += 1
        nonce = f"{self._responses:x}"
        subscription.sent(body, nonce, now)
        self._ads.counts.pushes[subscription.kind] += 1
        data = body.with_nonce(nonce)
        self._ads.counts.bytes[subscription.kind] += len(data)
        self._blocked = not self._write(data)
        if subscription.kind is ResourceType.CDS:
            self._repeat_assignments(changed, now)
        return not self._blocked

    def _repeat_assignments(self, changed: set[str] | None, now: float) -> None:
        """Changed clusters (None: perhaps all) warm up again and wait for their assignments."""
        assignments = self._subscriptions.get(ResourceType.EDS)
        if assignments is not None and not assignments.first:
            assignments.mark(set(assignments.names or ()) if changed is None else changed, now)

    def _keep(self) -> list[Resource]:
        """Removed clusters that routes of this client, or those it is about to get, still name."""
        routes = self._subscriptions.get(ResourceType.RDS)
        if not self._ads.removed or routes is None or self.node is None:
            return []
        named = list(self._routes.values())
        if routes.in_flight is not None:
            named += routes.in_flight.resources
        coming = self._ads.collection(ResourceType.RDS, self.node.proxy_class).resources
        named += [resource for name, resource in coming.items() if routes.wants(name)]
        return [
            resource
            for name, (resource, _) in sorted(self._ads.removed.items())
            if any(self._ads.leads(route, name) for route in named)
        ]


def _concerns(changed: dict[Scope, set[str]], proxy_class: ProxyClass) -> dict[ResourceType, set[str]]:
    """Changed names by type, as far as proxies of that class may see them."""
    return {
        kind: names
        for kind in ResourceType
        if (names := changed.get((kind, scope_of(kind, proxy_class)))) is not None
    }
