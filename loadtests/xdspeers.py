"""xDS servers and a fleet of clients for the benchmark, each a process that is asked in lines.

A server takes `-services`, `-endpoints` and `-tls CERT,KEY,CA`, serves clusters `svc-0000` and up with their
assignments over ADS, and answers each line on its standard input with one JSON object:

    (at start)  {"addr": "127.0.0.1:18000", "pid": 4711}
    flip <i>    the health of the first endpoint of service i is turned over, and pushed
    stats       {"cpu_s": user and system seconds so far, "rss_mb": resident now}
    quit        it ends

The Go programs are in `peers/xds`; they are built once, into the cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent / "peers" / "xds"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus" / "xdspeers"
QUIET_SECONDS = 0.15


def build() -> Path:
    """The folder of the Go programs, newer than their sources. Raises SystemExit without Go."""
    path = f"{os.environ['PATH']}:/usr/local/go/bin"
    newest = max(file.stat().st_mtime for file in HERE.rglob("*") if file.suffix in (".go", ".mod", ".sum"))
    programs = [CACHE / name for name in ("fleet", "gcpserver", "gofloor")]
    if all(program.exists() and program.stat().st_mtime > newest for program in programs):
        return CACHE
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-o", f"{CACHE}/", "./fleet", "./gcpserver", "./gofloor"]
    try:
        subprocess.run(command, cwd=HERE, env={**os.environ, "PATH": path}, check=True)
    except FileNotFoundError:
        sys.exit(
            "the peers of this benchmark are written in Go: install Go 1.26 or newer (https://go.dev/dl)"
        )
    return CACHE


def servers(programs: Path) -> dict[str, list[str]]:
    """Commands by name."""
    return {
        "go-control-plane": [str(programs / "gcpserver"), "-mode", "linear"],
        "grpc-go floor": [str(programs / "gofloor")],
        "isthmus": [sys.executable, str(HERE / "served.py")],
    }


class Process:
    """A child that answers each line with a JSON object; what it complains of is told when it ends early."""

    def __init__(self, command: list[str]) -> None:
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # until __exit__
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, text=True
        )

    def read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._child.args} ended with {self._child.wait()}: {self.complaints()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, line: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return self.read()

    def complaints(self) -> str:
        """The end of what it wrote to standard error."""
        self._complaints.seek(0)
        return self._complaints.read()[-2000:]

    def quiet(self, limit: float = 20.0) -> dict[str, Any]:
        """Its stats once it uses less than 2 % of a core."""
        end, now = time.monotonic() + limit, self.ask("stats")
        while True:
            time.sleep(QUIET_SECONDS)  # what it uses meanwhile is the question
            before, now = now, self.ask("stats")
            if now["cpu_s"] - before["cpu_s"] < 0.02 * QUIET_SECONDS + 0.001 or time.monotonic() > end:
                return now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            pipe.close()
        self._child.terminate()
        self._child.wait()
        self._complaints.close()
