"""Who runs in the bed, by role: processes, memory, open descriptors, tasks, processor time.

/proc may number processes as another pid namespace does, so they are told by their network namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from isthmus.demo.httpcall import fetch
from loadtests.load import packets

ISTHMUS = ("control", "dns", "xds", "supervisor", "hub")
"""Roles of Isthmus itself; their memory and tasks are watched."""
CALLERS = "callers"
PODS = "pods"
"""The bed's, which faults replace: no leak of ours."""
WEIGHED = (*ISTHMUS, "apiserver")
_WORDS = (
    # What stands in the command line of a role; the first that fits counts.
    ("control", ("isthmus.agent.control",)),
    ("dns", ("isthmus.agent.worker", "\0dns\0")),
    ("xds", ("isthmus.agent.worker", "\0xds\0")),
    ("supervisor", ("isthmus.agent.supervisor",)),
    ("supervisor", ("isthmus\0run\0agent",)),
    ("hub", ("isthmus\0run\0hub",)),
    ("apiserver", ("isthmus.apiserver",)),
    (PODS, ("isthmus.demo.backend",)),
    (CALLERS, ("loadtests.load.callers",)),
    ("envoy-tuned", ("envoy-tuned-",)),
    ("envoy-static", ("envoy-static-",)),
    ("envoy", ("envoy-",)),
    ("coredns-static", ("coredns",)),
)
_TICK = os.sysconf("SC_CLK_TCK")
_TASKS = b"isthmus_process_tasks{"


class Count(msgspec.Struct, kw_only=True):
    """Sums over the processes of a role; `cpu_s` includes those that have ended since the census began."""

    processes: int = 0
    descriptors: int = 0
    memory_mb: float = 0.0
    tasks: int = 0
    cpu_s: float = 0.0


class Taken(msgspec.Struct, kw_only=True):
    """One census, on the monotonic clock; `other` are command lines that no role knows."""

    at: float
    roles: dict[str, Count]
    other: list[str]
    rules: int = 0
    """Chains that drop packets."""

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
        """Count now; with `tasks` also tasks and rules. A console that does not answer counts as 0."""
        taken = await asyncio.to_thread(self._count)
        if tasks:
            taken.rules = await asyncio.to_thread(packets.walls)
            for told in await asyncio.gather(*(self._tasks(*console) for console in self._consoles)):
                for role, number in told.items():
                    taken.roles.setdefault(role, Count()).tasks += number
        return taken

    def _count(self) -> Taken:
        taken = Taken(at=time.monotonic(), roles={}, other=[])
        ours = os.readlink(self._proc / "self/ns/net")
        for entry in self._proc.iterdir():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError, ValueError):
                if not entry.name.isdigit() or os.readlink(entry / "ns/net") != ours:
                    continue
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                role = role_of(command)
                if role:
                    self._add(entry, role, taken.roles.setdefault(role, Count()))
                elif command and "loadtests.load.inside" not in command:
                    taken.other.append(command.replace("\0", " ").strip()[:120])
        for role, spent in self._spent.items():
            taken.roles.setdefault(role, Count()).cpu_s = round(sum(spent.values()), 2)
        return taken

    def _add(self, entry: Path, role: str, count: Count) -> None:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        if fields[0] == "Z":
            return
        descriptors = len(os.listdir(entry / "fd"))
        memory = _pss_kb((entry / "smaps_rollup").read_text()) / 1024 if role in WEIGHED else 0.0
        count.processes += 1
        count.descriptors += descriptors
        count.memory_mb = round(count.memory_mb + memory, 2)
        spent = self._spent.setdefault(role, {})
        spent[int(entry.name), fields[19]] = (int(fields[11]) + int(fields[12])) / _TICK

    async def _tasks(self, address: str, port: int) -> dict[str, int]:
        try:
            answer = await fetch(address, port, "/metrics", timeout=5.0)
        except OSError:
            return {}
        return tasks_in(answer.body)


def survivors(folder: str, proc: Path = Path("/proc")) -> list[str]:
    """Command lines of processes, in whatever namespace, that name this folder of a bed."""
    found = []
    for entry in proc.iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and folder.encode() in (line := (entry / "cmdline").read_bytes()):
                found.append(line.decode(errors="replace").replace("\0", " ").strip()[:120])
    return found


def tasks_in(page: bytes) -> dict[str, int]:
    """Tasks by role, of a page of metrics."""
    found: dict[str, int] = {}
    for line in page.splitlines():
        if line.startswith(_TASKS):
            labels, _, number = line.decode().rpartition(" ")
            role = labels.partition('process="')[2].partition('"')[0].partition("-")[0]
            found[role] = found.get(role, 0) + int(float(number))
    return found


def _pss_kb(rollup: str) -> int:
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
