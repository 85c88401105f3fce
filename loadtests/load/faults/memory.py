"""An agent reaches its memory limit, and the kernel kills one of its processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ClassVar

from isthmus.demo.stage import Stage
from loadtests.load import cgroup
from loadtests.load.bed import Bed
from loadtests.load.counters import serves_again
from loadtests.load.faults.fault import OneCluster, fault
from loadtests.load.marks import Trace

JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
BACK_SECONDS = 20.0


@fault("memory-limit")
class MemoryLimit(OneCluster, frozen=True, kw_only=True):
    """The agent of the cluster gets no more memory than it has: who asks for more has one of them killed.

    It shows when a process was killed, and afterwards as many run as before and the agent is ready.
    """

    counts: ClassVar[tuple[str, ...]] = ("killed",)
    needs_root = "to limit memory by cgroups"

    @contextmanager
    def around(self, folder: Path) -> Iterator[None]:
        with cgroup.made(cgroup.of_bed(folder, self.cluster)):
            yield

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        group = cgroup.of_bed(stage.folder, self.cluster)
        stage.processes.wrap(f"agent-{self.cluster}", "sh", "-c", JOIN, str(group.folder))
        yield

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, member = Trace(), bed.member(self.cluster)
        group = cgroup.of_bed(bed.stage.folder, self.cluster)
        before, processes, control = group.killed(), group.processes(), bed.stage.control_pid(member)
        limit = cgroup.as_low_as_it_goes(group)
        try:
            yield trace
        finally:
            group.set(None)
        ready, killed = await serves_again(member, BACK_SECONDS), group.killed() - before
        trace.counts["killed"] = killed
        if killed and ready and group.processes() == processes:
            whom = "control" if bed.stage.control_pid(member) != control else "a worker"
            trace.saw(
                f"{whom} of {self.cluster} was killed at {limit / 1e6:.0f} MB ({killed} processes); "
                f"all {processes} are back, and the agent is ready"
            )
