"""Accidents on demand: delay, cut connections, error answers, silence, for chosen verbs and paths.

Switched at run time, per cluster. A fault is checked when a request comes in and again at every step of a
watch, so that running watches feel it too. Invariant: without faults nothing here waits or raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from isthmus.apiserver.status import StatusError

Kind = Literal["delay", "cut", "error", "silence"]
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accident.

    delay: every answer and every watch event comes `seconds` late. cut: matching connections are reset now
    and as long as the fault holds. error: requests are answered with `code`, `count` times or for ever; 410
    also ends running watches with an ERROR event. silence: requests are never answered, watches go quiet.
    """

    kind: Kind
    seconds: float = 0.0
    code: int = 500
    count: int | None = None
    retry_after: int | None = None
    """Seconds, sent as Retry-After with an error."""
    verbs: frozenset[str] = frozenset()
    """get, list, watch, create, update, patch, delete, deletecollection; empty for all."""
    paths: tuple[str, ...] = ()
    """Shell patterns of URL paths; empty for all."""

    def concerns(self, call: Call) -> bool:
        if self.verbs and call.verb not in self.verbs:
            return False
        return not self.paths or any(fnmatchcase(call.path, pattern) for pattern in self.paths)

    def status(self) -> StatusError:
        text = "an accident was asked for"
        reason = _REASONS.get(self.code, "InternalError")
        return StatusError(self.code, reason, text, retry_after=self.retry_after)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One running request."""

    verb: str
    path: str


class Cut(Exception):
    """Close the connection without an answer."""


class Faults:
    """The faults of one cluster that are switched on."""

    def __init__(self, cut_all: Callable[[], None], wake: Callable[[], None]) -> None:
        self.active: tuple[Fault, ...] = ()
        self.suffered = 0
        """Requests that met a fault so far, when they came or while they ran."""
        self._left: dict[int, int] = {}
        self._running: dict[Call, Callable[[], None]] = {}
        self._changed = asyncio.Event()
        self._cut_all = cut_all
        self._wake = wake

    def set(self, *faults: Fault) -> None:
        """Have exactly these faults from now on."""
        self.active = faults
        self._left = {index: fault.count for index, fault in enumerate(faults) if fault.count is not None}
        self._changed.set()
        self._changed = asyncio.Event()
        for fault in faults:
            if fault.kind != "cut":
                continue
            if not fault.verbs and not fault.paths:
                self._cut_all()
            for call, abort in list(self._running.items()):
                if fault.concerns(call):
                    self.suffered += 1
                    abort()
        self._wake()

    def clear(self) -> None:
        """End all faults; what was silent goes on."""
        self.set()

    @contextmanager
    def running(self, call: Call, abort: Callable[[], None]) -> Iterator[None]:
        """Keep a request in sight while it runs; `abort` resets its connection."""
        self._running[call] = abort
        try:
            yield
        finally:
            del self._running[call]

    async def before(self, call: Call) -> None:
        """What a new request suffers: waits, or raises Cut or StatusError."""
        if self.active:
            self.suffered += any(fault.concerns(call) for fault in self.active)
            await self.hold(call)
            if fault := self._take(call, "error"):
                raise fault.status()

    async def hold(self, call: Call) -> None:
        """What an answer or a watch event suffers on its way out."""
        while self.active:
            if self._find(call, "cut"):
                raise Cut
            if not self._find(call, "silence"):
                break
            await self._changed.wait()
        if fault := self._find(call, "delay"):
            await asyncio.sleep(fault.seconds)

    def check(self, call: Call) -> None:
        """End a running watch with 410 where that is asked for."""
        for fault in self.active:
            if fault.kind == "error" and fault.code == 410 and fault.concerns(call):
                taken = self._take(call, "error")
                if taken is not None:
                    raise taken.status()

    def _find(self, call: Call, kind: Kind) -> Fault | None:
        return next((each for each in self.active if each.kind == kind and each.concerns(call)), None)

    def _take(self, call: Call, kind: Kind) -> Fault | None:
        """The first fault of a kind that still has something left, counted."""
        for index, fault in enumerate(self.active):
            if fault.kind != kind or not fault.concerns(call) or self._left.get(index) == 0:
                continue
            if index in self._left:
                self._left[index] -= 1
            return fault
        return None
