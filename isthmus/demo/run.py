"""The demo as its user starts it: outside the namespaces, owning what must be owned out here.

This process finds Envoy, opens the doors that `keep` forwards, makes the folder and starts the first process
inside. Closing that one's stdin tells it to stop; should this process be killed, the kernel closes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import IO

import msgspec

from isthmus.demo import forward, keys, namespace
from isthmus.demo.envoy import find_envoy
from isthmus.demo.options import DemoOptions, check
from isthmus.demo.order import EXIT_CANNOT, EXIT_FAILED, EXIT_STOPPED, Order
from isthmus.demo.world import (
    ADMIN_PORT,
    API_PORT,
    CONSOLE_PORT,
    DNS_PORT,
    ENVOY_PORT,
    HUB_PORT,
    World,
    world,
)
from isthmus.errors import ConfigError

STOP_SECONDS = 15.0
LONGEST_PARENT = 45


def run_demo(options: DemoOptions) -> int:
    """Run the demo and return its exit code: 0 passed, 1 a caller saw a failure, 130 stopped.

    Raises ConfigError for what cannot be used (2) and PlatformError for what this machine lacks (3).
    """
    began = time.monotonic()
    check(options)
    view = _view(options)
    manifests = (options.manifests or _shop()).resolve()
    envoy = find_envoy(options.envoy, os.environ, Path.home())
    enter = namespace.enter_command()
    places = _places(world(options.clusters)) if options.keep else []
    doors, sockets = forward.open_doors(places)
    folder = _folder()
    order = Order(
        manifests=str(manifests),
        policy=str(options.policy.resolve()) if options.policy else "",
        clusters=options.clusters,
        rate=options.rate,
        duration=options.duration,
        keep=options.keep,
        json=options.json,
        view=view,
        interactive=options.interactive,
        envoy=str(envoy),
        export_all=options.export_all,
        lenient=options.lenient,
        folder=folder,
        began=began,
        doors=doors,
    )
    code = EXIT_STOPPED
    try:
        # A terminal in the background cannot be read or set: then there are no keys, and nothing to quieten.
        with keys.keyboard(0) if view and keys.is_ours(0) else contextlib.nullcontext():
            code = _run_inside(enter, order, [s.fileno() for s in sockets])
        return code
    finally:
        for sock in sockets:
            sock.close()
        if code not in (EXIT_FAILED, EXIT_CANNOT) or options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _view(options: DemoOptions) -> bool:
    """Whether there is a terminal to show the live view on; ConfigError when keys need one in vain."""
    view = not options.plain and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if options.interactive and not (view and sys.stdin.isatty()):
        raise ConfigError("--interactive: needs a terminal to read keys from and to show the view on")
    return view


def _folder() -> str:
    """A new folder for everything that the processes write; an agent's socket in it must fit a Unix path."""
    parent = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="isthmus-demo-", dir=parent if len(parent) <= LONGEST_PARENT else "/tmp")


def _run_inside(enter: tuple[str, ...], order: Order, descriptors: list[int]) -> int:
    # Whoever had us ignore a hang-up (nohup) meant it; an interrupt is always one.
    stopping = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        stopping.append(signal.SIGHUP)
    previous = {number: signal.signal(number, _interrupt) for number in stopping}
    # A session of its own: Ctrl-C reaches this process alone, which then lets the other stop in order.
    inner = subprocess.Popen(
        [*enter, sys.executable, "-m", "isthmus.demo.inside"],
        stdin=subprocess.PIPE,
        pass_fds=descriptors,
        start_new_session=True,
    )
    assert inner.stdin is not None
    try:
        inner.stdin.write(msgspec.json.encode(order) + b"\n")
        inner.stdin.flush()
        if order.interactive:
            _pass_keys(inner, inner.stdin)
        return inner.wait()
    except (KeyboardInterrupt, BrokenPipeError):
        inner.stdin.close()
        try:
            return inner.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            return EXIT_STOPPED
    finally:
        if inner.poll() is None:
            inner.kill()
            inner.wait()
        if order.view and inner.returncode < 0:
            # It could not give the terminal back itself.
            sys.stderr.write(keys.LEAVE)
            sys.stderr.flush()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _pass_keys(inner: subprocess.Popen[bytes], pipe: IO[bytes]) -> None:
    """Hand down what is pressed, until the other process ends."""
    while inner.poll() is None:
        for key in keys.read_keys(0):
            pipe.write(f"{key}\n".encode())
        pipe.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _shop() -> Path:
    """The project's own example: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "shop", package.parents[1] / "examples" / "shop"):
        if candidate.is_dir():
            return candidate
    raise ConfigError("the demo shop is not installed here: give --manifests FILE or FOLDER")


def _places(clusters: World) -> list[tuple[str, tuple[str, int], bool]]:
    """What `keep` makes reachable from outside: (name, inside address, whether UDP too)."""
    places = [("api hub", (clusters.hub, HUB_PORT), False)]
    for member in clusters.members:
        places += [
            (f"api {member.name}", (member.api, API_PORT), False),
            (f"dns {member.name}", (member.agent, DNS_PORT), True),
            (f"envoy {member.name}", (member.envoy, ENVOY_PORT), False),
            (f"admin {member.name}", (member.envoy, ADMIN_PORT), False),
            (f"console {member.name}", (member.agent, CONSOLE_PORT), False),
        ]
    return places
