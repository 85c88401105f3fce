"""One client's stream of either variant of the protocol, for all types or for one.

Invariants: clusters go before assignments before listeners before routes; a changed cluster's assignment is
sent again behind it (else the cluster warms until it gives up waiting); a removed cluster stays, and so does
its assignment, until the client has accepted routes and listeners without it; a slow client costs the newest
state and a few responses that it has not answered (MOST_LATE), and no queue. Nothing here waits: health
reaches a client in the same turn of the loop in which its row arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Collection as Some
from typing import TYPE_CHECKING

import structlog

from isthmus.errors import WireError
from isthmus.xds.delta import Delta
from isthmus.xds.node import Node, read_node
from isthmus.xds.request import DeltaRequest, Request, RequestReader, read_delta
from isthmus.xds.rows import ResourceType, Row, ready_row, scope_of
from isthmus.xds.snapshot import TYPE_URLS, Body, Resource, Variant
from isthmus.xds.subscription import FULL_STATE, Sotw, Subscription

if TYPE_CHECKING:
    from isthmus.xds.ads import Ads

log = structlog.get_logger()

ACK_SECONDS = 5.0
"""How long newer state waits for an answer to what was sent (Envoy answers CDS once it has warmed)."""
ORDER_SECONDS = 5.0
"""How long listeners and routes wait for clusters to be accepted, and removals on a new stream for routes."""
MOST_UNKNOWN = 32
"""Types that are not served, remembered by stream for people."""
LEADING = (ResourceType.LDS, ResourceType.RDS)
"""Types that name clusters: listeners those of captured connections, routes those of requests."""
_KINDS = {url: kind for kind, url in TYPE_URLS.items()}


class Stream:
    """One client. `request` takes its bytes, `drained` says that it can take more of ours.

    `only` is the type of a service of its own (CDS, EDS, LDS or RDS); None: aggregated. `admit` is asked when
    the client says who it is, and raises WireError where it may not come.
    """

    __slots__ = (
        "_admit",
        "_ads",
        "_blocked",
        "_in_order",
        "_leading",
        "_reader",
        "_ready",
        "_responses",
        "_warming",
        "_write",
        "identity",
        "kept",
        "node",
        "only",
        "opened_at",
        "peer",
        "scopes",
        "subscriptions",
        "unknown",
        "variant",
    )

    def __init__(
        self,
        ads: Ads,
        write: Callable[[bytes], bool],
        variant: Variant = Variant.SOTW,
        only: ResourceType | None = None,
        admit: Callable[[Node], None] = lambda _node: None,
    ) -> None:
        self.node: Node | None = None
        self.peer = ""
        """Its address, for people."""
        self.identity = ""
        """Who its certificate says it is, for people."""
        self.variant = variant
        self.only = only
        self.opened_at = ads.clock()
        self.kept: frozenset[str] = frozenset()
        """Clusters that are gone and that this client still has."""
        self.scopes: Mapping[ResourceType, str] = {}
        """Where this client finds resources of each type."""
        self.subscriptions: dict[ResourceType, Subscription] = {}
        self._in_order: list[Subscription] = []
        self.unknown: set[str] = set()
        """Types that the client asked for and that are not served."""
        self._ads = ads
        self._write = write
        self._admit = admit
        self._reader = RequestReader(ads.sets)
        self._ready: Row | None = None
        """What is there as soon as everything is rendered for this client; None until it says who it is."""
        self._leading: dict[ResourceType, dict[str, Resource]] = {kind: {} for kind in LEADING}
        """Routes and listeners that the client has accepted: what may lead it to a cluster."""
        self._warming: frozenset[str] = frozenset()
        """Clusters that changed for a client that came back and has not asked for assignments yet."""
        self._responses = 0
        self._blocked = False

    def request(self, data: bytes) -> None:
        """Takes one serialised request. Raises WireError when it is none."""
        request: Request | DeltaRequest
        if self.variant is Variant.SOTW:
            request = self._reader.read(data)
        else:
            request = read_delta(data, self._ads.sets)
        now = self._ads.clock()
        if self.node is None:
            node = read_node(request.node, self._ads.cluster)
            self._admit(node)
            self._ads.join(self, node.proxy_class)
            self.node = node
            self._ready = ready_row(node.proxy_class)
            self.scopes = {kind: scope_of(kind, node.proxy_class) for kind in ResourceType}
            log.debug("xds stream opened", node=node.id)
        kind = self._kind(request.type_url)
        if kind is None:
            return
        subscription = self.subscriptions.get(kind)
        if subscription is None:
            made: Subscription = (Sotw if self.variant is Variant.SOTW else Delta)(kind, self._ads.sets, now)
            subscription = self.subscriptions[kind] = made
            self._in_order = [self.subscriptions[one] for one in ResourceType if one in self.subscriptions]
            self._ads.holders.join((kind, self.scopes[kind]), made.interest, self)
        elif request.nonce == subscription.nonce:
            if subscription.in_flight is not None:
                self._answered(subscription, request.error, now)
        elif request.nonce or isinstance(subscription, Sotw):
            self._ads.counts.stale[kind] += 1
            heard = self._answered_late(subscription, request.nonce, request.error, now)
            if isinstance(subscription, Sotw):
                self._reader.forget(request.type_url)
                if heard:
                    self.flush(now)
                return
        wanted = subscription.interest
        if isinstance(subscription, Sotw):
            assert isinstance(request, Request)
            subscription.subscribe(request, now)
        else:
            assert isinstance(subscription, Delta)
            assert isinstance(request, DeltaRequest)
            subscription.subscribe(request, now)
            if kind is ResourceType.EDS and self._warming:
                subscription.renew(self._warming, now)
                self._warming = frozenset()
        if subscription.interest is not wanted:
            scope = (kind, self.scopes[kind])
            self._ads.holders.leave(scope, wanted, self)
            self._ads.holders.join(scope, subscription.interest, self)
        self.flush(now)

    def changed(self, kind: ResourceType, names: Some[str], now: float) -> None:
        """Notes resources of this stream's class that have changed, some of which it wants."""
        self.subscriptions[kind].mark(names, now)

    def drained(self) -> None:
        """The transport can take more."""
        self._blocked = False
        self.flush(self._ads.clock())

    def flush(self, now: float) -> None:
        """Sends what is due and may go now, in order of types."""
        if self._blocked:
            return
        for subscription in self._in_order:
            if not subscription.waiting or self._held_back(subscription, now):
                continue
            if self._ready is None or not self._ads.ready(self._ready):
                return
            if not self._send(subscription, now):
                return

    def tick(self, now: float) -> None:
        """What only time brings: waiting that is over."""
        if self.kept:
            self._release(now)
        self.flush(now)

    def close(self) -> None:
        """The client is gone."""
        if self.node is not None:
            for kind, subscription in self.subscriptions.items():
                self._ads.holders.leave((kind, self.scopes[kind]), subscription.interest, self)
            self._ads.leave(self, self.node.proxy_class)
            log.debug("xds stream closed", node=self.node.id)
            self.node = None

    def _kind(self, type_url: str) -> ResourceType | None:
        """The type of a request, None for one that is not served. Raises WireError for the wrong one."""
        if self.only is None:
            kind = _KINDS.get(type_url)
            if kind is None:
                self._ads.counts.unknown += 1
                if len(self.unknown) < MOST_UNKNOWN:
                    self.unknown.add(type_url[:200])
            return kind
        if type_url not in ("", TYPE_URLS[self.only]):
            raise WireError(f"{type_url[:200]} was asked of the service for {self.only.value}")
        return self.only

    def _answered(self, subscription: Subscription, error: str | None, now: float) -> None:
        was = subscription.refusal
        accepted = subscription.answered(error, now)
        if error is not None:
            self._rejected(subscription.kind, error, was)
        else:
            assert accepted is not None
            self._accepted(subscription, accepted, now)

    def _answered_late(self, subscription: Subscription, nonce: str, error: str | None, now: float) -> bool:
        """An answer to a response that newer ones have overtaken; says whether it told anything."""
        was = subscription.refusal
        if error is not None:
            if not subscription.refused_late(nonce, error, now):
                return False
            self._rejected(subscription.kind, error, was)
        else:
            if (accepted := subscription.accepted_late(nonce, now)) is None:
                return False
            self._accepted(subscription, accepted, now)
        return True

    def _rejected(self, kind: ResourceType, error: str, was: str | None) -> None:
        """Counts a rejection, and tells of it where the one before it had another text (`was`) or none."""
        self._ads.counts.rejections[kind] += 1
        if error != was:
            node = self.node.id if self.node else ""
            log.warning("xds rejected", node=node, type=kind.value, reason=error)

    def _accepted(self, subscription: Subscription, accepted: Body, now: float) -> None:
        kind = subscription.kind
        self._ads.counts.accepted(kind, subscription.took)
        if kind in LEADING:
            self._lead(kind, accepted)
            self._release(now)

    def _lead(self, kind: ResourceType, accepted: Body) -> None:
        """Notes what leads the client from now on."""
        held = self._leading[kind]
        if kind in FULL_STATE and self.variant is Variant.SOTW:
            held.clear()
        held.update((resource.name, resource) for resource in accepted.resources)
        for name in accepted.removed:
            held.pop(name, None)

    def _release(self, now: float) -> None:
        """Has what nothing leads to any more removed."""
        if released := self.kept - {resource.name for resource in self._keep(now)}:
            for kind in (ResourceType.CDS, ResourceType.EDS):
                if (subscription := self.subscriptions.get(kind)) is not None:
                    subscription.mark(released, now)

    def _held_back(self, subscription: Subscription, now: float) -> bool:
        if subscription.in_flight is not None and now - subscription.sent_at < ACK_SECONDS:
            return True
        clusters = self.subscriptions.get(ResourceType.CDS)
        if subscription.kind in (ResourceType.CDS, ResourceType.EDS) or clusters is None:
            return False
        since = now if subscription.due_since is None else subscription.due_since
        return clusters.in_flight is not None and now - since < ORDER_SECONDS

    def _send(self, subscription: Subscription, now: float) -> bool:
        """Sends what is due of one type; says whether the transport can take more."""
        kind = subscription.kind
        kept: tuple[Resource, ...] = ()
        if kind is ResourceType.CDS or (kind is ResourceType.EDS and self.variant is Variant.DELTA):
            kept = self._keep(now)
            if kind is ResourceType.CDS:
                was, self.kept = self.kept, frozenset(resource.name for resource in kept)
                subscription.mark(was - self.kept, now)
        elif kind in LEADING and isinstance(subscription, Delta):
            self._leading[kind].update(subscription.has_already(self._ads.collection(kind, self.scopes)))
        body = subscription.body(self._ads.collection(kind, self.scopes), kept)
        if body is None:
            subscription.settled()
            return True
        changed = subscription.changes(body)
        back = isinstance(subscription, Delta) and bool(subscription.inherited)
        self._responses += 1
        nonce = f"{self._responses:x}"
        subscription.sent(body, nonce, now)
        data = self._ads.serialised(body, nonce)
        self._ads.counts.pushed(kind, len(data))
        self._blocked = not self._write(data)
        if kind is ResourceType.CDS:
            self._repeat_assignments(changed, back, now)
        return not self._blocked

    def _repeat_assignments(self, changed: Some[str] | None, back: bool, now: float) -> None:
        """Changed clusters (None: perhaps all) warm up again and wait for their assignments.

        `back`: the client had clusters before this stream.
        """
        assignments = self.subscriptions.get(ResourceType.EDS)
        if isinstance(assignments, Delta):
            assignments.renew(changed or (), now)
        elif assignments is not None and not assignments.first:
            assignments.mark(assignments.names or () if changed is None else changed, now)
        elif back:
            self._warming = frozenset(changed or ())

    def _keep(self, now: float) -> tuple[Resource, ...]:
        """Removed clusters that routes or listeners of this client, or those it is about to get, still name.

        Where a client brings clusters from an earlier stream, nobody knows what its routes and listeners name
        before it has accepted new ones: so long nothing of that is removed.
        """
        if self.node is None or not (gone := self._ads.removed(self.scopes)):
            return ()
        clusters = self.subscriptions.get(ResourceType.CDS)
        if clusters is None:
            return ()
        brought: Some[str] = ()
        if isinstance(clusters, Delta) and now - self.opened_at < ORDER_SECONDS:
            known = ResourceType.RDS in self.subscriptions and all(map(self._knows, LEADING))
            brought = () if known else clusters.brought
        leading = list(self._leaders())
        return tuple(
            resource
            for name, (resource, _) in sorted(gone.items())
            if clusters.wants(name)
            and (name in brought or any(self._ads.leads(kind, one, name) for kind, one in leading))
        )

    def _knows(self, kind: ResourceType) -> bool:
        """Whether it is known what the client has of a type that leads to clusters; so it is of none."""
        subscription = self.subscriptions.get(kind)
        return subscription is None or subscription.accepted is not None or bool(self._leading[kind])

    def _leaders(self) -> Iterator[tuple[ResourceType, Resource]]:
        """What the client routes by, or is about to."""
        for kind in LEADING:
            if (subscription := self.subscriptions.get(kind)) is None:
                continue
            coming = self._ads.collection(kind, self.scopes).resources
            for held in (self._leading[kind], coming):
                yield from ((kind, one) for name, one in held.items() if subscription.wants(name))
            if subscription.in_flight is not None:
                for body in (*subscription.overtaken, subscription.in_flight):
                    yield from ((kind, one) for one in body.resources)
