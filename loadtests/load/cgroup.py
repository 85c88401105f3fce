"""A cgroup that limits memory, of version 1 or 2: made for an agent of a bed, and gone with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import PlatformError

ROOT = Path("/sys/fs/cgroup")
STEP = 1 << 20
POLL_SECONDS = 0.1
"""Between two tries to remove it: the kernel tells nobody who could wait that its last process was reaped."""
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
            except OSError:  # busy
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
