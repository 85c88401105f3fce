"""The demo inside its namespaces: `python -m isthmus.demo.inside`, the first process there.

It reads its order from stdin and stops when stdin ends: whoever started it is gone then, or wants it to stop.
When it ends, by whatever cause, the kernel ends all others of its pid namespace and drops the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.demo import manifests, memory, namespace, policies, population, silence
from isthmus.demo.accidents import Accidents
from isthmus.demo.forward import Door, serve_doors
from isthmus.demo.kubeconfig import kubeconfig
from isthmus.demo.report import judge, table
from isthmus.demo.stage import Stage
from isthmus.demo.world import World, world
from isthmus.errors import ConfigError, IsthmusError

EXIT_PASSED, EXIT_FAILED, EXIT_WRONG_USE, EXIT_CANNOT, EXIT_STOPPED = 0, 1, 2, 3, 130


class Order(msgspec.Struct, frozen=True):
    """What the outer process asks for; paths are absolute."""

    manifests: str
    policy: str
    clusters: int
    rate: float
    duration: float
    keep: bool
    json: bool
    envoy: str
    export_all: bool
    lenient: bool
    folder: str
    began: float
    doors: list[Door]


_STARTED = time.monotonic()


def say(text: str) -> None:
    """A line of progress, with the seconds since the start."""
    sys.stderr.write(f"isthmus demo: {time.monotonic() - _STARTED:5.1f} s  {text}\n")
    sys.stderr.flush()


def build(order: Order, clusters: World) -> tuple[list[population.Population], Stage]:
    """Read what the user gave and set the stage; ConfigError for what cannot be used."""
    found = manifests.read_manifests(Path(order.manifests), lenient=order.lenient)
    given = None
    if order.policy:
        written = manifests.read_manifests(Path(order.policy), lenient=order.lenient)
        given = written.policies
        if not given:
            raise ConfigError(f"{order.policy}: holds no GlobalTrafficPolicy")
        found.complaints += written.complaints
    for complaint in found.complaints:
        say(f"passed over: {complaint}")
    manifests.require_services(found, Path(order.manifests))
    services = population.services(found, export_all=order.export_all)
    if not any(s.exported and s.http_port is not None and not s.headless for s in services):
        raise ConfigError(
            f"{order.manifests}: no Service with an HTTP port is exported, so there is nothing to ask for; "
            f'annotate one with {population.EXPORT_ANNOTATION}: "true" or give --export-all'
        )
    try:
        populated = [population.populate(m, found, export_all=order.export_all) for m in clusters.members]
    except ValueError as error:
        raise ConfigError(f"{order.manifests}: {error}") from error
    stage = Stage(
        world=clusters,
        populations=populated,
        services=services,
        policies=policies.policies_for(services, found.policies, given),
        envoy=Path(order.envoy),
        folder=Path(order.folder),
        say=say,
    )
    return populated, stage


@dataclass(slots=True)
class Outcome:
    """The exit code as far as it is known."""

    code: int = EXIT_STOPPED


async def play(order: Order, outcome: Outcome) -> None:
    """The whole demo."""
    clusters = world(order.clusters)
    populated, stage = build(order, clusters)
    namespace.furnish()
    silence.install()
    async with stage:
        piece = asyncio.create_task(_acts(order, stage, populated, outcome), name="acts")
        await asyncio.wait({piece, stage.processes.broken}, return_when=asyncio.FIRST_COMPLETED)
        if not piece.done():
            piece.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await piece
            stage.processes.broken.result()
        piece.result()


async def _acts(order: Order, stage: Stage, populated: list[population.Population], outcome: Outcome) -> None:
    await stage.raise_curtain()
    ready = time.monotonic() - order.began
    say(f"first request served after {ready:.1f} s; callers start, {order.rate:g} requests a second")
    await stage.start_load(order.rate)
    accidents = Accidents(stage, order.duration)
    await accidents.play()
    rss = memory.pss_mb()
    await asyncio.sleep(1.0)
    await stage.stop_load()
    report = judge(
        requests=stage.requests,
        queries=stage.queries,
        accidents=accidents.told,
        deaths=stage.deaths,
        owner=stage.world.owner,
        propagation=accidents.delays,
        services=len(stage.services),
        endpoints=sum(len(p.pods) for p in populated),
        rss_mb=rss,
        ready_s=ready,
    )
    outcome.code = EXIT_PASSED if report.passed else EXIT_FAILED
    (sys.stderr if order.json else sys.stdout).write(table(report) + "\n")
    if order.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()
    if order.keep:
        await _keep(order, stage)
    elif outcome.code == EXIT_FAILED:
        say(f"what the processes said is in {order.folder}")


async def _keep(order: Order, stage: Stage) -> None:
    """Serve the doors until the user has had enough."""
    servers = {d.name.removeprefix("api "): _url(d) for d in order.doors if d.name.startswith("api ")}
    config = Path(order.folder) / "kubeconfig-outside"
    config.write_text(kubeconfig(servers, next(iter(servers))))
    lines = [f"export KUBECONFIG={config}", f"kubectl contexts: {', '.join(servers)}"]
    first = stage.routed[0]
    for door in order.doors:
        host, port = door.outside
        match door.name.split():
            case ["dns", member]:
                lines.append(f"DNS of {member}:     dig @{host} -p {port} {first.authority}")
            case ["envoy", member]:
                authority = f"{first.authority}:{first.http_port}"
                lines.append(f"Envoy of {member}:   curl -H 'host: {authority}' {_url(door)}/")
            case ["admin", member]:
                lines.append(f"Envoy admin of {member}: {_url(door)}/clusters")
            case ["console", member]:
                lines.append(f"agent of {member}:   {_url(door)}/v1/status")
    sys.stderr.write("\n".join(lines) + "\n")
    say("it stays up; Ctrl-C ends it")
    await serve_doors(order.doors)


def _url(door: Door) -> str:
    return f"http://{door.outside[0]}:{door.outside[1]}"


async def _watched(order: Order, reader: asyncio.StreamReader) -> int:
    """Play until the end or until stdin ends; returns the exit code."""
    outcome = Outcome()
    piece = asyncio.create_task(play(order, outcome), name="play")
    wish = asyncio.create_task(reader.read(), name="stdin")
    try:
        await asyncio.wait({piece, wish}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        wish.cancel()
        piece.cancel()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await piece
    except* ConfigError as group:
        outcome.code = _tell(group, EXIT_WRONG_USE)
    except* IsthmusError as group:
        outcome.code = _tell(group, EXIT_CANNOT)
    return outcome.code


def _tell(group: BaseExceptionGroup[BaseException], code: int) -> int:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    sys.stderr.write(f"isthmus: {error}\n")
    return code


async def _main() -> int:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    order = msgspec.json.decode(await reader.readline(), type=Order)
    loop.add_signal_handler(signal.SIGTERM, reader.feed_eof)
    code = await _watched(order, reader)
    if code not in (EXIT_FAILED, EXIT_CANNOT) or order.keep:
        shutil.rmtree(order.folder, ignore_errors=True)
    return code


def main() -> None:
    code = asyncio.run(_main())
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
