"""The disk that an agent keeps its state on is full."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from isthmus.demo.namespace import run_tool
from isthmus.demo.stage import Stage
from loadtests.load.bed import Bed
from loadtests.load.counters import logged
from loadtests.load.faults.fault import OneCluster, fault, meanwhile
from loadtests.load.marks import Trace

SIZE = "16m"
BLOCK = b"\0" * 65_536
AGAIN_SECONDS = 0.5
UNWRITABLE = "last-good store unwritable"


@fault("disk-full")
class DiskFull(OneCluster, frozen=True, kw_only=True):
    """The state directory of the cluster's agent is a small disk of its own, filled to the last byte."""

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        folder = stage.folder / self.cluster
        if not folder.is_mount():
            folder.mkdir(mode=0o700, exist_ok=True)
            run_tool("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "none", str(folder))
        # The mount ends with the namespace.
        yield

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, folder = Trace(), bed.stage.folder / self.cluster
        agents, filler = [bed.member(self.cluster)], folder / "filler"
        before = logged(bed.stage, agents, UNWRITABLE)
        try:
            async with meanwhile(_fill(filler), name=f"fill-{self.cluster}"):
                yield trace
                failed = logged(bed.stage, agents, UNWRITABLE) - before
                if _is_full(folder):
                    went = "could not write its store" if failed else "kept to the room that its store had"
                    trace.saw(f"not a byte could be written, and the agent of {self.cluster} {went}")
        finally:
            filler.unlink(missing_ok=True)


def _is_full(folder: Path) -> bool:
    """Whether whoever needs one more block does not get it."""
    probe = folder / "probe"
    try:
        probe.write_bytes(b"\0")
    except OSError as error:
        return error.errno == errno.ENOSPC
    finally:
        probe.unlink(missing_ok=True)
    return False


async def _fill(filler: Path) -> None:
    """Take every block that there is, and again whatever others let go of."""
    with filler.open("ab", buffering=0) as file:
        while True:
            with contextlib.suppress(OSError):
                while file.write(BLOCK):
                    pass
            await asyncio.sleep(AGAIN_SECONDS)
