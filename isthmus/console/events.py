"""What has happened lately: a bounded ring of transitions, numbered, for those who ask what is new.

Invariant: the ring never grows beyond its size; who comes late is told how much was lost, and a number from
before a restart is recognised by the run it belongs to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from isthmus.console.views import View

SIZE = 1_000
MOST_WAITING = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One transition. `at` is wall clock, seconds since the epoch; `subject` is what it happened to."""

    number: int
    at: float
    kind: str
    subject: str
    text: str


class Ring:
    """The latest events. `run` names this life of the process."""

    def __init__(self, run: str, size: int = SIZE) -> None:
        self.run = run
        self.last = 0
        self._events: deque[Event] = deque(maxlen=size)
        self._news = asyncio.Event()
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._events)

    def add(self, kind: str, at: float, told: Iterable[tuple[str, str]]) -> None:
        """Adds one event for each (subject, text)."""
        for subject, text in told:
            self.last += 1
            self._events.append(Event(number=self.last, at=at, kind=kind, subject=subject, text=text))
        news, self._news = self._news, asyncio.Event()
        news.set()

    def view(self, after: int = 0, run: str = "") -> View:
        """The events after that number; all of them where the number is of another run."""
        start = self._start(after, run)
        first = self._events[0].number if self._events else self.last + 1
        return {
            "run": self.run,
            "last": self.last,
            "lost": max(0, first - 1 - start) if start else 0,
            "items": [asdict(event) for event in self._events if event.number > start],
        }

    async def wait(self, after: int, run: str, seconds: float) -> None:
        """Returns when there is something after that number, or after that time, or if too many wait."""
        if self.last > self._start(after, run) or self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        finally:
            self._waiting -= 1

    def _start(self, after: int, run: str) -> int:
        return after if run in ("", self.run) and after <= self.last else 0
