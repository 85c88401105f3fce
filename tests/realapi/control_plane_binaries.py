"""Where the programs of a real control plane are, and what to do when they are not there."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ("kube-apiserver", "kube-controller-manager", "etcd")
ALONE = ("helm", "coredns")
"""Programs that are built each for itself."""


@functools.cache
def _homes(what: str) -> tuple[Path, ...]:
    """The folders `make tools` fills."""
    command = [str(ROOT / "tools" / "go_tools.sh"), "--where", what]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(Path(line) for line in found.stdout.splitlines())


def binaries(*names: str) -> Mapping[str, str]:
    """Paths of programs; LookupError says which are missing and how to get them.

    What the machine itself has on PATH may be of any version and is not taken.
    """
    found: dict[str, str] = {}
    for name in names:
        for home in _homes(name if name in ALONE else "kubernetes"):
            if os.access(home / name, os.X_OK):
                found[name] = str(home / name)
    if missing := [name for name in names if name not in found]:
        raise LookupError(f"missing: {', '.join(missing)} (`make tools` builds them)")
    return found
