"""An agent reaches its memory limit, and the kernel kills one of its processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from isthmus.demo.stage import Stage
from isthmus.errors import PlatformError
from loadtests.load.bed import Bed
from loadtests.load.counters import serves_again
from loadtests.load.faults.fault import OneCluster, fault
from loadtests.load.marks import Trace

ROOT = Path("/sys/fs/cgroup")
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
STEP = 1 << 20
POLL_SECONDS = 0.1
GONE_SECONDS = 5.0
BACK_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A cgroup with a memory limit, of version 1 or 2: the files that say and set it."""

    folder: Path
    usage: str
    limit: str
    none: str
    """What stands for no limit."""
    kills: str
    soft: str = ""
    """Above it the kernel takes back what it can, and kills nobody (version 2); "": there is no such file."""

    def used(self) -> int:
        return int((self.folder / self.usage).read_text())

    def set(self, limit: int | None, *, soft: bool = False) -> None:
        """OSError (EBUSY) where the kernel cannot make so much free: version 1, which kills nobody for it."""
        file = self.soft if soft else self.limit
        (self.folder / file).write_text(self.none if limit is None else str(limit))

    def killed(self) -> int:
        """Processes that were killed for want of memory."""
        lines = (self.folder / self.kills).read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def processes(self) -> int:
        """How many are in it."""
        return len((self.folder / "cgroup.procs").read_text().split())


def of_bed(folder: Path, cluster: str, root: Path = ROOT) -> Limited:
    """The cgroup of an agent of the bed in that folder, whether it is there or not."""
    name = f"{folder.name}-{cluster}"
    if _second(root):
        return Limited(
            folder=root / name,
            usage="memory.current",
            limit="memory.max",
            none="max",
            kills="memory.events",
            soft="memory.high",
        )
    return Limited(
        folder=root / "memory" / name,
        usage="memory.usage_in_bytes",
        limit="memory.limit_in_bytes",
        none="-1",
        kills="memory.oom_control",
    )


@contextmanager
def made(cgroup: Limited, root: Path = ROOT) -> Iterator[None]:
    """It is there, without a limit, and everything is as it was found afterwards.

    PlatformError where memory cannot be limited.
    """
    control = root / "cgroup.subtree_control"
    try:
        switched = _second(root) and "memory" not in control.read_text().split()
        if switched:
            control.write_text("+memory")
        cgroup.folder.mkdir(exist_ok=True)
        cgroup.set(None)
    except OSError as error:
        raise PlatformError(
            f"fault memory-limit needs root and cgroups that limit memory: {error.filename}: {error.strerror}"
        ) from error
    try:
        yield
    finally:
        until = time.monotonic() + GONE_SECONDS
        while cgroup.folder.exists():
            try:
                cgroup.folder.rmdir()
            except OSError:  # busy until its last process is reaped
                if time.monotonic() > until:
                    break
                time.sleep(POLL_SECONDS)
        if switched:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                control.write_text("-memory")


def _second(root: Path) -> bool:
    """Whether memory is limited by cgroups of version 2."""
    controllers = root / "cgroup.controllers"
    return controllers.exists() and "memory" in controllers.read_text().split()


@fault("memory-limit")
class MemoryLimit(OneCluster, frozen=True, kw_only=True):
    """The agent of the cluster gets no more memory than it has: who asks for more has one of them killed.

    It shows when a process was killed, and afterwards as many run as before and the agent is ready.
    """

    counts: ClassVar[tuple[str, ...]] = ("killed",)
    needs_root = "to limit memory by cgroups"

    @contextmanager
    def around(self, folder: Path) -> Iterator[None]:
        with made(of_bed(folder, self.cluster)):
            yield

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        cgroup = of_bed(stage.folder, self.cluster)
        stage.processes.wrap(f"agent-{self.cluster}", "sh", "-c", JOIN, str(cgroup.folder))
        yield

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, cgroup, member = Trace(), of_bed(bed.stage.folder, self.cluster), bed.member(self.cluster)
        before, processes, control = cgroup.killed(), cgroup.processes(), bed.stage.control_pid(member)
        limit = as_low_as_it_goes(cgroup)
        try:
            yield trace
        finally:
            cgroup.set(None)
        ready, killed = await serves_again(member, BACK_SECONDS), cgroup.killed() - before
        trace.counts["killed"] = killed
        if killed and ready and cgroup.processes() == processes:
            whom = "control" if bed.stage.control_pid(member) != control else "a worker"
            trace.saw(
                f"{whom} of {self.cluster} was killed at {limit / 1e6:.0f} MB ({killed} processes); "
                f"all {processes} are back, and the agent is ready"
            )


def as_low_as_it_goes(cgroup: Limited) -> int:
    """Limit it to what it uses when the kernel has taken back what it can; returns the limit in bytes.

    Nobody is killed by that: version 1 refuses a limit below what is used, and version 2, which would kill,
    is asked by the soft limit first.
    """
    limit = cgroup.used() * 6 // 10
    if cgroup.soft:
        cgroup.set(limit, soft=True)
        limit = cgroup.used() + STEP
        cgroup.set(limit)
        cgroup.set(None, soft=True)
        return limit
    while True:
        try:
            cgroup.set(limit)
        except OSError:
            limit += STEP
        else:
            return limit
