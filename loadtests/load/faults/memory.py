"""An agent reaches its memory limit, and the kernel kills one of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from isthmus.demo.stage import Stage
from isthmus.demo.world import World
from isthmus.errors import PlatformError
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import Fault, fault, no_cluster
from loadtests.load.marks import Trace

ROOT = Path("/sys/fs/cgroup")
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
STEP = 1 << 20
POLL_SECONDS = 0.1
GONE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A cgroup with a memory limit, of version 1 or 2: the files that say and set it."""

    folder: Path
    usage: str
    limit: str
    none: str
    """What stands for no limit."""
    kills: str

    def used(self) -> int:
        return int((self.folder / self.usage).read_text())

    def set(self, limit: int | None) -> None:
        """OSError (EBUSY) where the kernel cannot make so much free."""
        (self.folder / self.limit).write_text(self.none if limit is None else str(limit))

    def killed(self) -> int:
        """Processes that were killed for want of memory."""
        lines = (self.folder / self.kills).read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def limited(name: str) -> Limited:
    """The cgroup of that name, made where it is not there; PlatformError where memory cannot be limited."""
    two = ROOT / "cgroup.controllers"
    try:
        if two.exists() and "memory" in two.read_text().split():
            (ROOT / "cgroup.subtree_control").write_text("+memory")
            cgroup = Limited(
                folder=ROOT / name,
                usage="memory.current",
                limit="memory.max",
                none="max",
                kills="memory.events",
            )
        else:
            cgroup = Limited(
                folder=ROOT / "memory" / name,
                usage="memory.usage_in_bytes",
                limit="memory.limit_in_bytes",
                none="-1",
                kills="memory.oom_control",
            )
        cgroup.folder.mkdir(exist_ok=True)
        cgroup.set(None)
    except OSError as error:
        raise PlatformError(
            f"fault memory-limit needs root and cgroups that limit memory: {error.filename}: {error.strerror}"
        ) from error
    return cgroup


@fault("memory-limit")
class MemoryLimit(Fault, frozen=True, kw_only=True):
    """The agent of the cluster gets no more memory than it has: who asks for more has one of them killed."""

    needs_root = "to limit memory by cgroups"

    cluster: str

    def complaint(self, world: World) -> str:
        return no_cluster(self.cluster, world)

    def _name(self) -> str:
        return f"isthmus-load-{os.getppid()}-{os.getpid()}-{self.cluster}"

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        cgroup = limited(self._name())
        stage.processes.wrap(f"agent-{self.cluster}", "sh", "-c", JOIN, str(cgroup.folder))
        try:
            yield
        finally:
            until = time.monotonic() + GONE_SECONDS
            while cgroup.folder.exists() and time.monotonic() < until:
                with contextlib.suppress(OSError):  # busy until its last process is reaped
                    cgroup.folder.rmdir()

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, cgroup = Trace(), limited(self._name())
        before = cgroup.killed()
        limit = as_low_as_it_goes(cgroup)
        watching = asyncio.create_task(self._watch(cgroup, before, limit, trace), name="memory-limit")
        try:
            yield trace
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            cgroup.set(None)

    async def _watch(self, cgroup: Limited, before: int, limit: int, trace: Trace) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if killed := cgroup.killed() - before:
                trace.counts["killed"] = killed
                trace.saw(
                    f"processes of the agent of {self.cluster} killed at {limit / 1e6:.0f} MB: {killed}"
                )


def as_low_as_it_goes(cgroup: Limited) -> int:
    """Limit it to what it uses when the kernel has taken back what it can; returns the limit in bytes."""
    limit = cgroup.used() * 6 // 10
    while True:
        try:
            cgroup.set(limit)
        except OSError:
            limit += STEP
        else:
            return limit
