"""Which streams want what: from names that changed in a scope to the streams that subscribe to them.

Invariant: a change costs the streams that want what has changed, however many others there are. Streams with
equal subscriptions share one set of names (`names`), and a name leads to the sets that hold it; so what is
kept grows with the names of distinct sets and with the streams, and not with the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from isthmus.xds.names import Names
from isthmus.xds.snapshot import Scope

if TYPE_CHECKING:
    from isthmus.xds.stream import Stream

Interest = Names | None
"""What a stream wants of a scope; None: everything."""


class Holders:
    """Streams by scope and interest."""

    def __init__(self) -> None:
        self._streams: dict[Scope, dict[Interest, set[Stream]]] = {}
        self._sets: dict[str, set[Names]] = {}
        """Sets that hold a name, of all scopes."""
        self._uses: dict[Names, int] = {}
        """In how many scopes somebody holds a set."""

    def join(self, scope: Scope, interest: Interest, stream: Stream) -> None:
        """A stream wants this."""
        held = self._streams.setdefault(scope, {})
        if interest not in held:
            held[interest] = set()
            if interest is not None:
                self._use(interest)
        held[interest].add(stream)

    def leave(self, scope: Scope, interest: Interest, stream: Stream) -> None:
        """A stream that wanted this does so no more."""
        held = self._streams[scope]
        held[interest].discard(stream)
        if held[interest]:
            return
        del held[interest]
        if interest is not None:
            self._disuse(interest)
        if not held:
            del self._streams[scope]

    def wanting(self, scope: Scope, names: AbstractSet[str]) -> Iterator[Stream]:
        """Each stream that wants any of these names, once."""
        held = self._streams.get(scope)
        if held is None:
            return
        yield from held.get(None, ())
        for found in self._holding(held, names):
            yield from held[found]

    def _holding(self, held: dict[Interest, set[Stream]], names: AbstractSet[str]) -> Iterable[Names]:
        """By name, or by set where those are fewer."""
        if len(names) < len(held):
            return {found for name in names for found in self._sets.get(name, ()) if found in held}
        return [found for found in held if found is not None and not found.held.isdisjoint(names)]

    def _use(self, names: Names) -> None:
        self._uses[names] = self._uses.get(names, 0) + 1
        if self._uses[names] == 1:
            for name in names.held:
                self._sets.setdefault(name, set()).add(names)

    def _disuse(self, names: Names) -> None:
        self._uses[names] -= 1
        if self._uses[names]:
            return
        del self._uses[names]
        for name in names.held:
            self._sets[name].discard(names)
            if not self._sets[name]:
                del self._sets[name]
