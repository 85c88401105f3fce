"""Where a reflector stands: a pure state machine, events in, what to do next out.

Contract (Kubernetes API concepts, "Efficient detection of changes"): list in pages, replace everything at
once, watch from the list's version, go on from the last version seen when the stream ends, list again when
the server no longer keeps that version (410). A stream that ends at once, an error and a 410 back off; a
stream that lived for `HEALTHY_SECONDS` starts the back-off afresh. A 410 is the word of a server that is well
(one that has restarted keeps no history), so it waits for former 410s only, not for what failed before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from isthmus.errors import Gone, KubeError
from isthmus.kube.backoff import Backoff

K = TypeVar("K")
T = TypeVar("T")

HEALTHY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class List:
    """Read the next page."""

    continue_: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Watch from that version."""

    resource_version: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, then ask again."""

    seconds: float


class Cursor(Generic[K, T]):
    """One list-and-watch over one collection. `random` gives [0, 1)."""

    def __init__(self, backoff: Backoff, random: Callable[[], float]) -> None:
        self._backoff = backoff
        self._random = random
        self._rows: dict[K, T] = {}
        self._continue = ""
        self._first_version = ""
        self._version: str | None = None
        self._delay: float | None = None
        self._opened: float | None = None
        self.failures = 0
        """Failures in a row."""
        self._gone = 0
        """410s since a stream was last healthy."""

    @property
    def listing(self) -> bool:
        """Whether the rows have to be read from the start."""
        return self._version is None

    def step(self) -> List | Watch | Wait:
        """What to do now."""
        if self._delay is not None:
            seconds, self._delay = self._delay, None
            return Wait(seconds)
        if self._version is None:
            return List(self._continue)
        return Watch(self._version)

    def page(self, rows: dict[K, T], version: str, continue_: str) -> dict[K, T] | None:
        """A page was read; gives all rows after the last one. The first page's version is the list's."""
        if not self._continue:
            self._rows.clear()
            self._first_version = version
        self._rows.update(rows)
        self._continue = continue_
        if continue_:
            return None
        complete, self._rows = self._rows, {}
        self._version = self._first_version
        return complete

    def opened(self, now: float) -> None:
        """The watch answered."""
        self._opened = now

    def seen(self, version: str) -> None:
        """An event or bookmark of that version was taken; "" (the event said none) changes nothing."""
        if version:
            self._version = version

    def ended(self, now: float) -> None:
        """The server ended the stream, as it does every few minutes."""
        if not self._healthy(now):
            self._fail(None)

    def failed(self, error: KubeError, now: float) -> None:
        """A list, a watch or the stream failed."""
        self._healthy(now)
        if isinstance(error, Gone):
            self._version = None
            self.failures = self._gone
            self._gone += 1
        if self._version is None:
            self._continue = ""
            self._rows = {}
        self._fail(error.retry_after)

    def _healthy(self, now: float) -> bool:
        """Whether the stream that is over lived long enough; former failures are then forgotten."""
        opened, self._opened = self._opened, None
        healthy = opened is not None and now - opened >= HEALTHY_SECONDS
        if healthy:
            self.failures = self._gone = 0
        return healthy

    def _fail(self, retry_after: float | None) -> None:
        self._delay = self._backoff.delay(self.failures, self._random(), retry_after)
        self.failures += 1
