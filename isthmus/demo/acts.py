"""From the rising curtain to the last word: readiness, load, accidents, report, and what stays up."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from isthmus.demo import memory
from isthmus.demo.accidents import Accidents
from isthmus.demo.board import Board, Tone
from isthmus.demo.forward import serve_doors
from isthmus.demo.interactive import Interactive
from isthmus.demo.keep import what_to_try, write_kubeconfig
from isthmus.demo.order import EXIT_FAILED, EXIT_PASSED, EXIT_STOPPED, Order
from isthmus.demo.report import Accident, judge, table
from isthmus.demo.stage import Say, Stage
from isthmus.demo.story import PAGE_COLUMNS, story


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


@dataclass(slots=True)
class Outcome:
    """The exit code as far as it is known."""

    code: int = EXIT_STOPPED


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
        self._checks: dict[str, int] = {}

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
            checks=self._checks,
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
        self._checks = await self._stage.first_checks()
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

        def offer(chosen: str, keys: str) -> None:
            board.chosen, board.keys = chosen, keys

        self._checks = await self._stage.first_checks()
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
