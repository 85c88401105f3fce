"""A kubeconfig, context or port that fails is one line and exit code 2 or 3, never a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.ports import free_port

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: one
clusters: [{name: one, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: one, user: {}}]
contexts: [{name: one, context: {cluster: one, user: one}}]
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    return file


def isthmus(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isthmus", *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def agent(kubeconfig: Path, *more: object) -> Sequence[object]:
    state_dir = kubeconfig.parent / "state"
    ports = ["--dns-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--console-listen", "127.0.0.1:0"]
    named = ["--cluster", "eu-1", "--kubeconfig", kubeconfig, "--state-dir", state_dir]
    return ["run", "agent", *named, *ports, *more]


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1, done.stderr
    for word in words:
        assert word in said[0]


def test_a_missing_kubeconfig(kubeconfig: Path) -> None:
    gone = kubeconfig.with_name("gone")
    one_line(isthmus(*agent(kubeconfig, "--kubeconfig", gone)), 2, "gone")


def test_a_kubeconfig_that_is_none(kubeconfig: Path) -> None:
    kubeconfig.write_text("- this\n- is a list\n")
    one_line(isthmus(*agent(kubeconfig)), 2, "kubeconfig")


def test_a_context_that_does_not_exist_names_those_that_do(kubeconfig: Path) -> None:
    one_line(isthmus(*agent(kubeconfig, "--context", "two")), 2, "two", "one")


def test_a_hub_context_that_does_not_exist(kubeconfig: Path) -> None:
    done = isthmus("run", "hub", "--hub-kubeconfig", kubeconfig, "--hub-context", "two")
    one_line(done, 2, "two", "one")


@pytest.mark.parametrize("door", ["dns", "xds", "console"])
def test_a_port_that_is_taken(kubeconfig: Path, door: str) -> None:
    with socket.socket() as taken, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        datagrams.bind(("127.0.0.1", port))
        done = isthmus(*agent(kubeconfig, f"--{door}-listen", f"127.0.0.1:{port}"))
    one_line(done, 3, str(port))


def test_a_state_directory_that_cannot_be_made(kubeconfig: Path) -> None:
    one_line(isthmus(*agent(kubeconfig, "--state-dir", "/dev/null/below")), 3, "/dev/null/below")


def test_a_second_agent_on_one_state_directory(kubeconfig: Path) -> None:
    command = [sys.executable, "-m", "isthmus", *(str(each) for each in agent(kubeconfig))]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert first.stderr is not None
        while b"lease unreachable" not in first.stderr.readline():
            assert first.poll() is None
        one_line(isthmus(*agent(kubeconfig)), 2, "another agent")
    finally:
        first.terminate()
        first.communicate(timeout=180)
