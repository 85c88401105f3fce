"""Every command of docs/first-hour.md works, in order, beside a demo, and shows what the page says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first-hour.md"
READY_SECONDS = 400


class Step(NamedTuple):
    """One command of the page and the texts that it shows below it."""

    command: str
    shows: tuple[str, ...]


def steps(page: str) -> list[Step]:
    found: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            if here := re.search(r"<<'(\w+)'", command):
                body, _, shown = shown.partition(f"\n{here[1]}\n")
                command += f"\n{body}\n{here[1]}\n"
            found.append(Step(command, tuple(line.strip() for line in shown.splitlines() if line.strip())))
    return found


def kubectl() -> str | None:
    if found := shutil.which("kubectl"):
        return str(Path(found).parent)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus"
    return next(
        (str(folder) for folder in sorted(home.glob("kubernetes-v*")) if (folder / "kubectl").exists()), None
    )


def port(text: str, tool: str, cluster: str) -> str:
    """The port of the line that the demo printed for this tool and cluster."""
    line = next(line for line in text.splitlines() if line.startswith(tool) and line.endswith(f"# {cluster}"))
    return re.findall(r"(?:-p |127\.0\.0\.1:)(\d+)", line)[0]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a second terminal beside `isthmus demo --keep`."""
    folder = kubectl()
    if folder is None:
        pytest.skip("kubectl is missing: install it, or build it by `make tools`")
    for tool in ("dig", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing")
    out = tmp_path / "out"
    with out.open("w") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "isthmus", "demo", "--keep", "--duration", "30", "--rate", "20"],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + READY_SECONDS
        while "it stays up" not in (text := out.read_text()):
            assert demo.poll() is None, text
            assert time.monotonic() < until, text
            time.sleep(0.2)  # a file is polled: it has no event
        exports = dict(re.findall(r"^export (\w+)=(.+)$", text, re.MULTILINE))
        yield {
            **os.environ,
            **exports,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "DNS_EU_1": port(text, "dig", "eu-1"),
            "ENVOY_EU_1": port(text, "curl -H", "eu-1"),
            "COLUMNS": "160",
        }
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(180)


def test_the_page_has_the_commands_that_a_newcomer_needs() -> None:
    commands = " ".join(step.command for step in steps(PAGE.read_text()))
    for word in (
        "status",
        "services",
        "explain",
        "clusters",
        "events",
        "translate",
        "kubectl",
        "dig",
        "curl",
    ):
        assert word in commands


def test_every_command_of_the_first_hour_works(shell: dict[str, str]) -> None:
    prelude = f'shopt -s expand_aliases\nalias isthmus="{sys.executable} -m isthmus"\n'
    for step in steps(PAGE.read_text()):
        if step.command.startswith("alias"):
            continue
        done = subprocess.run(
            ["bash", "-c", prelude + step.command],
            env=shell,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        said = re.sub(r"\s+", " ", done.stdout + done.stderr)
        assert done.returncode == 0, f"$ {step.command}\n{said}"
        for shown in step.shows:
            assert shown in said, f"$ {step.command}\n{shown!r} is not in:\n{said}"
