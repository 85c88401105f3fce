"""The live view while it runs: takes what the stage gathered, four times a second at most, and draws it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

from rich.console import Console

from isthmus.demo import decisions, view
from isthmus.demo.board import Board, Tone
from isthmus.demo.glyphs import glyphs_for
from isthmus.demo.population import DemoService
from isthmus.demo.report import dead
from isthmus.demo.screen import Screen
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member

FRAME_SECONDS = 0.25


class Show:
    """Owns the terminal from `open` to its end; `say` goes to the view meanwhile.

    `busy` are the seconds of CPU that gathering and drawing took, `lasted` those that went by.
    """

    def __init__(self, stage: Stage, environ: Mapping[str, str]) -> None:
        self._stage = stage
        several = len({service.namespace for service in stage.services}) > 1
        self._several = several
        self.board = Board(
            began=time.monotonic(),
            clusters=[m.name for m in stage.world.members],
            routed={f"{s.authority}:{s.http_port}": self._title(s) for s in stage.routed},
            named={s.authority: self._title(s) for s in stage.named},
            owner=stage.world.owner,
        )
        self._glyphs = glyphs_for(environ)
        self._screen = Screen(sys.stderr.fileno(), Console(file=sys.stderr))
        self._taken = [0, 0]
        self._opened = time.monotonic()
        self.busy = 0.0
        self.lasted = 0.0

    def _title(self, service: DemoService) -> str:
        return f"{service.namespace}/{service.name}" if self._several else service.name

    def say(self, text: str, tone: Tone = "plain") -> None:
        self.board.tell(time.monotonic(), text, tone)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the terminal and give it back, whatever happens."""
        sys.stderr.flush()
        self._opened = time.monotonic()
        self._screen.enter()
        try:
            yield
        finally:
            self.lasted = time.monotonic() - self._opened
            self._screen.leave()

    async def run(self) -> None:
        """Draw until cancelled."""
        async with asyncio.TaskGroup() as group:
            watching = decisions.watch(self.board, self._stage.routed, self._living, self._title)
            group.create_task(watching, name="decisions")
            group.create_task(self._draw(), name="frames")

    def _living(self) -> Member | None:
        """Whose planner is looked at: the first that nothing was done to."""
        members = self._stage.world.members
        return next((m for m in members if not self._stage.plights.get(m.name)), None)

    async def _draw(self) -> None:
        while True:
            began = time.thread_time()
            self._gather()
            size = self._screen.size()
            snapshot = self.board.snapshot(time.monotonic())
            self._screen.draw(view.lines(snapshot, *size, self._glyphs), size)
            self.busy += time.thread_time() - began
            await asyncio.sleep(FRAME_SECONDS)

    def _gather(self) -> None:
        stage, board = self._stage, self.board
        deaths = stage.deaths_so_far()
        requests, queries = self._taken
        for request in stage.requests[requests:]:
            if not dead(request.caller, request.at, request.ms, deaths):
                board.request(request)
        for query in stage.queries[queries:]:
            if not dead(query.caller, query.at, query.ms, deaths):
                board.query(query)
        self._taken = [len(stage.requests), len(stage.queries)]
        board.done = stage.plights
        board.hub_cut = stage.hub_cut
