"""The processes of the demo: started, watched, stopped; each writes to a log file of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from isthmus.errors import IsthmusError

T = TypeVar("T")

STOP_TIMEOUT = 4.0
_TAIL_LINES = 5


class ProcessDied(IsthmusError):
    """A process of the demo ended although nobody asked it to."""


@dataclass(slots=True, kw_only=True)
class Child:
    name: str
    log: Path
    process: asyncio.subprocess.Process
    expected: bool = False
    """True once its end is wanted."""

    @property
    def pid(self) -> int:
        return self.process.pid


class Processes:
    """Owns the children; leaving `async with` stops them all at once.

    `broken` is done, with ProcessDied, as soon as a child ends that nobody stopped.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = dict(environ)
        self._children: dict[str, Child] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._wraps: dict[str, list[tuple[str, ...]]] = {}
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wrap(self, name: str, *command: str) -> None:
        """Start this process by that command, which runs its arguments in its place (`env`, `setpriv`).

        Several nest; one that is there already is not added.
        """
        wraps = self._wraps.setdefault(name, [])
        if command not in wraps:
            wraps.insert(0, command)

    async def start(self, name: str, command: Sequence[str], *, pipes: bool = False) -> Child:
        """Start a program in a process group of its own; with `pipes` its stdin and stdout are ours.

        Raises ValueError for a name that is taken by one that runs.
        """
        if self.running(name):
            raise ValueError(f"{name} runs already")
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(word for wrap in self._wraps.get(name, ()) for word in wrap),
                *command,
                stdin=asyncio.subprocess.PIPE if pipes else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if pipes else output,
                stderr=output,
                env=self._environ,
                start_new_session=True,
                limit=4 << 20,
            )
        child = Child(name=name, log=log, process=process)
        self._children[name] = child
        watcher = asyncio.create_task(self._watch(child), name=f"watch-{name}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return child

    def running(self, name: str) -> bool:
        """Whether a child of this name was started and has not ended."""
        return name in self._children and self._children[name].process.returncode is None

    async def unbroken(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """What the work gives while nothing breaks; it has ended when this returns or raises.

        Raises ProcessDied as soon as a child ends that nobody stopped.
        """
        task = asyncio.create_task(work, name=name)
        try:
            either: set[asyncio.Future[Any]] = {task, self.broken}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self.broken.done():
                self.broken.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()
        return task.result()

    async def _watch(self, child: Child) -> None:
        code = await child.process.wait()
        if not child.expected and not self.broken.done():
            lines = child.log.read_text(errors="replace").strip().splitlines()[-_TAIL_LINES:]
            said = " | ".join(lines) or "it said nothing"
            self.broken.set_exception(
                ProcessDied(f"{child.name} ended with code {code}: {said} (log: {child.log})")
            )

    async def kill(self, name: str) -> None:
        """SIGKILL, to the process and its group, and wait for its end."""
        child = self._children[name]
        child.expected = True
        _signal(child, signal.SIGKILL)
        await child.process.wait()

    async def stop(self, name: str) -> None:
        """SIGTERM, then SIGKILL for what does not go within STOP_TIMEOUT seconds."""
        child = self._children[name]
        child.expected = True
        if child.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await child.process.wait()
            except TimeoutError:
                pass
        _signal(child, signal.SIGKILL)
        await child.process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            child.expected = True
        await asyncio.gather(*(self.stop(name) for name in self._children))
        for watcher in list(self._watchers):
            await watcher
        if self.broken.done():
            self.broken.exception()
        else:
            self.broken.cancel()


def _signal(child: Child, number: signal.Signals) -> None:
    """To the child's whole group: it leads a session, so the group has its pid."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)
