"""Loaded into the measured agent's processes (by PYTHONPATH): writes down every long turn of an event loop.

A turn is the time between two looks at the sockets: whatever arrives meanwhile waits. Lines of
`<monotonic> <wall ms> <CPU ms of the thread> <what ran>` go to `$LARGEWORLD_TURNS/<pid>` for turns of over
1 ms; `what ran` are the callbacks that took longest (`name:ms`, `names x count`), "-" unless LARGEWORLD_WHO
is set, because to look at each costs a little itself.
"""

import asyncio
import gc
import os
import selectors
import threading
import time

_FOLDER = os.environ.get("LARGEWORLD_TURNS", "")
_WHO = bool(os.environ.get("LARGEWORLD_WHO"))
_LEAST = 0.001
_MOST = 4
_spent: dict[str, list[float]] = {}


class _Selector(selectors.EpollSelector):
    def __init__(self) -> None:
        super().__init__()
        self._began: tuple[float, float] | None = None
        self._out = os.open(f"{_FOLDER}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def select(self, timeout: float | None = None):  # type: ignore[no-untyped-def]
        if self._began is not None:
            wall = time.monotonic() - self._began[0]
            if wall > _LEAST:
                cpu = time.thread_time() - self._began[1]
                line = f"{self._began[0]:.6f} {wall * 1000:.2f} {cpu * 1000:.2f} {_longest()}\n"
                os.write(self._out, line.encode())
            _spent.clear()
        found = super().select(timeout)
        self._began = (time.monotonic(), time.thread_time())
        return found


def _longest() -> str:
    longest = sorted(_spent.items(), key=lambda one: -one[1][0])[:_MOST]
    return ",".join(f"{name}:{spent * 1000:.1f}x{times:.0f}" for name, (spent, times) in longest) or "-"


def _name(callback: object) -> str:
    """The task whose turn it is, or the function that is called."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name().replace(" ", "_")
    return getattr(callback, "__qualname__", type(callback).__name__)


def _watched(run):  # type: ignore[no-untyped-def]
    def timed(handle):  # type: ignore[no-untyped-def]
        name, began = _name(handle._callback), time.thread_time()
        try:
            return run(handle)
        finally:
            entry = _spent.setdefault(name, [0.0, 0.0])
            entry[0] += time.thread_time() - began
            entry[1] += 1

    return timed


def _collected(phase: str, info: dict[str, int]) -> None:
    """A collection is part of whatever callback it interrupts; it is told apart as well."""
    entry = _spent.setdefault(f"gc{info['generation']}", [0.0, 0.0])
    entry[0] += time.thread_time() * (1 if phase == "stop" else -1)
    entry[1] += phase == "stop"


if _FOLDER and threading.current_thread() is threading.main_thread():
    selectors.DefaultSelector = _Selector  # type: ignore[misc]
    if _WHO:
        asyncio.Handle._run = _watched(asyncio.Handle._run)  # type: ignore[attr-defined,method-assign]
        gc.callbacks.append(_collected)
