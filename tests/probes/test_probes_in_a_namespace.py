"""ICMP and true silence: in a network of our own, where packets may be dropped and pings sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus.demo.namespace import enter_command
from isthmus.errors import PlatformError

INSIDE = """
import asyncio, json, socket
from pathlib import Path
from isthmus.demo import silence
from isthmus.demo.namespace import furnish
from isthmus.probes.icmp import check_icmp
from isthmus.probes.dialler import Dialler

LONG, SHORT = 60.0, 0.2

async def check_tcp(address, port, timeout):
    dialler, found = Dialler(), asyncio.get_running_loop().create_future()
    dialler.open()
    dialler.dial(address, port, timeout, found.set_result)
    outcome = await found
    dialler.close()
    return outcome

async def main():
    found = {"forbidden": await check_icmp("10.64.0.1", LONG)}
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    found["echo"] = await check_icmp("10.64.0.1", LONG)
    found["echo6"] = await check_icmp("::1", LONG)
    listener = socket.create_server(("10.64.0.1", 80))
    found["open"] = await check_tcp("10.64.0.1", 80, LONG)
    silence.install()
    silence.drop(["10.64.0.1"])
    found["silent echo"] = await check_icmp("10.64.0.1", SHORT)
    found["silent port"] = await check_tcp("10.64.0.1", 80, SHORT)
    found["nowhere"] = await check_icmp("198.51.100.1", LONG)
    found["nowhere6"] = await check_icmp("2001:db8::1", LONG)
    print(json.dumps(found))

furnish()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    try:
        enter = enter_command()
    except PlatformError as error:
        pytest.skip(f"no network namespace: {error}")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*enter, sys.executable, "-c", INSIDE], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, Any] = json.loads(done.stdout)
    return outcomes


def test_an_echo_comes_back(found: dict[str, Any]) -> None:
    assert found["echo"] == [True, ""]
    assert found["echo6"] == [True, ""]


def test_where_icmp_sockets_are_forbidden_nothing_is_said_of_the_target(found: dict[str, Any]) -> None:
    ok, reason = found["forbidden"]
    assert ok is None
    assert "ping_group_range" in reason


def test_dropped_packets_are_a_timeout(found: dict[str, Any]) -> None:
    assert found["open"] == [True, ""]
    assert found["silent port"] == [False, "timeout"]
    assert found["silent echo"] == [False, "timeout"]


def test_an_address_without_a_route_fails_at_once(found: dict[str, Any]) -> None:
    assert found["nowhere"] == [False, "network unreachable"]
    assert found["nowhere6"] == [False, "network unreachable"]
