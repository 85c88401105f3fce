"""Where the programs of a real control plane are, and what to do when they are not there."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ("kube-apiserver", "kube-controller-manager", "etcd")


@functools.cache
def _homes(what: str) -> tuple[Path, ...]:
    """The folders `make tools` fills."""
    command = [str(ROOT / "tools" / "go_tools.sh"), "--where", what]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(Path(line) for line in found.stdout.splitlines())


def _find(name: str) -> str | None:
    for home in _homes("helm" if name == "helm" else "kubernetes"):
        if os.access(home / name, os.X_OK):
            return str(home / name)
    # The machine's kubectl and helm may be of any version: only etcd is taken from PATH.
    return shutil.which("etcd") if name == "etcd" else None


def binaries(*names: str) -> Mapping[str, str]:
    """Paths of programs; LookupError says which are missing and how to get them."""
    found = {name: _find(name) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        hints = []
        if any(name != "etcd" for name in missing):
            hints.append("`make tools` builds them")
        if "etcd" in missing:
            hints.append("etcd: `apt install etcd-server`")
        raise LookupError(f"missing: {', '.join(missing)} ({'; '.join(hints)})")
    return {name: path for name, path in found.items() if path is not None}
