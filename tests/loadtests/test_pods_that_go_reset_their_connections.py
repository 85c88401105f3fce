"""A pod that refuses looks as one whose process the kernel has killed: at both ends, and to nobody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.demo import namespace
from isthmus.errors import PlatformError

ROOT = Path(__file__).resolve().parents[2]
INSIDE = """
import socket
from isthmus.demo import namespace
from loadtests.load import packets

def connected(address):
    listener = socket.create_server((address, 8080))
    caller = socket.create_connection((address, 8080), 10)
    return listener, caller, listener.accept()[0]

def end(caller):
    try:
        return caller.recv(1) or b"closed"
    except OSError as error:
        return type(error).__name__

namespace.furnish()
dying, waiting, _accepted = connected("10.65.1.1")
living, other, served = connected("10.65.1.2")
with packets.refusing(["10.65.1.1", "10.65.1.9"]):
    print("who waits for an answer:", end(waiting))
    try:
        socket.create_connection(("10.65.1.1", 8080), 10)
    except OSError as error:
        print("who comes:", type(error).__name__)
    served.send(b"x")
    print("who called another:", end(other))
socket.create_connection(("10.65.1.1", 8080), 10)
print("and it is back")
"""


def _missing() -> str:
    try:
        namespace.enter_command()
    except PlatformError as error:
        return str(error)
    return ""


MISSING = _missing()


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")
def test_callers_of_a_pod_that_goes_are_told_at_once_and_others_not() -> None:
    command = [*namespace.enter_command(), sys.executable, "-c", INSIDE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == [
        "who waits for an answer: ConnectionResetError",
        "who comes: ConnectionRefusedError",
        "who called another: b'x'",
        "and it is back",
    ], done.stderr
