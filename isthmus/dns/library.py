"""Where the shared object of the fast path is, and how it is made from `_core/*.c`.

A wheel brings it along as `_fastpath.so`; a checkout has it in the user's cache under the hash of its source,
where `python -m isthmus.dns.library` puts it when there is a C compiler. Without it everything works as well,
only slower. Standard library only: the build of the wheel runs this file too.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

SOURCES: Final = tuple(sorted(Path(__file__).with_name("_core").glob("*.[ch]")))
BUNDLED: Final = Path(__file__).with_name("_fastpath.so")
OVERRIDE: Final = "ISTHMUS_DNS_FASTPATH"
"""This variable names a shared object to use instead; `off` says to use none."""
FLAGS: Final = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fstack-protector-strong", "-pthread")


def library() -> Path | None:
    """The shared object to load, None where there is none."""
    override = os.environ.get(OVERRIDE)
    if override:
        return None if override == "off" else Path(override)
    return next((path for path in (BUNDLED, cached()) if path is not None and path.exists()), None)


def cached() -> Path | None:
    """Where a checkout's shared object belongs, None where there is no source or no home."""
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("HOME") and f"{os.environ['HOME']}/.cache")
    if not home or not SOURCES:
        return None
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    name = f"{digest.hexdigest()[:16]}-{platform.machine()}.so"
    return Path(home) / "isthmus" / "dns-fastpath" / name


def build(target: Path, *more: str) -> str | None:
    """Compile to `target`, with more flags behind ours; returns None, or why it could not be done."""
    wanted = shlex.split(os.environ.get("CC", "cc"))
    compiler = shutil.which(wanted[0])
    if compiler is None:
        return f"no C compiler: {wanted[0]} is not on PATH"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    units = [str(source) for source in SOURCES if source.suffix == ".c"]
    command = [compiler, *wanted[1:], *FLAGS, *more, "-o", str(fresh), *units]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return f"{shlex.join(command)} failed:\n{done.stderr}"
    fresh.replace(target)
    return None


def main() -> int:
    """Puts the shared object into the cache; that it cannot be made is no failure."""
    target = cached()
    if target is None or target.exists():
        return 0
    reason = build(target)
    if reason:
        sys.stderr.write(f"DNS answers from Python, which is slower: {reason}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
