"""One real agent (`isthmus run agent`) and what the kernel says of its processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from isthmus.flow.replica import Replica
from isthmus.flow.table import Table
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.rows import ProxyClass

LAG = Path(__file__).parent / "lag"
_TICK = os.sysconf("SC_CLK_TCK")
PROCESSES = ("control", "dns-0", "xds-0")


class Agent:
    """Its folder holds state, logs and the long turns of its loops; it stands in a namespace of its own."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.turns_folder = folder / "turns"
        self.log = folder / "agent.log"
        self._kubeconfig = kubeconfig
        self._process: asyncio.subprocess.Process | None = None
        self.began = 0.0
        """Wall clock of the start."""

    async def start(self, *, fresh: bool) -> None:
        """Starts it, with an empty state directory where `fresh`."""
        if fresh:
            shutil.rmtree(self.state, ignore_errors=True)
        shutil.rmtree(self.turns_folder, ignore_errors=True)
        self.turns_folder.mkdir()
        self.log.write_text("")
        arguments = ["--cluster", "c000", "--region", "r0", "--state-dir", str(self.state)]
        arguments += ["--kubeconfig", str(self._kubeconfig), "--context", "member"]
        arguments += ["--hub-kubeconfig", str(self._kubeconfig), "--hub-context", "hub"]
        arguments += ["--dns-listen", "127.0.0.1:5353", "--xds-listen", "127.0.0.1:18000"]
        arguments += ["--console-listen", "127.0.0.1:9470", "--log-format", "json"]
        environment = {**os.environ, "PYTHONPATH": str(LAG), "LARGEWORLD_TURNS": str(self.turns_folder)}
        self.began = time.time()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "isthmus", "run", "agent", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()

    def pid(self, name: str) -> int:
        return int((self.state / f"{name}.pid").read_text())

    def cpu(self, name: str = "control") -> float:
        """CPU seconds of a process so far."""
        fields = Path(f"/proc/{self.pid(name)}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self, name: str = "control") -> dict[str, float]:
        """PSS, RSS and the highest RSS so far, in MB."""
        rollup = _fields(Path(f"/proc/{self.pid(name)}/smaps_rollup"))
        status = _fields(Path(f"/proc/{self.pid(name)}/status"))
        found = {"pss": rollup["Pss"], "rss": rollup["Rss"], "peak": status["VmHWM"]}
        return {key: round(value * 1024 / 1e6, 1) for key, value in found.items()}

    def turns(self, since: float, until: float, name: str = "control") -> list[tuple[float, float, float]]:
        """Long turns of a loop between two moments (monotonic): begin, wall and CPU milliseconds."""
        file = self.turns_folder / str(self.pid(name))
        rows = [tuple(map(float, line.split()[:3])) for line in file.read_text().splitlines()]
        return [(at, wall, cpu) for at, wall, cpu in rows if since <= at < until]

    def culprits(self, since: float, until: float, most: int = 12) -> list[str]:
        """The turns that took most CPU, with what ran in them (where LARGEWORLD_WHO is set)."""
        file = self.turns_folder / str(self.pid("control"))
        rows = [line.split() for line in file.read_text().splitlines()]
        rows = [row for row in rows if since <= float(row[0]) < until]
        return [" ".join(row) for row in sorted(rows, key=lambda row: -float(row[2]))[:most]]

    def logged(self, event: str) -> dict[str, Any] | None:
        """The first line of that event in control's log; `after` is seconds since the start."""
        for line in self.log.read_text().splitlines():
            if f'"{event}"' in line and line.startswith("{"):
                found = json.loads(line)
                if found.get("event") == event:
                    at = datetime.fromisoformat(found["timestamp"]).timestamp()
                    return {**found, "after": at - self.began}
        return None

    async def until_logged(self, event: str, seconds: float = 600.0) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while (found := self.logged(event)) is None:
                self._alive()
                await asyncio.sleep(0.05)
        return found

    async def until_ready(self, seconds: float = 600.0) -> float:
        """Seconds from the start until `/readyz` says yes."""
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(_ready):
                self._alive()
                await asyncio.sleep(0.1)
        return time.time() - self.began

    async def until_quiet(self, seconds: float = 900.0, *, window: float = 2.0, windows: int = 2) -> float:
        """Waits until control's CPU use is even over some windows; seconds from the start until then."""
        rates: list[float] = []
        before = self.cpu()
        async with asyncio.timeout(seconds):
            while True:
                await asyncio.sleep(window)
                now = self.cpu()
                rates.append((now - before) / window)
                before = now
                last = rates[-windows:]
                even = max(last) < 0.06 or max(last) - min(last) < 0.03 < 0.9 - max(last)
                if len(last) == windows and even:  # a whole core, evenly, is anything but quiet
                    return time.time() - self.began - window * windows

    def _alive(self) -> None:
        if self._process is None or self._process.returncode is not None:
            raise RuntimeError(f"the agent has ended:\n{self.log.read_text()[-3000:]}")


class Door:
    """A worker of our own, for one class of proxies: it takes their rows and notes when each came."""

    def __init__(self, agent: Agent) -> None:
        self.rows: Table[str, bytes] = Table("xds")
        self.seen: dict[str, list[float]] = {}
        self.rows.observe(self._note)
        wants: Table[str, bytes] = Table("wants")
        proxies = ProxyClass(Vantage("r0", "r0-1", ClusterId("c000")))
        wants.partition("bench").replace({str(proxies): b""})
        self._prefix = f"eds|{proxies.vantage}|"
        link = agent.state / "link.sock"
        self._replica = Replica(link, {"xds": self.rows}, {"wants": wants}, name="bench")
        self._task: asyncio.Task[None] | None = None

    def _note(self, key: str, _old: bytes | None, _new: bytes | None) -> None:
        if key.startswith(self._prefix):
            name, namespace = key.removeprefix(self._prefix).split(".")[:2]
            self.seen.setdefault(f"{namespace}/{name}", []).append(time.monotonic())

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._replica.run())
        async with asyncio.timeout(600):
            while not self.rows.synced or not self.seen:
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def delays(self, changed: list[tuple[str, float]]) -> list[float]:
        """Milliseconds from each change on the hub to the next row of its service."""
        found = []
        for service, at in changed:
            later = [when for when in self.seen.get(service, ()) if when >= at]
            if later:
                found.append((min(later) - at) * 1000)
        return found


def worst_by_second(
    turns: list[tuple[float, float, float]], since: float, until: float, column: int
) -> list[float]:
    """The longest turn of each second (0 where none was long); column 1: wall, 2: CPU milliseconds."""
    worst = [0.0] * max(1, int(until - since))
    for turn in turns:
        second = min(int(turn[0] - since), len(worst) - 1)
        worst[second] = max(worst[second], turn[column])
    return worst


def percentile(values: list[float], percent: int) -> float:
    """The value that so many percent do not exceed; 0 where there are none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _fields(file: Path) -> dict[str, int]:
    found = {}
    for line in file.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith("kB"):
            found[name] = int(rest.split()[0])
    return found


def _ready() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:9470/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
