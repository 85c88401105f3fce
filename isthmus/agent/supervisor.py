"""The agent's first process: it starts control and the door workers and restarts what dies.

Only the standard library is imported, because this process lives as long as the agent and does nothing else.
Invariants: the siblings never outlive it (each asks the kernel for SIGTERM at its parent's death); a sibling
that dies takes no other with it; one that cannot start at all (exit code 2 or 3 before it ever stood) ends
the agent with that code, because restarting would only hide the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

STEADY_SECONDS = 5.0
"""A sibling that lived so long is started again at once."""
STOOD_SECONDS = 30.0
"""One that ends by itself before has never stood: a busy machine takes seconds to find out what is wrong."""
STOP_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0
PR_SET_PDEATHSIG = 1
EXPENDABLE = "control"
"""Callers do without it for a while: where memory is short the kernel is to kill it before any worker."""
SOONER = 500
ENDING = (signal.SIGTERM, signal.SIGINT)
AWAITED = (*ENDING, signal.SIGCHLD)


@dataclass
class Sibling:
    """One process of the agent and when to start it next."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    stood: bool = False
    pause: float = 0.0
    due: float = field(default_factory=time.monotonic)


def siblings(settings_file: Path) -> list[Sibling]:
    """Control first, then as many workers of each door as the settings say."""
    settings = json.loads(settings_file.read_text())
    run = [sys.executable, "-m"]
    found = [Sibling("control", [*run, "isthmus.agent.control", str(settings_file)])]
    for door in ("dns", "xds"):
        for number in range(settings[f"{door}_workers"]):
            command = [*run, "isthmus.agent.worker", str(settings_file), door, str(number)]
            found.append(Sibling(f"{door}-{number}", command))
    return found


def supervise(settings_file: Path) -> int:
    """Runs until a signal or a sibling that cannot start; returns the exit code."""
    state_dir = settings_file.parent
    everyone = siblings(settings_file)
    # Blocked and waited for: a dead sibling is noticed at once, and no handler runs at an odd moment.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    try:
        while True:
            for sibling in everyone:
                code = _tend(sibling, state_dir)
                if code is not None:
                    return code
            received = signal.sigtimedwait(AWAITED, _pause(everyone))
            # A wait that ran out while this process was halted returns a number that means nothing.
            if received is not None and received.si_signo in ENDING:
                return 0
    finally:
        _stop(everyone, state_dir)


def _pause(everyone: list[Sibling]) -> float:
    waiting = [s.due - time.monotonic() for s in everyone if s.process is None]
    return max(0.005, min([*waiting, 0.5]))


def _tend(sibling: Sibling, state_dir: Path) -> int | None:
    """Starts the sibling if it is due, notices its death; an exit code ends the agent."""
    now = time.monotonic()
    process = sibling.process
    if process is None:
        if now >= sibling.due:
            _start(sibling, state_dir, now)
        return None
    lived = now - sibling.started
    sibling.stood = sibling.stood or lived > STOOD_SECONDS
    if lived > STEADY_SECONDS:
        sibling.pause = 0.0
    code = process.poll()
    if code is None:
        return None
    sibling.process = None
    if code in (2, 3) and not sibling.stood:
        return code
    _again(sibling, now, f"ended with {_ending(code)}")
    return None


def _start(sibling: Sibling, state_dir: Path, now: float) -> None:
    """Starts the sibling; a machine that is out of memory, processes or disk must not end the others."""
    try:
        sibling.process = subprocess.Popen(
            sibling.command, preexec_fn=_die_first if sibling.name == EXPENDABLE else _die_with_parent
        )
    except OSError as error:
        _again(sibling, now, f"cannot start: {error.strerror}")
        return
    sibling.started = now
    try:
        # Written over the former one, in one piece of the same length: that takes no room of a full disk, and
        # nobody reads half a number.
        file = os.open(state_dir / f"{sibling.name}.pid", os.O_WRONLY | os.O_CREAT, 0o644)
        with open(file, "wb", buffering=0) as pid:
            pid.write(b"%-10d\n" % sibling.process.pid)
    except OSError as error:
        _say(f"{sibling.name}.pid cannot be written: {error.strerror}")


def _again(sibling: Sibling, now: float, why: str) -> None:
    sibling.due = now + sibling.pause
    _say(f"{sibling.name} {why}, starts again in {sibling.pause:g} s")
    sibling.pause = min(LONGEST_PAUSE_SECONDS, max(0.1, sibling.pause * 2))


def _die_with_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _die_first() -> None:
    """Anybody may ask to be killed sooner; a kernel that does not listen changes nothing else."""
    _die_with_parent()
    with contextlib.suppress(OSError, ValueError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + SOONER)))


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _say(text: str) -> None:
    sys.stderr.write(json.dumps({"process": "supervisor", "event": text}) + "\n")
    sys.stderr.flush()


def _stop(everyone: list[Sibling], state_dir: Path) -> None:
    alive = [s.process for s in everyone if s.process is not None and s.process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    for process in alive:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for sibling in everyone:
        with contextlib.suppress(OSError):
            (state_dir / f"{sibling.name}.pid").unlink(missing_ok=True)


def start(settings_json: str, state_dir: Path) -> None:
    """Replaces this process by a lean supervisor of an agent with those settings; never returns.

    Raises OSError when the state directory cannot be written.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings_file = state_dir / "settings.json"
    settings_file.write_text(settings_json)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "isthmus.agent.supervisor", str(settings_file)])


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
