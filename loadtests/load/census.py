"""Who runs in the bed, by role: processes, memory, open descriptors, tasks, processor time.

/proc may number processes as another pid namespace does, so they are told by their network namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from isthmus.demo.httpcall import fetch
from loadtests.load import packets

BED = "ISTHMUS_LOAD_BED"
"""Names the bed's folder in the environment of all its processes."""
ISTHMUS = ("control", "dns", "xds", "supervisor", "hub")
"""Roles of Isthmus itself, all of which a bed has; their memory and descriptors are watched."""
LOOPS = ("control", "dns", "xds", "hub")
"""Those whose processes tell the tasks of their event loops."""
CALLERS = "callers"
PODS = "pods"
"""The bed's, which faults replace: no leak of ours."""
SERVERS = "apiserver"
WEIGHED = (*ISTHMUS, SERVERS)
_WORDS = (
    # What stands in the command line of a role; the first that fits counts.
    ("control", ("isthmus.agent.control",)),
    ("dns", ("isthmus.agent.worker", "\0dns\0")),
    ("xds", ("isthmus.agent.worker", "\0xds\0")),
    ("supervisor", ("isthmus.agent.supervisor",)),
    ("supervisor", ("isthmus\0run\0agent",)),
    ("hub", ("isthmus\0run\0hub",)),
    (SERVERS, ("isthmus.apiserver",)),
    (PODS, ("isthmus.demo.backend",)),
    (CALLERS, ("loadtests.load.callers",)),
    ("envoy-tuned", ("envoy-tuned-",)),
    ("envoy-static", ("envoy-static-",)),
    ("envoy-naive", ("envoy-naive-",)),
    ("envoy", ("envoy-",)),
    ("coredns-static", ("coredns",)),
)
_TICK = os.sysconf("SC_CLK_TCK")
_TASKS = b"isthmus_process_tasks{"


class Count(msgspec.Struct, kw_only=True):
    """Sums over the processes of a role; `cpu_s` includes those that have ended since the census began.

    `tasks` are those of the `told` processes that were asked and told them.
    """

    processes: int = 0
    descriptors: int = 0
    memory_mb: float = 0.0
    tasks: int = 0
    told: int = 0
    cpu_s: float = 0.0


class Taken(msgspec.Struct, kw_only=True):
    """One census, on the monotonic clock; `other` are command lines that no role knows.

    `zombies` are names of processes that have ended and were not waited for. `rules` are chains that drop
    packets, `mute` the consoles that were asked and did not answer.
    """

    at: float
    roles: dict[str, Count]
    other: list[str]
    zombies: list[str] = []
    rules: int = 0
    mute: list[str] = []

    @property
    def memory_mb(self) -> float:
        return sum(self.roles[role].memory_mb for role in WEIGHED if role in self.roles)


def role_of(command: str) -> str:
    """The role of a process by its command line, "" for none."""
    return next((role for role, words in _WORDS if all(word in command for word in words)), "")


class Census:
    """Counts again and again; `consoles` are (address, port) of who tells of its tasks."""

    def __init__(self, consoles: Iterable[tuple[str, int]], proc: Path = Path("/proc")) -> None:
        self._consoles = tuple(consoles)
        self._proc = proc
        self._spent: dict[str, dict[tuple[int, str], float]] = {}
        """Seconds of processor time by role, then by process (its number and when it began)."""

    async def take(self, *, tasks: bool = False) -> Taken:
        """Count now; with `tasks` also tasks and rules."""
        taken = await asyncio.to_thread(self._count)
        if tasks:
            taken.rules = await asyncio.to_thread(packets.walls)
            pages = await asyncio.gather(*(self._page(*console) for console in self._consoles))
            for (address, port), page in zip(self._consoles, pages, strict=True):
                if page is None:
                    taken.mute.append(f"{address}:{port}")
                for role, number in tasks_in(page or b""):
                    count = taken.roles.setdefault(role, Count())
                    count.tasks += number
                    count.told += 1
        return taken

    def _count(self) -> Taken:
        taken = Taken(at=time.monotonic(), roles={}, other=[])
        ours = os.readlink(self._proc / "self/ns/net")
        ended: list[tuple[str, str]] = []
        living: set[str] = set()
        for entry in self._proc.iterdir():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError, ValueError):
                if not entry.name.isdigit():
                    continue
                name, state, parent = _stat(entry)
                if state == "Z":  # it has no namespace any more, so it is its parent's
                    ended.append((name, parent))
                    continue
                if os.readlink(entry / "ns/net") != ours:
                    continue
                living.add(entry.name)
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                role = role_of(command)
                if role:
                    self._add(entry, role, taken.roles.setdefault(role, Count()))
                elif command and "loadtests.load.inside" not in command:
                    taken.other.append(command.replace("\0", " ").strip()[:120])
        taken.zombies = [name for name, parent in ended if parent in living]
        for role, spent in self._spent.items():
            taken.roles.setdefault(role, Count()).cpu_s = round(sum(spent.values()), 2)
        return taken

    def _add(self, entry: Path, role: str, count: Count) -> None:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        descriptors = len(os.listdir(entry / "fd"))
        memory = _pss_kb((entry / "smaps_rollup").read_text()) / 1024 if role in WEIGHED else 0.0
        count.processes += 1
        count.descriptors += descriptors
        count.memory_mb = round(count.memory_mb + memory, 2)
        spent = self._spent.setdefault(role, {})
        spent[int(entry.name), fields[19]] = (int(fields[11]) + int(fields[12])) / _TICK

    async def _page(self, address: str, port: int) -> bytes | None:
        try:
            answer = await fetch(address, port, "/metrics", timeout=5.0)
        except OSError:
            return None
        return answer.body if answer.status == 200 else None


def least(some: Sequence[Taken]) -> Taken:
    """The last census, with the fewest descriptors and tasks that a role had in any: how it is at rest."""
    last = some[-1]
    for role, count in last.roles.items():
        counts = [taken.roles[role] for taken in some if role in taken.roles]
        count.descriptors = min(c.descriptors for c in counts)
        count.tasks = min(c.tasks for c in counts if c.told == count.told)
    return last


def survivors(folder: str, proc: Path = Path("/proc")) -> list[str]:
    """Command lines of processes, in whatever namespace, that name this folder of a bed or were told of it.

    What a bed starts inherits BED in its environment, whatever its arguments are.
    """
    found, named = [], folder.encode()
    for entry in proc.iterdir():
        with contextlib.suppress(OSError):
            if not entry.name.isdigit():
                continue
            line = (entry / "cmdline").read_bytes()
            if named in line or b"%s=%s" % (BED.encode(), named) in (entry / "environ").read_bytes():
                found.append(line.decode(errors="replace").replace("\0", " ").strip()[:120])
    return found


def tasks_in(page: bytes) -> Iterator[tuple[str, int]]:
    """Role and tasks of every process that a page of metrics tells of."""
    for line in page.splitlines():
        if line.startswith(_TASKS):
            labels, _, number = line.decode().rpartition(" ")
            yield labels.partition('process="')[2].partition('"')[0].partition("-")[0], int(float(number))


def _stat(entry: Path) -> tuple[str, str, str]:
    """Name, state and parent of a process."""
    head, _, rest = (entry / "stat").read_text().rpartition(")")
    state, parent = rest.split()[:2]
    return head.partition("(")[2], state, parent


def _pss_kb(rollup: str) -> int:
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
