"""A scenario runs on a bed of its own, through real doors, and is judged; nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from isthmus.demo import namespace
from isthmus.demo.envoy import find_envoy
from isthmus.errors import PlatformError
from loadtests.load.result import Result

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """
about: a test
seconds: 9
load: {envoy-get: 20, envoy-post: 5, grpc: 20, dns-udp: 10, dns-tcp: 5}
events:
- {fault: drain, cluster: eu-2, at: 2, for: 4}
expect:
- failures: {most: 0}
- p99: {doors: [envoy-get], ms: 0.001}
"""


def _missing() -> str:
    try:
        namespace.enter_command()
        find_envoy(None, os.environ, Path.home())
    except PlatformError as error:
        return str(error)
    return ""


MISSING = _missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")


@pytest.fixture
def short() -> Iterator[Path]:
    """An empty folder whose path leaves room for Unix sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mine.yaml").write_text(SCENARIO)
        yield Path(folder)


def started(folder: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "loadtests.load.run",
        str(folder / "mine.yaml"),
        "--out",
        str(folder / "out"),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, stderr=subprocess.PIPE, text=True
    )


def test_what_callers_saw_is_judged_and_kept(short: Path) -> None:
    with started(short) as process:
        _, said = process.communicate(timeout=600)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    result = msgspec.json.decode((short / "out" / "mine.json").read_bytes(), type=Result)
    (accident,) = result.accidents
    assert accident.evidence.startswith("no share for eu-2 in any of ")
    assert [f.expectation for f in result.findings if not f.passed] == ["p99"], result.findings
    assert all(door.calls > 20 for door in result.doors)
    # Of names each host keeps one answer for long, so that a few calls need not reach every cluster.
    for door in result.doors:
        reached = set(door.by_cluster)
        assert reached == {"eu-1", "eu-2", "us-1"} if not door.door.startswith("dns") else reached
    assert (short / "out" / "mine.html").stat().st_size > 100_000
    assert "mine" in (short / "out" / "index.html").read_text()
    assert result.surroundings.command == f"make load SCENARIO={short / 'mine.yaml'}"


def test_an_interrupt_ends_it_and_leaves_nothing(short: Path) -> None:
    with started(short) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "objects are in the API servers" in line:
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=180)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not list(short.glob("isthmus-load-*"))
    deadline = time.monotonic() + 120
    while remains(short) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert remains(short) == []


def remains(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line.replace("\0", " "))
    return found
