"""Waiting for what tests cause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SECONDS = 180.0
"""For several processes that start on a machine that is busy with others."""
REST_SECONDS, LOOKS = 3.0, 25


async def settles(
    look: Callable[[], Awaitable[T | None]], what: str, log: Path | None = None, seconds: float = SECONDS
) -> T:
    """Waits until `look` finds something; says what was missed, with the end of `log`."""
    until = time.monotonic() + seconds
    try:
        async with asyncio.timeout(seconds):
            # asyncio.wait_for of Python 3.11, in what `look` calls, can swallow a cancellation.
            while time.monotonic() < until:
                if found := await look():
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    raise AssertionError(f"did not settle within {seconds:g} s: {what}{_end(log)}")


async def rests(look: Callable[[], Awaitable[T]], what: str, log: Path | None = None) -> T:
    """Waits until `look` finds something that has not changed for a while, in many looks; gives it."""
    found, since, looks = await look(), time.monotonic(), 0

    async def same() -> bool:
        nonlocal found, since, looks
        if (now := await look()) != found or not now:
            found, since, looks = now, time.monotonic(), 0
        looks += 1
        return looks > LOOKS and time.monotonic() - since > REST_SECONDS

    await settles(same, what, log)
    return found


def _end(log: Path | None) -> str:
    """The end of that log, and of those beside it: what is missed in one process may be another's fault."""
    if log is None:
        return ""
    beside = sorted(one for one in log.parent.glob("*.log") if one != log)
    return "".join(f"; {one}:\n{one.read_text()[-4000:]}\n" for one in (*beside, log))
