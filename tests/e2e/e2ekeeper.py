"""Keeps two whole clusters on this machine for as long as its standard input stays open.

    e2ekeeper.py TOOL ENVOY     prints the folder of the clusters' state when both are up

A process of its own, because clusters outlive whoever brought them up: however the tests end (passed, failed,
interrupted, killed), the kernel closes this input. The clusters then go down, and what is left of them on the
machine is looked for: anything is an error (exit code 1, with its names), and removed. What a keeper that was
itself killed has left, the next one removes. Only the standard library is imported; TOOL is the folder that
tools/real_clusters.sh prints, whose cluster.py knows how network namespace and control groups are named.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

NODES = {"a": ("--index", "0", "--nodes", "1"), "b": ("--index", "1", "--nodes", "2")}
MANAGER = "kube-controller-manager"
GRACE = "--node-monitor-grace-period="
GRACE_SECONDS = 120
"""Kubernetes is to take no node of a busy machine for dead: its pods would be not ready in every door."""
GONE_SECONDS = 30.0
RULES = ("kube", "egress", "CNI-")
"""Parts of the packet filter's names that belong into nodes alone."""


class Failed(Exception):
    """A step failed; the message is what it said."""


class Stage:
    """The clusters of one state folder."""

    def __init__(self, tool: Path, state: Path) -> None:
        self.state = state
        self._tool = tool
        self._environment = os.environ | {"CLUSTER_STATE": str(state)}
        self._mark = _mark(tool, state)
        self._rules = _rules()

    def up(self, envoy: Path) -> None:
        """Brings both up, with Envoy's image in each. Raises Failed."""
        image = self.state / "envoy.tar"
        made = ("--name", "localhost/envoy:1", "--program", f"{envoy}:/usr/bin/envoy", "--out", str(image))
        self._do("mkimage.py", *made)
        if self._both():
            self._fall()  # the tool has short deadlines, and the machine may be busy: once more
            if said := self._both():
                raise Failed("\n".join([*said, *self._logs()]))
        for name in NODES:
            self._do("cluster.py", "load", name, "--", str(image))
        image.unlink()
        for name in NODES:
            self._be_patient(f"{name}-1", self.state / name / f"{name}-1" / "log" / f"{MANAGER}.argv")

    def down(self) -> list[str]:
        """Takes everything down; returns what was left then, and removes it."""
        self._fall()
        until = time.monotonic() + GONE_SECONDS
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(0.2)  # the kernel tells nobody when a mount or a cgroup is gone
        if left:
            self._remove()
        shutil.rmtree(self.state)
        return left

    def _both(self) -> list[str]:
        """Brings both up; returns what failed."""
        ups = [self._start("cluster.py", "up", name, *how, "--dual-stack") for name, how in NODES.items()]
        # Each is awaited whatever became of the other: none may still be at work when all goes down.
        return [said for said in map(_said, ups) if said]

    def _fall(self) -> None:
        for cluster in sorted(self.state.glob("*/cluster.json")):
            with contextlib.suppress(Failed):  # half a cluster: what it leaves is found afterwards
                self._do("cluster.py", "down", cluster.parent.name)

    def _be_patient(self, node: str, argv: Path) -> None:
        words = json.loads(argv.read_text())
        patient = [f"{GRACE}{GRACE_SECONDS}s" if word.startswith(GRACE) else word for word in words]
        if patient == words:
            raise Failed(f"{argv} has no {GRACE}: the tool has changed")
        argv.write_text(json.dumps(patient))
        self._do("cluster.py", "stop", node, MANAGER)
        self._do("cluster.py", "start", node, MANAGER)

    def _start(self, program: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self._tool / program), *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _do(self, program: str, *words: str) -> None:
        if said := _said(self._start(program, *words)):
            raise Failed(said)

    def _logs(self) -> list[str]:
        """The ends of the daemons' logs."""
        logs = sorted(self.state.glob("*/*/log/*.log"))
        return [f"== {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]

    def _left(self) -> list[str]:
        """What these clusters have on the machine, in words."""
        found = [f"process {pid}" for pid in self._processes()]
        found += [f"control group {group}" for group in self._groups()]
        if Path("/run/netns", self._mark).exists():
            found.append(f"network namespace {self._mark}")
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if str(self.state) in line]
        return found + [f"packet filter: {rule}" for rule in sorted(_rules() - self._rules)]

    def _processes(self) -> Iterator[int]:
        """Processes in the nodes' control groups, and the tool's own at work on this state; no dead ones."""
        ours = f"CLUSTER_STATE={self.state}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                inside = f"/{self._mark}-" in (folder / "cgroup").read_text()
                if not dead and (inside or ours in (folder / "environ").read_bytes()):
                    yield int(folder.name)

    def _groups(self) -> Iterator[Path]:
        """The nodes' control groups, inner ones first."""
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount, kind, *_ = line.split()
            if kind in ("cgroup", "cgroup2"):
                for folder, _, _ in os.walk(mount, topdown=False):
                    if f"/{self._mark}-" in f"{folder}/":
                        yield Path(folder)

    def _remove(self) -> None:
        until = time.monotonic() + GONE_SECONDS
        while (pids := list(self._processes())) and time.monotonic() < until:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)  # the processes are not our children: nobody waits for them
        for group in self._groups():
            with contextlib.suppress(OSError):
                group.rmdir()
        if Path("/run/netns", self._mark).exists():
            subprocess.run(["ip", "netns", "del", self._mark], check=True)


def _said(process: subprocess.Popen[str]) -> str:
    """Waits for its end; what it said if it failed, else ""."""
    said, _ = process.communicate()
    return f"{process.args}: exit code {process.returncode}\n{said}" if process.returncode else ""


def _mark(tool: Path, state: Path) -> str:
    """The name of the network namespace of a state folder, with which its control groups begin too."""
    sys.dont_write_bytecode = True
    os.environ["CLUSTER_STATE"] = str(state)
    try:
        spec = importlib.util.spec_from_file_location("cluster", tool / "cluster.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        del os.environ["CLUSTER_STATE"]
    return str(module.FABRIC)


def _rules() -> set[str]:
    """Lines of this machine's packet filter that look like a node's."""
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True)
    return {line.strip() for line in listed.stdout.splitlines() if any(part in line for part in RULES)}


def _take(state: Path) -> TextIO | None:
    """The open lock of a state folder, None where another keeper has it or the folder is gone."""
    try:
        lock = (state / "keeper").open("a")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _begin(tool: Path) -> tuple[Path, TextIO]:
    """Removes what killed keepers have left; returns a new state folder and its lock."""
    with (tool.parent / "e2e.lock").open("a") as everybody:
        fcntl.flock(everybody, fcntl.LOCK_EX)
        for orphan in tool.parent.glob("e2e-*/"):
            if lock := _take(orphan):
                with lock:
                    Stage(tool, orphan).down()
        # Not in a temporary folder: nodes mount overlays on it.
        state = Path(tempfile.mkdtemp(prefix="e2e-", dir=tool.parent))
        lock = _take(state)
        assert lock is not None
        return state, lock


def main(tool: Path, envoy: Path) -> int:
    state, lock = _begin(tool)
    failures: list[str] = []
    with lock:
        stage = Stage(tool, state)
        try:
            stage.up(envoy)
            sys.stdout.write(f"{state}\n")
            sys.stdout.flush()
            sys.stdin.read()
        except Failed as failed:
            failures.append(f"the clusters do not come up:\n{failed}")
        finally:
            if left := stage.down():
                failures += ["left on this machine (and removed now):", *left]
    sys.stderr.write("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
