"""`make load`: plays scenarios one after the other, each on a bed of its own, and reports on them.

This process stands outside the namespaces: it finds Envoy, starts the first process of each bed, shows its
progress, and draws the reports when nothing runs that could be disturbed by it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.markup import escape

from isthmus.demo import namespace
from isthmus.demo.envoy import find_envoy
from isthmus.errors import ConfigError, PlatformError
from loadtests.load.census import BED, survivors
from loadtests.load.expect import missed_times_only
from loadtests.load.given.clusters import Clusters, read_clusters
from loadtests.load.given.namespace import GONE_SECONDS
from loadtests.load.given.scenario import unplayable
from loadtests.load.machine import MOST_WITHHELD
from loadtests.load.order import EXIT_CANNOT, EXIT_FAILED, EXIT_PASSED, EXIT_STOPPED, EXIT_WRONG_USE, Order
from loadtests.load.report import write_index, write_report
from loadtests.load.result import Result, outlived
from loadtests.load.scenario import FOLDER, Scenario, find, names, read
from loadtests.load.terminal import show_findings, show_summary

OUT = Path("build/load")
STOP_SECONDS = 15.0
CI_AGAIN, PAUSE_SECONDS = 2, 30.0
"""How often `--ci` plays a scenario again that says little, and how long it waits before."""
LONGEST_PARENT = 45
"""Characters of the temporary folder's parent: an agent's socket in it must fit a Unix path."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make load",
        description="Play load scenarios on the demo's clusterset and report what callers saw.",
        epilog="Examples: make load SCENARIO=cluster-silent; make load ARGS=--ci; make load ARGS=--list; "
        'make load SCENARIO=drain ARGS="--clusters clusters.yaml"',
    )
    parser.add_argument("scenarios", nargs="*", help="names or files; none: all of the project")
    parser.add_argument(
        "--ci",
        action="store_true",
        help="only those marked `ci: true`; one that missed only times while "
        "the machine's host withheld processor time is played again",
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the reports (build/load)")
    parser.add_argument("--envoy", type=Path, help="the Envoy to use")
    parser.add_argument("--clusters", type=Path, help="play on the clusters of this file, not on the demo's")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    try:
        # Everything is read before anything starts: the last file's mistake need not be waited for.
        chosen = [(path, read(path)) for path in map(find, options.scenarios or names())]
    except ConfigError as error:
        console.print(f"load: {error}", markup=False)
        return EXIT_WRONG_USE
    if options.ci:
        chosen = [(path, scenario) for path, scenario in chosen if scenario.ci]
        if not chosen:
            asked = ", ".join(options.scenarios)
            console.print(f"load: --ci: nothing to play, {asked} is not marked `ci: true`", markup=False)
            return EXIT_WRONG_USE
    if options.list:
        shown = Console(highlight=False)
        for _, scenario in chosen:
            shown.print(f"[bold]{scenario.name}[/]  {escape(scenario.about)}", soft_wrap=True)
        return EXIT_PASSED
    again = CI_AGAIN if options.ci else 0
    return perform(chosen, options.envoy, options.out, console, clusters=options.clusters, again=again)


def perform(
    chosen: Sequence[tuple[Path, Scenario]],
    asked: Path | None,
    out: Path,
    console: Console,
    command: str = "",
    clusters: Path | None = None,
    again: int = 0,
) -> int:
    """Play these with the Envoy asked for, or one that is found; `command` is how people play it again.

    On the demo's bed, or on the clusters of a file, which need no namespaces of ours. `again`: see `telling`.
    """
    try:
        given = read_clusters(clusters) if clusters else None
        envoy = find_envoy(asked, os.environ, Path.home())
        enter = () if given else _enter()
    except (ConfigError, PlatformError) as error:
        console.print(f"load: {error}", markup=False)
        return EXIT_WRONG_USE if isinstance(error, ConfigError) else EXIT_CANNOT
    lacks = {scenario.name: _lacks(scenario, given) for _, scenario in chosen}
    for name, why in lacks.items():
        if why:
            console.print(f"load: {name} is left out: {why}", markup=False)
    chosen = [(path, scenario) for path, scenario in chosen if not lacks[scenario.name]]
    if not chosen:
        return EXIT_CANNOT
    out.mkdir(parents=True, exist_ok=True)
    order = Order(
        scenario="",
        envoy=str(envoy),
        folder="",
        out=str(out.resolve()),
        command=command,
        clusters=str(clusters.resolve()) if clusters else "",
    )
    return _play(chosen, enter, order, out, console, again)


def _enter() -> tuple[str, ...]:
    """The command that enters namespaces of the demo's; disks of faults are nobody else's."""
    unshare, *rest = namespace.enter_command()
    return (unshare, "--mount", *rest)


def _lacks(scenario: Scenario, given: Clusters | None) -> str:
    """Why a scenario cannot be played here, on given clusters or by who is not root; or ""."""
    if given is not None:
        return unplayable(scenario, given.plays)
    faults = () if os.geteuid() == 0 else (e.fault for e in scenario.events if e.fault.needs_root)
    return next((f"fault {fault.name} needs root {fault.needs_root}" for fault in faults), "")


def _play(
    chosen: Sequence[tuple[Path, Scenario]],
    enter: Sequence[str],
    order: Order,
    out: Path,
    console: Console,
    again: int,
) -> int:
    """Play all; `order` has what is alike for each."""
    began, worst = time.monotonic(), EXIT_PASSED
    told: list[tuple[str, Result | None, float]] = []
    for number, (path, scenario) in enumerate(chosen, 1):
        console.print(f"\n[bold]{scenario.name}[/] ({number} of {len(chosen)})  {escape(scenario.about)}")
        since = time.monotonic()
        target = out.resolve() / f"{scenario.name}.json"
        mine = {"scenario": str(path.resolve()), "out": str(target), "command": _command(order, path)}
        once = functools.partial(_once, scenario, enter, msgspec.structs.replace(order, **mine), console)
        code, result = telling(once, again, console)
        told.append((scenario.name, result, time.monotonic() - since))
        if code == EXIT_STOPPED:
            worst = EXIT_STOPPED
            break
        worst = max(worst, code)
    write_index(out, [name for name, _, _ in told])
    show_summary(told, time.monotonic() - began, out, console)
    return worst


def telling(
    once: Callable[[], tuple[int, Result | None]], again: int, console: Console
) -> tuple[int, Result | None]:
    """Play until the result tells something, at most `again` times more; the last one stands."""
    while True:
        code, result = once()
        if not again or result is None or not says_little(result):
            return code, result
        again -= 1
        withheld = f"the host withheld {result.surroundings.withheld:.0%} of the processor time"
        told = f"only times were missed, and {withheld}: in {PAUSE_SECONDS:g} s it is played again"
        console.print(f"[yellow]{told}[/]")
        # Nothing tells when the host has processors again: an idle machine asks for none.
        time.sleep(PAUSE_SECONDS)


def says_little(result: Result) -> bool:
    """Whether a scenario failed by times alone, while the host withheld processor time."""
    return result.surroundings.withheld > MOST_WITHHELD and missed_times_only(result.findings)


def _once(
    scenario: Scenario, enter: Sequence[str], order: Order, console: Console
) -> tuple[int, Result | None]:
    """Play one scenario and show what was found; None where it came to no result."""
    target = Path(order.out)
    page = target.with_suffix(".html")
    for file in (target, page):  # those of another run would be taken for this one's
        file.unlink(missing_ok=True)
    code = _one(scenario, enter, order, console)
    result = msgspec.json.decode(target.read_bytes(), type=Result) if target.exists() else None
    if result is not None:
        write_report(result, page)
        show_findings(result, console)
    return code, result


def _command(order: Order, path: Path) -> str:
    """How people play this scenario again."""
    more = f' ARGS="--clusters {shlex.quote(order.clusters)}"' if order.clusters else ""
    scenario = path.stem if path.parent == FOLDER else str(path)
    return order.command or f"make load SCENARIO={shlex.quote(scenario)}{more}"


def _one(scenario: Scenario, enter: Sequence[str], order: Order, console: Console) -> int:
    """Play one scenario and return how it went; its folder stays where it failed."""
    parent = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="isthmus-load-", dir=parent if len(parent) <= LONGEST_PARENT else "/tmp")
    with contextlib.ExitStack() as around:
        try:
            for event in scenario.events:
                around.enter_context(event.fault.around(Path(folder)))
        except PlatformError as error:
            console.print(f"load: {error}", markup=False)
            code = EXIT_CANNOT
        else:
            code = _inside(enter, msgspec.structs.replace(order, folder=folder), console)
    if code in (EXIT_FAILED, EXIT_CANNOT):
        console.print(f"what the processes said is in {folder}", markup=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _inside(enter: Sequence[str], order: Order, console: Console) -> int:
    """Play it in namespaces of its own, until all of these have ended."""
    folder, target = order.folder, Path(order.out)
    # A session of its own: Ctrl-C reaches this process alone, which then lets the other stop in order.
    inner = subprocess.Popen(
        [*enter, sys.executable, "-m", "loadtests.load.inside"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, BED: folder},
    )
    assert inner.stdin is not None
    assert inner.stdout is not None
    code = EXIT_STOPPED
    try:
        inner.stdin.write(msgspec.json.encode(order) + b"\n")
        inner.stdin.flush()
        for line in inner.stdout:
            console.print(line.decode(errors="replace").rstrip(), markup=False)
        code = inner.wait()
        code = code if code >= 0 else EXIT_CANNOT
    except (KeyboardInterrupt, BrokenPipeError):
        inner.stdin.close()
        if order.clusters:
            console.print("what was made in the clusters is taken away; Ctrl-C again leaves it there")
        try:
            inner.wait(GONE_SECONDS if order.clusters else STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            code = EXIT_STOPPED
    finally:
        if inner.poll() is None:
            inner.kill()
            inner.wait()
        inner.stdin.close()
        inner.stdout.close()
    if left := survivors(folder):
        text = f"{len(left)} processes of the bed are left, and with them its namespaces: {left[0]}"
        console.print(text, markup=False)
        code = EXIT_FAILED
        if target.exists():
            result = msgspec.json.decode(target.read_bytes(), type=Result)
            target.write_bytes(msgspec.json.encode(outlived(result, len(left), text)))
    return code


def begin(program: Callable[[], int]) -> NoReturn:
    """Run it as a command; an interrupt ends it at any time, and needs no traceback."""
    # What a script's shell starts in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(program())
    except KeyboardInterrupt:
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    begin(main)
