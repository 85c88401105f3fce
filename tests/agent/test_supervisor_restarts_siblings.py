"""The supervisor: what dies comes back, what cannot start ends the agent, nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isthmus.agent import supervisor
from isthmus.agent.identity import identity

SCRIPT = """
import sys
from pathlib import Path
from isthmus.agent import supervisor
from isthmus.agent.supervisor import Sibling

program = sys.argv[2]
supervisor.siblings = lambda file: [
    Sibling("steady", [sys.executable, "-c", "import time; time.sleep(600)"]),
    Sibling("tested", [sys.executable, "-c", program]),
    Sibling("control", [sys.executable, "-c", "import time; time.sleep(600)"]),
]
sys.exit(supervisor.supervise(Path(sys.argv[1])))
"""
SLEEPS = "import time; time.sleep(600)"
SECONDS = 60

Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def run(program: str) -> subprocess.Popen[bytes]:
        file = tmp_path / "settings.json"
        file.write_text(json.dumps({"dns_workers": 1, "xds_workers": 1}))
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(file), program], stderr=subprocess.PIPE)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def pid(tmp_path: Path, name: str, other_than: int = 0) -> int:
    file = tmp_path / f"{name}.pid"
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if file.exists() and (text := file.read_text().strip()) and int(text) != other_than:
            return int(text)
        time.sleep(0.01)  # a file is polled: it has no event
    raise AssertionError(f"no {name} within {SECONDS} s")


def gone(number: int) -> bool:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_killed_sibling_comes_back_and_the_others_stay(start: Start, tmp_path: Path) -> None:
    start(SLEEPS)
    steady, first = pid(tmp_path, "steady"), pid(tmp_path, "tested")
    os.kill(first, signal.SIGKILL)
    assert pid(tmp_path, "tested", other_than=first) != first
    assert pid(tmp_path, "steady") == steady


def test_where_memory_is_short_control_dies_before_any_worker(start: Start, tmp_path: Path) -> None:
    start(SLEEPS)
    worker, control = (
        int(Path(f"/proc/{pid(tmp_path, name)}/oom_score_adj").read_text()) for name in ("steady", "control")
    )
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert worker == own
    assert control == min(1000, own + supervisor.SOONER)


def test_a_pid_file_is_written_over_in_place(start: Start, tmp_path: Path) -> None:
    """A full disk has no room for another one."""
    start(SLEEPS)
    first, file = pid(tmp_path, "tested"), (tmp_path / "tested.pid").stat()
    os.kill(first, signal.SIGKILL)
    assert pid(tmp_path, "tested", first)
    now = (tmp_path / "tested.pid").stat()
    assert (now.st_ino, now.st_size) == (file.st_ino, file.st_size)


def test_a_disk_that_takes_no_pid_file_ends_nobody(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tested.pid").mkdir()
    process = start(f"import os; open({str(tmp_path / 'proof')!r}, 'w').write('here'); {SLEEPS}")
    steady = pid(tmp_path, "steady")
    until = time.monotonic() + SECONDS
    while not (tmp_path / "proof").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert (tmp_path / "proof").exists()
    assert process.poll() is None
    os.kill(steady, 0)


def test_a_sibling_that_cannot_even_be_started_is_tried_again() -> None:
    sibling = supervisor.Sibling("lost", ["/nonexistent/program"])
    for pause in (0.1, 0.2, 0.4):
        sibling.due = 0.0
        assert supervisor._tend(sibling, Path("/nonexistent")) is None
        assert sibling.process is None
        assert sibling.pause == pause


@pytest.mark.parametrize(
    ("lived", "ends"), [(supervisor.STEADY_SECONDS + 5, 3), (supervisor.STOOD_SECONDS + 1, None)]
)
def test_what_took_long_to_find_that_it_cannot_start_has_never_stood(lived: float, ends: int | None) -> None:
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    process.wait()
    sibling = supervisor.Sibling("slow", [], process=process, started=time.monotonic() - lived)
    assert supervisor._tend(sibling, Path("/nonexistent")) == ends


def test_a_name_is_kept_and_an_empty_file_holds_none(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text("")
    name = identity(tmp_path)
    assert name
    assert identity(tmp_path) == name
    assert identity(tmp_path / "missing")


def test_sigterm_ends_everything_with_code_0(start: Start, tmp_path: Path) -> None:
    process = start(SLEEPS)
    children = [pid(tmp_path, "steady"), pid(tmp_path, "tested")]
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert all(gone(child) for child in children)
    assert not list(tmp_path.glob("*.pid"))


def test_siblings_do_not_outlive_a_killed_supervisor(start: Start, tmp_path: Path) -> None:
    process = start(SLEEPS)
    children = [pid(tmp_path, "steady"), pid(tmp_path, "tested")]
    process.kill()
    assert all(gone(child) for child in children)


@pytest.mark.parametrize("code", [2, 3])
def test_a_sibling_that_cannot_start_ends_the_agent_with_its_code(
    start: Start, tmp_path: Path, code: int
) -> None:
    process = start(f"raise SystemExit({code})")
    steady = pid(tmp_path, "steady")
    assert process.wait(SECONDS) == code
    assert gone(steady)


def test_the_real_siblings_are_control_and_one_worker_of_each_door(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"dns_workers": 2, "xds_workers": 1}))
    assert [one.name for one in supervisor.siblings(file)] == ["control", "dns-0", "dns-1", "xds-0"]
