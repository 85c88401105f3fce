"""The real Envoy: finding the program and starting it as a cluster's sidecar."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from isthmus.demo.world import ADMIN_PORT, ENVOY_PORT, XDS_PORT, Member
from isthmus.errors import PlatformError
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import envoy_bootstrap


def find_envoy(asked: Path | None, environ: Mapping[str, str], home: Path) -> Path:
    """The program asked for, or ISTHMUS_ENVOY, or one on PATH, or the newest that `make` installed.

    Raises PlatformError that says how to get one.
    """
    named = asked or (Path(environ["ISTHMUS_ENVOY"]) if environ.get("ISTHMUS_ENVOY") else None)
    if named is not None:
        if not _runs(named):
            source = "--envoy" if asked else "ISTHMUS_ENVOY"
            raise PlatformError(f"{source} {named}: not a program that can be run")
        return named.resolve()
    on_path = shutil.which("envoy", path=environ.get("PATH"))
    if on_path:
        return Path(on_path).resolve()
    try:
        cached = sorted((home / ".cache" / "isthmus").glob("envoy-*/envoy/_bin/envoy"))
    except OSError:
        cached = []
    for candidate in reversed(cached):
        if _runs(candidate):
            return candidate
    raise PlatformError(
        "no Envoy found: `make demo` installs one; or give --envoy FILE, or set ISTHMUS_ENVOY"
    )


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def envoy_command(program: Path, member: Member, folder: Path) -> list[str]:
    """Write the bootstrap of a member's sidecar and return how to start it."""
    _, zone = member.nodes[0]
    bootstrap = envoy_bootstrap(
        f"sidecar-{member.name}",
        Vantage(member.region, zone, ClusterId(member.name)),
        f"{member.agent}:{XDS_PORT}",
        f"{member.envoy}:{ADMIN_PORT}",
        f"{member.envoy}:{ENVOY_PORT}",
    )
    return envoy_with(program, bootstrap, folder / f"envoy-{member.name}.json")


def envoy_with(program: Path, bootstrap: Mapping[str, Any], file: Path) -> list[str]:
    """Write a bootstrap to the file and return how to start an Envoy of one thread with it."""
    file.write_bytes(msgspec.json.encode(bootstrap))
    flags = ("--concurrency", "1", "--log-level", "warning", "--disable-hot-restart")
    return [str(program), "-c", str(file), *flags]
