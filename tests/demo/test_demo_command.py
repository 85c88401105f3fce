"""`isthmus demo` as its user meets it: wrong use, interruption, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.demo import namespace
from isthmus.demo.envoy import find_envoy
from isthmus.errors import PlatformError

ROOT = Path(__file__).resolve().parents[2]


def _missing() -> str:
    try:
        namespace.enter_command()
        find_envoy(None, os.environ, Path.home())
    except PlatformError as error:
        return str(error)
    return ""


MISSING = _missing()
needs_all = pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "isthmus", "demo", *arguments]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


@pytest.fixture
def short() -> Iterator[Path]:
    """An empty folder whose path leaves room for Unix sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@needs_all
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [b\n", "document 1, line 2: not YAML"),
        ("apiVersion: v1\nkind: Teapot\n", "document 1, line 1: kind 'Teapot' is not known here"),
        ("apiVersion: v1\nkind: Secret\n", "holds 0 Services"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n",
            "no Service with an HTTP port is exported",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {isthmus.dev/export: 'true'}}\n"
            "spec: {ports: [{port: 80}]}\n",
            "no exported Service with an HTTP port selects a pod",
        ),
    ],
    ids=["not yaml", "unknown kind", "no services", "nothing exported", "no pods"],
)
def test_manifests_that_cannot_be_used_are_one_line_and_exit_code_2(
    text: str, said: str, tmp_path: Path, short: Path
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    done = subprocess.run(
        command("--manifests", str(file)),
        cwd=ROOT, env=environment(short), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"isthmus: {file}")
    assert said in done.stderr
    assert list(short.iterdir()) == []


@needs_all
def test_numbers_out_of_range_are_wrong_use() -> None:
    done = subprocess.run(
        command("--duration", "1"), cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "isthmus: --duration 1: 30 to 3600 seconds (five accidents need their time)\n",
    )


@needs_all
def test_keys_without_a_terminal_are_wrong_use() -> None:
    done = subprocess.run(
        command("--interactive"), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "isthmus: --interactive: needs a terminal to read keys from and to show the view on\n"
    )


@needs_all
def test_the_demo_checks_its_pods_as_they_speak_and_counts_them_so(short: Path) -> None:
    """What is told here is what the report says (`checks`)."""
    demo = subprocess.Popen(
        command("--clusters", "2"), cwd=ROOT, env=environment(short), stderr=subprocess.PIPE, text=True
    )
    assert demo.stderr is not None
    try:
        told = next((line for line in demo.stderr if "checks endpoints everywhere" in line), "")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stderr.read()
        demo.wait(180)
        demo.stderr.close()
    counts = {protocol: int(count) for count, protocol in re.findall(r"(\d+) ([A-Z]+)", told)}
    assert counts.keys() >= {"GRPC", "HTTPS"}, told
    assert min(counts["GRPC"], counts["HTTPS"]) >= 2, "some in each cluster"


@needs_all
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_demo_that_is_stopped_leaves_no_process_and_no_folder(number: signal.Signals, short: Path) -> None:
    demo = subprocess.Popen(
        command("--clusters", "2"), cwd=ROOT, env=environment(short), stderr=subprocess.PIPE, text=True
    )
    assert demo.stderr is not None
    try:
        for line in demo.stderr:
            if "callers start" in line:
                break
        (folder,) = short.iterdir()
        assert _processes_of(folder)
    finally:
        demo.send_signal(number)
        code = demo.wait(180)
        demo.stderr.close()
    assert code == (130 if number is signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 120
    while _processes_of(folder) or list(short.iterdir()):
        assert time.monotonic() < deadline, "something stays behind"
        time.sleep(0.05)


def _processes_of(folder: Path) -> list[str]:
    """Command lines that name the demo's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
