"""Transparent capture: connections to clusterset IPs go by the plan, all others go where they meant to go."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.errors import ConfigError
from isthmus.xds.redirect import Redirect, rules

ROOT = Path(__file__).parents[2]


@pytest.mark.envoy
async def test_redirected_connections_go_by_the_plan_and_the_rest_untouched(
    envoy_binary: str, own_network: list[str], tmp_path: Path
) -> None:
    for tool in ("setpriv", "nsenter"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: install util-linux")
    if os.geteuid():
        pytest.skip("only root can start the proxy as another group")
    script = str(Path(__file__).with_name("capturing.py"))
    process = await asyncio.create_subprocess_exec(
        *(*own_network, sys.executable, script, envoy_binary, str(tmp_path)),
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(output.splitlines()[-1])
    assert found["by name"] == [200, "web"]
    assert found["by any name"] == [200, "web"]
    assert found["over IPv6"] == [200, "web"]
    assert found["tcp"] == "+hello"
    assert found["elsewhere"] == [200, "peer"]
    assert found["itself"] == ""
    through = found["through the proxy"]
    assert all(through[name] >= 1 for name in through), through
    assert len(through) == 3
    assert found["rejected"] == 0


def test_rules_load_twice_and_touch_their_own_table_only(own_network: list[str]) -> None:
    wanted = Redirect(
        user=1337, group=7, only=("10.96.0.0/12", "fd00::/108"), never=("10.97.0.0/16",), never_ports=(22,)
    )
    load = "nft add table ip others && nft -f - <<EOF\n" + rules(wanted) + "EOF\n"
    again = "nft -f - <<EOF\n" + rules(wanted) + "EOF\nnft list ruleset"
    command = [*own_network, "sh", "-c", load + again]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "table ip others" in done.stdout
    assert done.stdout.count("redirect to :15001") == 2
    lines = [line.strip() for line in done.stdout.splitlines()]
    redirect = next(line for line in lines if "redirect" in line)
    for earlier in ("meta skuid 1337 return", "meta skgid 7 return", "fib daddr type local return"):
        assert lines.index(earlier) < lines.index(redirect)
    assert "ip daddr 10.97.0.0/16 return" in lines
    assert "tcp dport 22 return" in lines


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (Redirect(), "user or group"),
        (Redirect(user=-1), "-1"),
        (Redirect(user=1, port=0), "not a port"),
        (Redirect(user=1, never_ports=(70_000,)), "70000"),
        (Redirect(user=1, only=("10.0.0.1/8",)), "10.0.0.1/8"),
        (Redirect(user=1, never=("here",)), "here"),
    ],
)
def test_rules_that_cannot_be_are_named(wanted: Redirect, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        rules(wanted)
