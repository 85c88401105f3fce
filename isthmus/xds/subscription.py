"""What one stream wants of one type, and how far it has got.

Invariants (xDS protocol, state of the world): at most one response is in flight; a request that does not
answer the newest response is stale and changes nothing, because the client repeats what it wants when it
answers; content that the client has rejected is not sent to it again; names without a resource stay wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.xds.request import Request
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Body, Collection, Resource

WILDCARD = "*"
FULL_STATE = frozenset({ResourceType.CDS, ResourceType.LDS})
"""Types whose responses hold everything: what is missing is deleted."""


class Subscription:
    """State of one type on one stream. Times are those of the stream's clock, in seconds."""

    def __init__(self, kind: ResourceType, now: float) -> None:
        self.kind = kind
        self.names: frozenset[str] | None = frozenset()
        """None: everything there is."""
        self.due: set[str] = set()
        """Names to be sent."""
        self.due_since: float | None = now
        self.first = True
        """Nothing has been answered yet: everything is due, an empty answer too."""
        self.grown = False
        """Names were added since the last response: an answer is owed even when nothing has changed."""
        self.nonce = ""
        self.in_flight: Body | None = None
        self.sent_at = 0.0
        self.accepted: Body | None = None
        self.refusal: str | None = None
        """Text of the last rejection, None once something was accepted after it."""
        self._named = False
        self._sent: int | None = None
        self._refused: dict[str, int] = {}

    @property
    def waiting(self) -> bool:
        """Whether something is to be sent."""
        return self.first or self.grown or bool(self.due)

    def wants(self, name: str) -> bool:
        return self.names is None or name in self.names

    def mark(self, names: set[str], now: float) -> None:
        """Has the wanted ones among these names sent."""
        wanted = names if self.names is None else names & self.names
        if wanted:
            self.due |= wanted
            self.due_since = now if self.due_since is None else self.due_since

    def take(self, request: Request, now: float) -> Body | None:
        """Applies a request; returns the body that it accepted, if it accepted one."""
        accepted = self._answer(request) if self.in_flight is not None else None
        if request.names is not None:
            self._subscribe(request.names, now)
        return accepted

    def _answer(self, request: Request) -> Body | None:
        body, self.in_flight = self.in_flight, None
        assert body is not None
        if request.error is not None:
            self.refusal = request.error
            if self.kind not in FULL_STATE:
                self._refused.update((resource.name, resource.version) for resource in body.resources)
            return None
        self.refusal = None
        self.accepted = body
        for resource in body.resources if self._refused else ():
            self._refused.pop(resource.name, None)
        return body

    def _subscribe(self, names: frozenset[str], now: float) -> None:
        """Wildcard is `*`, or for full-state types no names while none were ever given on this stream."""
        if self.kind in FULL_STATE and (WILDCARD in names or (not names and not self._named)):
            self.grown |= self.names is not None and not self.first
            self.names = None
        else:
            old = self.names if self.names is not None else frozenset()
            self._named |= bool(names)
            self.names = names
            self.due &= names
            if added := names - old:
                self.grown = self.grown or not self.first
                self.mark(set(added), now)
            self._refused = {name: version for name, version in self._refused.items() if name in names}

    def body(self, collection: Collection, kept: Sequence[Resource] = ()) -> Body | None:
        """The response that is due; None where the client has it, or has rejected it.

        `kept`: resources that are gone from the collection and not yet to be missed in a full-state response.
        """
        if self.kind in FULL_STATE:
            body = collection.body(self.names)
            if kept:
                body = Body.of(self.kind, (*body.resources, *kept))
            return body if self.first or self.grown or body.fingerprint != self._sent else None
        names = self.names if self.first and self.names is not None else frozenset(self.due)
        known = collection.resources
        held = frozenset(
            name for name in names if name in known and self._refused.get(name) != known[name].version
        )
        return collection.body(held) if held else None

    def sent(self, body: Body, nonce: str, now: float) -> None:
        """Notes a response that was written."""
        self.in_flight, self.nonce, self.sent_at, self._sent = body, nonce, now, body.fingerprint
        self.settled()

    def settled(self) -> None:
        """Nothing is due any more."""
        self.due.clear()
        self.due_since = None
        self.first = self.grown = False
