"""The incremental variant of the protocol: what one stream wants of one type, name by name.

Invariants (xDS protocol, "Incremental xDS"): subscribing and unsubscribing count under a stale nonce too; a
name that is subscribed to again is answered again; a name without a resource is answered as removed, at once,
and stays wanted; on a new stream a client is sent what differs from what it says it has, and what is gone.
"""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterable, Mapping

from isthmus.xds.names import NameSets
from isthmus.xds.request import DeltaRequest
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Body, Collection, Resource, Variant, version_text
from isthmus.xds.subscription import FULL_STATE, WILDCARD, Subscription


class Delta(Subscription):
    """Incremental. Beside `*` a client may name resources: unsubscribing from those is answered."""

    __slots__ = (
        "_begun",
        "_gone",
        "inherited",
    )

    def __init__(self, kind: ResourceType, sets: NameSets, now: float) -> None:
        super().__init__(kind, sets, now)
        self.inherited: Mapping[str, str] = {}
        """Versions by name that the client brought from an earlier stream, until the first response."""
        self._begun = False
        self._gone: frozenset[str] = frozenset()

    def subscribe(self, request: DeltaRequest, now: float) -> None:
        """Wildcard is `*`, or for full-state types a first request without names."""
        subscribe, unsubscribe, wildcard = request.subscribe, request.unsubscribe, self.names is None
        everything = WILDCARD in subscribe
        if not self._begun:
            self._begun = True
            self.inherited = request.versions
            everything = everything or (not subscribe and self.kind in FULL_STATE)
        if not (subscribe or unsubscribe or everything):
            return
        named = subscribe - {WILDCARD} if WILDCARD in subscribe else subscribe
        held = self._set.held
        self._set = self._sets.of((held - unsubscribe) | named if held else named)
        if everything and not wildcard:
            self.first = True
        wildcard = everything or (wildcard and WILDCARD not in unsubscribe)
        self.names = None if wildcard else self._set.held
        if wildcard:
            named |= unsubscribe - {WILDCARD}
        else:
            self.due &= self._set.held
            if self.quarantine:
                self.quarantine.keep(self._set.held)
        if wildcard or not self.first:
            self.mark(named, now)

    def body(self, collection: Collection, kept: tuple[Resource, ...] = ()) -> Body | None:
        known = collection.resources
        inherited, everything = self.inherited, self.first and self.names is None
        spared = {resource.name for resource in kept}
        if everything and not inherited and not self.quarantine:
            return collection.body(Variant.DELTA, None, (), frozenset(self.due.difference(known, spared)))
        if inherited:
            self._gone = frozenset(inherited.keys() - known.keys())
        due: set[str] | frozenset[str] = self.names if self.first and self.names is not None else self.due
        if everything:
            due = due | known.keys() | inherited.keys()
        removed = frozenset(due.difference(known, spared))
        if not inherited and not self.quarantine:
            names = due if not removed and not spared else due & known.keys()
        else:
            names = {name for name in due if name in known and self._new(known[name])}
        if not names and not removed and not everything:
            return None
        if everything and len(names) == len(known):
            return collection.body(Variant.DELTA, None, (), removed)
        return collection.body(Variant.DELTA, frozenset(names), (), removed)

    def renew(self, names: Some[str], now: float) -> None:
        """Has these sent, even where the client has them."""
        self.inherited = {name: held for name, held in self.inherited.items() if name not in names}
        self.mark(names, now)

    def has_already(self, collection: Collection) -> dict[str, Resource]:
        """What the client brought along and is as it should be."""
        known = collection.resources
        return {
            name: known[name]
            for name, version in self.inherited.items()
            if name in known and version_text(known[name].version) == version
        }

    @property
    def brought(self) -> Some[str]:
        """Names of what the client brought along and that did not exist when it was first answered."""
        return self.inherited.keys() if self.inherited else self._gone

    def changes(self, body: Body) -> Some[str] | None:
        return [resource.name for resource in body.resources]

    def settled(self) -> None:
        super().settled()
        self.inherited = {}

    def _new(self, resource: Resource) -> bool:
        """Whether the client does not have that resource and may be sent it."""
        if self.quarantine.holds(resource):
            return False
        return self.inherited.get(resource.name) != version_text(resource.version)

    def _news(self, body: Body) -> Iterable[Resource]:
        return body.resources

    def _rejected(self, body: Body, now: float) -> None:
        if body.resources:
            self.mark(body.removed, now)
