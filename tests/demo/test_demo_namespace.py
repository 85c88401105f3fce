"""Namespaces, silence and the doors out, for root and for anybody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isthmus.demo import forward, namespace
from isthmus.demo.envoy import find_envoy
from isthmus.demo.kubeconfig import kubeconfig
from isthmus.errors import PlatformError
from isthmus.kube.config import load_access

ROOT = Path(__file__).resolve().parents[2]


def _enter() -> tuple[str, ...] | str:
    try:
        return namespace.enter_command()
    except PlatformError as error:
        return str(error)


ENTER = _enter()
needs_namespace = pytest.mark.skipif(isinstance(ENTER, str), reason=f"needs a network namespace: {ENTER}")
INSIDE = """
import asyncio, sys
from isthmus.demo import namespace, silence
from isthmus.demo.backend import BackendConfig, Listen, Pods
from isthmus.demo.httpcall import fetch
namespace.furnish()
silence.install()

async def answered(address, timeout=60):
    try:
        return (await fetch(address, 80, "/", timeout=timeout)).headers[b"x-cluster"].decode()
    except TimeoutError:
        return "silent"

async def main():
    for cluster, address in (("eu-1", "10.64.1.0"), ("eu-2", "10.65.1.0")):
        await Pods().listen(BackendConfig(cluster, [Listen(address, 80, "http", "p")]))
    print(await answered("10.64.1.0"), await answered("10.65.1.0"), silence.dropped())
    silence.drop(["10.65.0.0/16", "10.127.2.1"])
    print(await answered("10.64.1.0"), await answered("10.65.1.0", 0.5), silence.dropped() > 0)
    silence.lift()
    print(await answered("10.64.1.0"), await answered("10.65.1.0"))

asyncio.run(main())
"""


def inside(program: str, enter: tuple[str, ...] | str = ENTER) -> list[str]:
    assert not isinstance(enter, str)
    return [*enter, sys.executable, "-B", "-c", textwrap.dedent(program)]


def settles(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "did not settle"
        time.sleep(0.02)


@needs_namespace
@pytest.mark.parametrize("user", [False, True], ids=["as we are", "in a user namespace"])
def test_a_slice_falls_silent_and_returns_and_the_others_do_not_notice(user: bool) -> None:
    command = inside(INSIDE, namespace.WITH_USER if user else ENTER)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["eu-1 eu-2 0", "eu-1 silent True", "eu-1 eu-2", ""]


@needs_namespace
def test_nothing_survives_the_first_process(tmp_path: Path) -> None:
    note = tmp_path / "note"
    program = f"""
        import subprocess, sys, time
        subprocess.Popen(["sleep", "7777.25"], start_new_session=True)
        open({str(note)!r}, "w").write("up")
        time.sleep(60)
    """
    outer = subprocess.Popen(inside(program), cwd=ROOT)
    try:
        settles(note.exists)
        assert _running("sleep\x007777.25")
    finally:
        outer.send_signal(signal.SIGKILL)
        outer.wait()
    settles(lambda: not _running("sleep\x007777.25"))


def _running(command: str) -> bool:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and command.encode() in (entry / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def test_what_the_machine_forbids_is_one_line_that_says_what_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuse = tmp_path / "unshare"
    refuse.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refuse.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(PlatformError, match=r"Operation not permitted.*user namespaces") as caught:
        namespace.enter_command()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(PlatformError, match="needs Linux"):
        namespace.enter_command()


FORWARDING = """
import asyncio, sys
import msgspec
from isthmus.demo import namespace
from isthmus.demo.backend import BackendConfig, Listen, Pods
from isthmus.demo.forward import Door, serve_doors
namespace.furnish()

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(data + b" echoed", addr)

async def main():
    await Pods().listen(BackendConfig("eu-1", [Listen("10.64.1.0", 80, "http", "front-1")]))
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("10.64.1.0", 80))
    await serve_doors(msgspec.json.decode(sys.argv[1], type=list[Door]))

asyncio.run(main())
"""


@pytest.fixture
def door() -> Iterator[forward.Door]:
    """A door to TCP and UDP port 80 of 10.64.1.0 in a namespace."""
    import msgspec

    doors, sockets = forward.open_doors([("dns eu-1", ("10.64.1.0", 80), True)])
    numbers = [s.fileno() for s in sockets]
    inner = subprocess.Popen(
        [*inside(FORWARDING), msgspec.json.encode(doors).decode()], cwd=ROOT, pass_fds=numbers
    )
    for sock in sockets:
        sock.close()
    yield doors[0]
    inner.kill()
    inner.wait()


@needs_namespace
def test_tcp_and_udp_reach_an_inside_address_from_outside(door: forward.Door) -> None:
    with socket.create_connection(door.outside, timeout=60) as tcp:
        tcp.sendall(b"GET / HTTP/1.1\r\nhost: front\r\n\r\n")
        received = b""
        while b"front-1" not in received or not received.endswith(b"}\n"):
            received += tcp.recv(4096)
        assert b"x-cluster: eu-1" in received
    for number in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(60)
            udp.sendto(b"ping %d" % number, door.outside)
            assert udp.recv(100) == b"ping %d echoed" % number


@needs_namespace
def test_many_connections_at_once_are_forwarded(door: forward.Door) -> None:
    answers: list[bytes] = []

    def ask() -> None:
        with socket.create_connection(door.outside, timeout=60) as tcp:
            tcp.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answers.append(tcp.recv(4096)[:15])

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert answers == [b"HTTP/1.1 200 OK"] * 20


def test_envoy_is_found_where_it_was_asked_for_or_the_message_helps(tmp_path: Path) -> None:
    program = tmp_path / ".cache/isthmus/envoy-1.40.0/envoy/_bin/envoy"
    nowhere = {"PATH": str(tmp_path)}
    with pytest.raises(PlatformError, match="make demo"):
        find_envoy(None, nowhere, tmp_path)
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    with pytest.raises(PlatformError, match=r"--envoy .*not a program"):
        find_envoy(program, nowhere, tmp_path)
    program.chmod(0o755)
    assert find_envoy(None, nowhere, tmp_path) == program
    assert find_envoy(None, nowhere | {"ISTHMUS_ENVOY": str(program)}, Path("/nonexistent")) == program


def test_the_kubeconfig_is_one_that_our_client_reads(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(kubeconfig({"hub": "http://10.127.0.1:6444", "eu-1": "http://10.64.255.1:6443"}, "hub"))
    assert load_access(file, "eu-1").server == "http://10.64.255.1:6443"
    assert load_access(file, None).server == "http://10.127.0.1:6444"
