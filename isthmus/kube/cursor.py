"""Where a reflector stands: a pure state machine, events in, what to do next out.

Contract (Kubernetes API concepts, "Efficient detection of changes"): list in pages, replace everything at
once, watch from the list's version, go on from the last version seen when the stream ends, list again when
the server no longer keeps that version (410). A stream that ends at once, an error and a 410 back off; a
stream that lived for `HEALTHY_SECONDS` starts the back-off afresh. A 410 is the word of a server that is well
(one that has restarted keeps no history), so it waits for former 410s only, not for what failed before.

A server that was restored from an older backup has not reached our version yet and stays silent about all
that is new to us; no error tells it. So a version that goes back counts as a 410; a watch that said nothing,
not even a bookmark, for longer than servers are silent is not resumed; and the first one after a failure is
kept short.
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
MUTE_SECONDS = 70.0
"""How long a watch may say nothing at all and be believed: servers send a bookmark about once a minute."""


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

    def __init__(self, backoff: Backoff, random: Callable[[], float], *, mute: float = MUTE_SECONDS) -> None:
        self._backoff = backoff
        self._mute = mute
        self._random = random
        self._rows: dict[K, T] = {}
        self._continue = ""
        self._first_version = ""
        self._version: str | None = None
        self._delay: float | None = None
        self._opened: float | None = None
        self._spoken = False
        self.doubtful = False
        """Whether nothing was heard since a failure: the server may be another one."""
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
        self.doubtful = False
        self._version = self._first_version
        return complete

    def opened(self, now: float) -> None:
        """The watch answered."""
        self._opened = now
        self._spoken = False

    def seen(self, version: str) -> None:
        """An event or bookmark of that version was taken; "" (the event said none) changes nothing.

        Raises Gone where versions go back: the server has another history than the one we followed.
        """
        if _before(version, self._version):
            raise Gone(f"version {version} comes after {self._version}: the server was restored")
        self._spoken, self.doubtful = True, False
        if version:
            self._version = version

    def ended(self, now: float) -> None:
        """The server ended the stream, as it does every few minutes."""
        self._forget_if_mute(now)
        if not self._healthy(now):
            self._fail(None)

    def failed(self, error: KubeError, now: float, *, spread: float = 0.0) -> None:
        """A list, a watch or the stream failed.

        Where everything has to be read anew, that begins up to `spread` seconds later than it could: all who
        watch a server that has restarted are told so at the same moment.
        """
        self.doubtful, later = True, 0.0
        self._forget_if_mute(now)
        self._healthy(now)
        if isinstance(error, Gone):
            self._version = None
            self.failures = self._gone
            self._gone += 1
            later = self._random() * spread
        if self._version is None:
            self._continue = ""
            self._rows = {}
        self._fail(error.retry_after, later)

    def _forget_if_mute(self, now: float) -> None:
        """Reads everything anew after a stream that was silent for too long."""
        if self._opened is not None and not self._spoken and now - self._opened >= self._mute:
            self._version = None

    def _healthy(self, now: float) -> bool:
        """Whether the stream that is over lived long enough; former failures are then forgotten."""
        opened, self._opened = self._opened, None
        healthy = opened is not None and now - opened >= HEALTHY_SECONDS
        if healthy:
            self.failures = self._gone = 0
        return healthy

    def _fail(self, retry_after: float | None, later: float = 0.0) -> None:
        self._delay = self._backoff.delay(self.failures, self._random(), retry_after) + later
        self.failures += 1


def _before(version: str, other: str | None) -> bool:
    """Whether a version is older than another one; versions that are no numbers are not compared."""
    return other is not None and version.isdecimal() and other.isdecimal() and int(version) < int(other)
