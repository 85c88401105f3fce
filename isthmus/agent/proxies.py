"""Asking the xDS workers about their clients, when somebody wants to know.

Invariant: nothing is told while nobody asks; a worker that does not answer in time is left out and named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from isthmus.flow import Table
from isthmus.xds.proxies import ANSWERED, LOOKS, PROXIES, QUESTION

SECONDS = 2.0


class Proxies:
    """`looks` goes to the workers, `told` comes from them, with keys `worker/client`."""

    def __init__(self) -> None:
        self.looks: Table[str, bytes] = Table(LOOKS)
        self.told: Table[str, bytes] = Table(PROXIES)
        self._writer = self.looks.partition("control")
        self._writer.replace({})
        self._answered = asyncio.Event()
        self.told.observe(self._heard)

    async def look(self, workers: Callable[[], Iterable[str]]) -> tuple[list[dict[str, Any]], list[str]]:
        """All clients of these workers as they are now, each with its `worker`; and who did not answer."""
        question = str(time.monotonic_ns()).encode()
        self._writer.put(QUESTION, question)
        missing = set(workers())
        try:
            async with asyncio.timeout(SECONDS):
                while missing := {one for one in missing if not self._has(one, question)}:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            pass
        found = []
        for key, value in self.told.items():
            worker, _, row = key.partition("/")
            if row != ANSWERED and worker not in missing:
                found.append({"worker": worker, **msgspec.json.decode(value)})
        return sorted(found, key=lambda one: (one["node"], one["worker"], one["since"])), sorted(missing)

    def _has(self, worker: str, question: bytes) -> bool:
        """Whether that worker has answered this question, or a newer one."""
        answered = self.told.get(f"{worker}/{ANSWERED}")
        return answered is not None and int(answered) >= int(question)

    def _heard(self, key: str, _old: bytes | None, _new: bytes | None) -> None:
        if key.endswith(f"/{ANSWERED}"):
            self._answered.set()
