"""From a policy's `health` to the doors: real servers say that they are not well, and nobody is led there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import EVERYBODY, pods

from isthmus.demo.envoy import find_envoy
from isthmus.demo.namespace import enter_command
from isthmus.errors import PlatformError

HERE = Path(__file__).parent


@pytest.mark.parametrize(("protocol", "reason"), [("GRPC", "gRPC NOT_SERVING"), ("HTTPS", "HTTP 503")])
def test_what_a_backend_says_of_itself_decides_what_the_doors_draw_from(
    protocol: str, reason: str, tmp_path: Path
) -> None:
    try:
        enter, program = enter_command(), find_envoy(None, os.environ, Path.home())
    except PlatformError as missing:
        pytest.skip(str(missing))
    command = [*enter, sys.executable, str(HERE / "probedbackends.py"), str(tmp_path), protocol, str(program)]
    root = HERE.parents[1]
    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    well, sick, again = json.loads(done.stdout.splitlines()[-1])
    for found in (well, again):
        assert found["dns"] == EVERYBODY
        assert found["envoy"] == [EVERYBODY]
        assert [up for up, _ in found["verdicts"].values()] == [True, True]
    assert sick["dns"] == pods("eu-1")
    assert sick["envoy"] == [pods("eu-1"), pods("eu-2")], "the sick are the last resort"
    assert sorted(sick["verdicts"].values()) == [[False, reason], [False, reason]]
