"""Loaded into the measured agent's processes (by PYTHONPATH): writes down every long turn of an event loop.

A turn is the time between two looks at the sockets: whatever arrives meanwhile waits. Lines of
`<monotonic> <wall ms> <CPU ms of the thread>` go to `$LARGEWORLD_TURNS/<pid>` for turns of over 1 ms.
"""

import os
import selectors
import threading
import time

_FOLDER = os.environ.get("LARGEWORLD_TURNS", "")
_LEAST = 0.001


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
                line = f"{self._began[0]:.6f} {wall * 1000:.2f} {cpu * 1000:.2f}\n"
                os.write(self._out, line.encode())
        found = super().select(timeout)
        self._began = (time.monotonic(), time.thread_time())
        return found


if _FOLDER and threading.current_thread() is threading.main_thread():
    selectors.DefaultSelector = _Selector  # type: ignore[misc]
