"""How much memory the demo's processes take, by what they are."""

from __future__ import annotations

import os
from pathlib import Path

COUNTED = ("isthmus.agent", "isthmus.apiserver", "isthmus\0run")
"""What stands in a command line of Isthmus proper; Envoys, backends and callers are not counted."""


def pss_mb(proc: Path = Path("/proc")) -> float | None:
    """Proportional set size, in MB, of Isthmus and API server processes in this network namespace.

    /proc may number processes as another pid namespace does, so they are told by their network namespace.
    None where the kernel does not say.
    """
    try:
        ours = os.readlink(proc / "self/ns/net")
    except OSError:
        return None
    total = 0
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "ns/net") != ours:
                continue
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            if any(word in command for word in COUNTED):
                total += _pss_kb((entry / "smaps_rollup").read_text())
        except OSError:
            continue
    return round(total / 1024, 1) if total else None


def _pss_kb(rollup: str) -> int:
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
