"""What one stream wants of one type, and how far it has got; `Delta` in `delta` is the other variant.

Invariants (xDS protocol): one response waits for its answer at a time, but for the few (MOST_LATE) that were
overtaken because their answers did not come; content that the client has rejected
is not sent to it again, and what was good beside it is (`quarantine`); names without a resource stay wanted.
State of the world: a request that does not answer the newest response is stale and changes nothing, because
the client repeats what it wants when it answers; but what it says of a response that was overtaken counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection as Some
from collections.abc import Iterable

from isthmus.xds.names import Names, NameSets
from isthmus.xds.quarantine import Quarantine
from isthmus.xds.request import Request
from isthmus.xds.rows import ResourceType
from isthmus.xds.snapshot import Body, Collection, Resource, Variant

WILDCARD = "*"
MOST_LATE = 4
"""Unanswered responses that are remembered beside the newest one. One is sent in five seconds at most, and
Envoy answers within the 15 s for which clusters warm."""
FULL_STATE = frozenset({ResourceType.CDS, ResourceType.LDS})
"""Types whose state-of-the-world responses hold everything: what is missing is deleted."""


class Subscription(ABC):
    """State of one type on one stream. Times are those of the stream's clock, in seconds."""

    __slots__ = (
        "_set",
        "_sets",
        "accepted",
        "accepted_at",
        "due",
        "due_since",
        "first",
        "in_flight",
        "kind",
        "late",
        "names",
        "nonce",
        "quarantine",
        "refusal",
        "refused_at",
        "sent_at",
        "took",
    )

    def __init__(self, kind: ResourceType, sets: NameSets, now: float) -> None:
        self.kind = kind
        self.names: frozenset[str] | None = frozenset()
        """None: everything there is."""
        self.due: set[str] = set()
        """Names to be sent."""
        self.due_since: float | None = now
        self.first = True
        """Nothing has been answered yet: everything is due, an empty answer too."""
        self.nonce = ""
        self.in_flight: Body | None = None
        self.sent_at = 0.0
        self.late: dict[str, tuple[Body, float]] = {}
        """By nonce, oldest first: responses that were overtaken by newer ones before they were answered, and
        when they were sent. Empty where none is in flight."""
        self.accepted: Body | None = None
        """The newest that the client has accepted, and when, and how long that took."""
        self.accepted_at = 0.0
        self.took = 0.0
        self.refusal: str | None = None
        """Text of the last rejection, None once something was accepted after it."""
        self.refused_at = 0.0
        self.quarantine = Quarantine()
        self._sets = sets
        self._set = sets.none

    @property
    def waiting(self) -> bool:
        """Whether something is to be sent."""
        return self.first or bool(self.due)

    @property
    def overtaken(self) -> list[Body]:
        """Responses that the client may have accepted, without having said so."""
        return [body for body, _ in self.late.values()]

    @property
    def interest(self) -> Names | None:
        """The set of names that is wanted; None: everything."""
        return None if self.names is None else self._set

    def wants(self, name: str) -> bool:
        return self.names is None or name in self.names

    def mark(self, names: Some[str], now: float) -> None:
        """Has the wanted ones among these names sent."""
        held = self.names
        wanted = names if held is None else [name for name in names if name in held]
        if wanted:
            self.due.update(wanted)
            if self.due_since is None:
                self.due_since = now

    def answered(self, error: str | None, now: float) -> Body | None:
        """Takes the answer to the response in flight; returns the body if it was accepted."""
        body, self.in_flight = self.in_flight, None
        assert body is not None
        self.late.clear()
        if error is not None:
            self.refusal, self.refused_at = error, now
            self.quarantine.reject(self._news(body), error)
            self._rejected(body, now)
        else:
            self._accepted(body, self.sent_at, now)
        if self.quarantine.trying:
            self.mark(self.quarantine.next_trial(), now)
        return None if error is not None else body

    def accepted_late(self, nonce: str, now: float) -> Body | None:
        """Takes the acceptance of a response that was overtaken, and returns that; None for any other one."""
        if (found := self._overtaken_by_newer(nonce)) is None:
            return None
        body, sent_at = found
        self._accepted(body, sent_at, now)
        return body

    def refused_late(self, nonce: str, error: str, now: float) -> bool:
        """Takes the rejection of a response that was overtaken; says whether it counts.

        What was good in such a response would never reach the client. A newer full state has it anyway.
        """
        found, newest = self._overtaken_by_newer(nonce), self.in_flight
        if found is None or newest is None or self._holds_everything(newest):
            return False
        body, _ = found
        newer = {one.name for later in (*self.overtaken, newest) for one in later.resources}
        self.refusal, self.refused_at = error, now
        self.quarantine.reject((one for one in body.resources if one.name not in newer), error)
        self._rejected(body, now)
        if self.quarantine.trying:
            self.mark(self.quarantine.next_trial(), now)
        return True

    def sent(self, body: Body, nonce: str, now: float) -> None:
        """Notes a response that was written."""
        if self.in_flight is not None and len(self.late) < MOST_LATE:
            self.late[self.nonce] = (self.in_flight, self.sent_at)
        self.in_flight, self.nonce, self.sent_at = body, nonce, now
        self.settled()

    def settled(self) -> None:
        """Nothing is due any more."""
        self.due.clear()
        self.due_since = None
        self.first = False

    def _accepted(self, body: Body, sent_at: float, now: float) -> None:
        self.refusal = None
        self.accepted, self.accepted_at, self.took = body, now, now - sent_at
        self.quarantine.accept(body.resources)

    def _overtaken_by_newer(self, nonce: str) -> tuple[Body, float] | None:
        """The overtaken response of that nonce. It is forgotten, and so are older ones: answers come in
        the order of responses."""
        if nonce not in self.late:
            return None
        while True:
            oldest = next(iter(self.late))
            found = self.late.pop(oldest)
            if oldest == nonce:
                return found

    @abstractmethod
    def body(self, collection: Collection, kept: tuple[Resource, ...] = ()) -> Body | None:
        """The response that is due; None where the client has it, or has rejected it.

        `kept`: resources that are gone from the collection and that the client shall not miss yet.
        """

    @abstractmethod
    def changes(self, body: Body) -> Some[str] | None:
        """Names of what changes for the client with a body that is about to be sent; None: perhaps all."""

    def _holds_everything(self, body: Body) -> bool:
        """Whether a response says all that the client is to have of the type."""
        return False

    @abstractmethod
    def _news(self, body: Body) -> Iterable[Resource]:
        """What is new to the client in a response."""

    @abstractmethod
    def _rejected(self, body: Body, now: float) -> None:
        """What a rejection means for what is due."""

    def _name(self, names: Names) -> None:
        self._set, self.names = names, names.held


class Sotw(Subscription):
    """State of the world."""

    __slots__ = (
        "_again",
        "_begun",
        "_grown",
        "_has",
        "_named",
        "_overtaken",
        "_spurned",
    )

    def __init__(self, kind: ResourceType, sets: NameSets, now: float) -> None:
        super().__init__(kind, sets, now)
        self._grown = False
        """Names were added since the last response: an answer is owed even when nothing has changed."""
        self._again = False
        """A rejected response held more than what was bad in it."""
        self._begun = self._named = False
        self._overtaken = False
        """A response was sent before the one before it was answered: nobody knows which the client has."""
        self._spurned: int | None = None
        """Fingerprint of the full state that the client rejected last."""
        self._has: int | None = None
        """Fingerprint of the full state that the client has or is about to have."""

    @property
    def waiting(self) -> bool:
        return self.first or self._grown or self._again or bool(self.due)

    def subscribe(self, request: Request, now: float) -> None:
        """Wildcard is `*`, or for full-state types no names while none were ever given on this stream."""
        names = request.names
        if names is None or (names is self._set and self._begun):
            return
        self._begun = True
        if self.kind in FULL_STATE and (WILDCARD in names.held or (not names.held and not self._named)):
            self._grown |= self.names is not None and not self.first
            self.names, self._set = None, names
            return
        old = self.names if self.names is not None else frozenset()
        self._named |= bool(names.held)
        self._name(names)
        self.due &= names.held
        if not self.first and (added := names.held - old):
            self._grown = True
            self.mark(added, now)
        if self.quarantine:
            self.quarantine.keep(names.held)

    def body(self, collection: Collection, kept: tuple[Resource, ...] = ()) -> Body | None:
        if self.kind in FULL_STATE:
            body = self._full(collection, kept)
            had = body.fingerprint in (self._has, self._spurned)
            return None if had and not self._grown else body
        known = collection.resources
        if self.first and self.names is not None:
            if not self.quarantine and not self.names.isdisjoint(known):
                return collection.body(Variant.SOTW, self.names)
            names: Some[str] = self.names
        else:
            names = self.due
        holds = self.quarantine.holds if self.quarantine else None
        held = frozenset(
            name for name in names if name in known and not (holds is not None and holds(known[name]))
        )
        return collection.body(Variant.SOTW, held) if held else None

    def changes(self, body: Body) -> Some[str] | None:
        return None if self.first or self._grown or self._again else set(self.due)

    def sent(self, body: Body, nonce: str, now: float) -> None:
        self._overtaken |= self.in_flight is not None
        super().sent(body, nonce, now)
        self._has = body.fingerprint

    def answered(self, error: str | None, now: float) -> Body | None:
        accepted = super().answered(error, now)
        if accepted is not None:
            self._overtaken, self._spurned = False, None
        return accepted

    def settled(self) -> None:
        super().settled()
        self._grown = self._again = False

    def _holds_everything(self, body: Body) -> bool:
        return body.kind in FULL_STATE

    def _full(self, collection: Collection, kept: tuple[Resource, ...]) -> Body:
        """The full state, where something is held back with what the client has accepted instead."""
        holds = self.quarantine.holds
        found = collection.body(Variant.SOTW, self.names, kept)
        if not self.quarantine or not any(map(holds, found.resources)):
            return found
        good = {resource.name: resource for resource in self.accepted.resources} if self.accepted else {}
        instead = (good.get(one.name) if holds(one) else one for one in found.resources)
        return Body.of(Variant.SOTW, self.kind, [one for one in instead if one is not None])

    def _news(self, body: Body) -> Iterable[Resource]:
        if self.kind not in FULL_STATE or self.accepted is None:
            return body.resources
        good = {(resource.name, resource.version) for resource in self.accepted.resources}
        return [one for one in body.resources if (one.name, one.version) not in good]

    def _rejected(self, body: Body, now: float) -> None:
        if self.kind in FULL_STATE:
            self._spurned = body.fingerprint
            has = None if self._overtaken else self.accepted
            self._has = None if has is None else has.fingerprint
            self._again = bool(body.resources)
            self.due_since = now if self.due_since is None else self.due_since
