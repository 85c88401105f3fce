"""Which resource of a rejected response was the bad one, for one type on one stream.

A client that rejects a response rejects all of it, its good resources too. So what was new in it goes out
again in parts, the others first where the rejection names some; a resource that is rejected alone is to blame
and is not sent again until it changes (xDS protocol, "ACK and NACK").

Invariants: a resource that has changed since it was rejected is not held back; a client that rejects
everything gets at most MOST_IN_A_ROW rejected responses for one set of resources, after which all of it is
held back; nothing is learned of one client from another, so that none can take anything from the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from isthmus.xds.snapshot import Resource

MOST_IN_A_ROW = 24
"""Enough to find one in a million by halves."""
_WORD = r"[A-Za-z0-9_-]"


class Quarantine:
    """Versions by name that are held back, because they were rejected or wait for their trial."""

    __slots__ = (
        "_groups",
        "_row",
        "_suspect",
        "refused",
    )

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        """Rejected alone: not sent again."""
        self._suspect: dict[str, int] = {}
        """Rejected together with others: waiting in a group."""
        self._groups: list[dict[str, int]] = []
        self._row = 0

    def __bool__(self) -> bool:
        return bool(self.refused or self._suspect)

    @property
    def trying(self) -> bool:
        """Whether a group waits for its trial."""
        return bool(self._groups)

    def holds(self, resource: Resource) -> bool:
        """Whether that resource must not be sent now."""
        return resource.version in (self.refused.get(resource.name), self._suspect.get(resource.name))

    def reject(self, tried: Iterable[Resource], text: str) -> None:
        """Notes a rejection of a response in which these resources were new to the client."""
        found = {resource.name: resource.version for resource in tried}
        self._row += 1
        if len(found) <= 1 or self._row >= MOST_IN_A_ROW:
            self.refused.update(found)
            if self._row >= MOST_IN_A_ROW:
                self.refused.update(self._suspect)
                self._suspect.clear()
                self._groups.clear()
            return
        self._suspect.update(found)
        self._groups += _parts(found, text)

    def accept(self, resources: Iterable[Resource]) -> None:
        """Notes that these were accepted."""
        self._row = 0
        for resource in resources if self.refused else ():
            self.refused.pop(resource.name, None)

    def next_trial(self) -> set[str]:
        """Names that may be sent now, after an answer has come."""
        if not self._groups:
            return set()
        group = self._groups.pop()
        for name, version in group.items():
            if self._suspect.get(name) == version:
                del self._suspect[name]
        return set(group)

    def keep(self, names: frozenset[str]) -> None:
        """Forgets what is not among these names."""
        self.refused = {name: version for name, version in self.refused.items() if name in names}


def _parts(found: dict[str, int], text: str) -> list[dict[str, int]]:
    """Two groups, the one to be tried first last."""
    names = sorted(found)
    named = {name for name in names if _names(text, name)}
    if not named or len(named) == len(names):
        named = set(names[len(names) // 2 :])
    return [
        {name: found[name] for name in names if name in named},
        {name: found[name] for name in names if name not in named},
    ]


def _names(text: str, name: str) -> bool:
    """Whether that text speaks of that name, and not only of one that holds it."""
    return name in text and re.search(rf"(?<!{_WORD}){re.escape(name)}(?!{_WORD})", text) is not None
