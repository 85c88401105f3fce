"""The wall clock of a machine jumps under an agent, or under the hub."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo.stage import Stage
from isthmus.demo.world import World
from isthmus.errors import PlatformError
from isthmus.fleet.heartbeat import LEASE_NAME
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from isthmus.model.timestamp import parse_time
from loadtests.load.bed import Bed
from loadtests.load.counters import wall_clock
from loadtests.load.faults.fault import OneCluster, fault
from loadtests.load.marks import Trace

SOURCE = Path(__file__).parents[1] / "clock.c"
MOST_SECONDS = 10 * 365 * 86_400


@fault("clock-jump")
class ClockJump(OneCluster, frozen=True, kw_only=True):
    """The wall clock of all processes of the cluster's agent is `seconds` ahead (behind, if less than 0).

    With `hub: true` the hub's judge jumps with it. Monotonic clocks go on, as they do on a real machine.
    """

    seconds: int
    hub: bool = False

    def complaint(self, world: World) -> str:
        if not 1 <= abs(self.seconds) <= MOST_SECONDS:
            return f"seconds: {self.seconds} is no jump of 1 second to ten years, forward or back"
        return super().complaint(world)

    def alone(self) -> tuple[str, ...]:
        return (*super().alone(), *(("the clock of the hub",) if self.hub else ()))

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        library = compiled(stage.folder)
        for name in (f"agent-{self.cluster}", "hub"):
            file = _file(stage, name)
            file.write_bytes(struct.pack("l", 0))
            stage.processes.wrap(name, "env", f"LD_PRELOAD={library}", f"ISTHMUS_LOAD_CLOCK={file}")
        yield

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace = Trace()
        files = [_file(bed.stage, f"agent-{self.cluster}"), *([_file(bed.stage, "hub")] if self.hub else [])]
        lease = ObjectKey(hub_namespace(ClusterId(self.cluster)), LEASE_NAME)
        for file in files:
            _step(file, self.seconds)
        try:
            yield trace
            renewed = (await bed.hub.get(kinds.LEASE, lease)).spec.renew_time
            off = [told_ahead(renewed)]
            said = f"the agent of {self.cluster} renewed its lease at {renewed}, {off[0] or 0:+.0f} s off"
            if self.hub:
                off.append(await wall_clock(bed.world.hub) - time.time())
                said += f"; the hub's own clock is {off[1]:+.0f} s off"
            if all(each is not None and abs(each - self.seconds) < abs(self.seconds) / 2 for each in off):
                trace.saw(said)
        finally:
            for file in files:
                _step(file, 0)


def compiled(folder: Path) -> Path:
    """The library that is preloaded, in that folder; PlatformError without a C compiler."""
    library = folder / "clock.so"
    if not library.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise PlatformError("fault clock-jump needs a C compiler: install the package gcc")
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PlatformError(f"fault clock-jump: {SOURCE.name} does not compile: {done.stderr[:200]}")
    return library


def told_ahead(stamp: str | None) -> float | None:
    """How many seconds a time of Kubernetes is ahead of this process's clock."""
    told = parse_time(stamp) if stamp else None
    return None if told is None else told - time.time()


def _file(stage: Stage, name: str) -> Path:
    return stage.folder / f"{name}.clock"


def _step(file: Path, seconds: int) -> None:
    # In place, in one write: the processes have the page mapped.
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.pwrite(descriptor, struct.pack("l", seconds), 0)
    finally:
        os.close(descriptor)
