"""The demo inside its namespaces: `python -m isthmus.demo.inside`, the first process there.

It reads its order from stdin and stops when stdin ends: whoever started it is gone then, or wants it to stop.
When it ends, by whatever cause, the kernel ends all others of its pid namespace and drops the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.demo import manifests, memory, namespace, policies, population, silence
from isthmus.demo.accidents import Accidents
from isthmus.demo.board import Board, Tone
from isthmus.demo.forward import Door, serve_doors
from isthmus.demo.interactive import Interactive
from isthmus.demo.keep import what_to_try, write_kubeconfig
from isthmus.demo.report import Accident, judge, table
from isthmus.demo.stage import Say, Stage
from isthmus.demo.story import PAGE_COLUMNS, story
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
    view: bool
    interactive: bool
    envoy: str
    export_all: bool
    lenient: bool
    folder: str
    began: float
    doors: list[Door]


ORDERS_KEPT = 16
"""Keys that wait while one is obeyed; more are forgotten."""


class Voice:
    """Progress for people: lines on stderr, or the live view while there is one."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.view: Say | None = None

    def say(self, text: str, tone: Tone = "plain") -> None:
        if self.view is not None:
            self.view(text, tone)
            return
        sys.stderr.write(f"isthmus demo: {time.monotonic() - self._started:5.1f} s  {text}\n")
        sys.stderr.flush()


def build(order: Order, clusters: World, say: Say) -> tuple[list[population.Population], Stage]:
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


async def play(order: Order, outcome: Outcome, keys: asyncio.Queue[str]) -> None:
    """The whole demo; `keys` are what the user presses."""
    clusters = world(order.clusters)
    voice = Voice()
    populated, stage = build(order, clusters, voice.say)
    namespace.furnish()
    silence.install()
    async with stage:
        acts = Acts(order, stage, voice, keys, endpoints=sum(len(p.pods) for p in populated))
        piece = asyncio.create_task(acts.play(outcome), name="acts")
        await asyncio.wait({piece, stage.processes.broken}, return_when=asyncio.FIRST_COMPLETED)
        if not piece.done():
            piece.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await piece
            stage.processes.broken.result()
        piece.result()


class Acts:
    """From the rising curtain to the last word."""

    def __init__(
        self, order: Order, stage: Stage, voice: Voice, keys: asyncio.Queue[str], *, endpoints: int
    ) -> None:
        self._order = order
        self._stage = stage
        self._voice = voice
        self._keys = keys
        self._endpoints = endpoints
        self._ready = 0.0
        self._delays: list[float] = []

    async def play(self, outcome: Outcome) -> None:
        """Everything; the outcome is known before `keep` begins."""
        order, stage = self._order, self._stage
        await stage.raise_curtain()
        self._ready = time.monotonic() - order.began
        self._voice.say(
            f"first request served after {self._ready:.1f} s; callers start, {order.rate:g} requests a second"
        )
        await stage.start_load(order.rate)
        told, note = await self._shown() if order.view else (await self._accidents(), "")
        await asyncio.sleep(1.0)
        rss = memory.pss_mb()
        await stage.stop_load()
        report = judge(
            requests=stage.requests,
            queries=stage.queries,
            accidents=told,
            deaths=stage.deaths_so_far(),
            owner=stage.world.owner,
            propagation=self._delays,
            services=len(stage.services),
            endpoints=self._endpoints,
            rss_mb=rss,
            ready_s=self._ready,
            scripted=not order.interactive,
        )
        outcome.code = EXIT_PASSED if report.passed else EXIT_FAILED
        out = sys.stderr if order.json else sys.stdout
        page = story(report, [m.name for m in stage.world.members], _columns())
        out.write(f"\n{page}\n\n{table(report)}\n{note}")
        out.flush()
        if order.json:
            sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
            sys.stdout.flush()
        if order.keep:
            await self._keep()
        elif outcome.code == EXIT_FAILED:
            self._voice.say(f"what the processes said is in {order.folder}")

    async def _accidents(self) -> list[Accident]:
        accidents = Accidents(self._stage, self._order.duration)
        await accidents.play()
        self._delays = accidents.delays
        return accidents.told

    async def _shown(self) -> tuple[list[Accident], str]:
        """The accidents under the live view, and a line about what that cost."""
        # Only here: who sees lines alone does not pay for the view.
        from isthmus.demo.show import Show

        show = Show(self._stage, os.environ)
        show.board.keys = "Ctrl-C ends it"
        with show.open():
            self._voice.view = show.say
            drawing = asyncio.create_task(show.run(), name="view")
            acting = asyncio.create_task(self._acted(show.board), name="accidents")
            try:
                await asyncio.wait({drawing, acting}, return_when=asyncio.FIRST_COMPLETED)
                if not acting.done():
                    drawing.result()
                told = acting.result()
            finally:
                self._voice.view = None
                for task in (drawing, acting):
                    task.cancel()
                await asyncio.gather(drawing, acting, return_exceptions=True)
        share = 100 * show.busy / show.lasted
        return told, f"the live view took {share:.1f} % of one core\n"

    async def _acted(self, board: Board) -> list[Accident]:
        if not self._order.interactive:
            return await self._accidents()

        def offer(keys: str) -> None:
            board.keys = keys

        played = Interactive(self._stage, self._keys, offer)
        await played.play()
        return played.told

    async def _keep(self) -> None:
        """Serve the doors until the user has had enough."""
        order = self._order
        config = write_kubeconfig(order.doors, Path(order.folder))
        sys.stderr.write("\n" + what_to_try(order.doors, config, self._stage.routed[0]) + "\n")
        self._voice.say("it stays up; Ctrl-C ends it")
        await serve_doors(order.doors)


def _columns() -> int:
    """How wide the page may be."""
    return shutil.get_terminal_size((PAGE_COLUMNS, 24)).columns


async def _watched(order: Order, reader: asyncio.StreamReader) -> int:
    """Play until the end or until stdin ends; returns the exit code."""
    outcome = Outcome()
    keys: asyncio.Queue[str] = asyncio.Queue(ORDERS_KEPT)
    piece = asyncio.create_task(play(order, outcome, keys), name="play")
    wish = asyncio.create_task(_listen(reader, keys), name="stdin")
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


async def _listen(reader: asyncio.StreamReader, keys: asyncio.Queue[str]) -> None:
    """Pass on what the user presses, a key per line; returns when stdin ends."""
    while line := await reader.readline():
        if not keys.full():
            keys.put_nowait(line.decode(errors="replace").strip())


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
