"""A network namespace of our own, with a pid namespace around it: when its first process ends, all end.

Root needs no user namespace; anybody else gets one. What the machine does not allow is found out before
anything is started, and said in one line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from isthmus.demo.world import ANYIP_RANGE
from isthmus.errors import PlatformError

_PACKAGES = {"unshare": "util-linux", "ip": "iproute2", "nft": "nftables"}
_PLAIN = ("unshare", "--net", "--pid", "--fork", "--kill-child")
WITH_USER = (*_PLAIN, "--user", "--map-root-user")


def enter_command() -> tuple[str, ...]:
    """The command that runs another one in the namespaces; PlatformError says what this machine lacks."""
    if not sys.platform.startswith("linux"):
        raise PlatformError(
            "the demo needs Linux network namespaces; on another system run it in a Linux virtual machine "
            "or in a container started with --privileged"
        )
    for program, package in _PACKAGES.items():
        if _which(program) is None:
            raise PlatformError(f"the demo needs the program {program!r}: install the package {package}")
    complaint = ""
    for command in (_PLAIN, WITH_USER) if os.geteuid() == 0 else (WITH_USER,):
        # A machine may allow the namespace and then none of its powers, so try one of them as well.
        probe = [*command, _which("ip") or "ip", "link", "set", "lo", "up"]
        try:
            done = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            complaint = "unshare does not answer"
            continue
        if done.returncode == 0:
            return command
        complaint = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise PlatformError(
        f"no network namespace to be had here ({complaint}): run as root, or allow user namespaces "
        "(sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container: --privileged)"
    )


def furnish() -> None:
    """Inside: raise the loopback and make the demo's addresses local; PlatformError when refused."""
    run_tool("ip", "link", "set", "lo", "up")
    run_tool("ip", "route", "add", "local", ANYIP_RANGE, "dev", "lo")


def run_tool(program: str, *arguments: str, feed: str | None = None) -> str:
    """Run one of the tools and return what it printed; PlatformError carries its first complaint."""
    done = subprocess.run(
        [_which(program) or program, *arguments],
        input=feed,
        stdin=subprocess.DEVNULL if feed is None else None,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise PlatformError(f"{program} {' '.join(arguments)}: {said}")
    return done.stdout


def _which(program: str, folders: Sequence[str] = ("/usr/sbin", "/sbin")) -> str | None:
    """Like shutil.which, and in the folders that a plain user's PATH may lack."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(folders))
