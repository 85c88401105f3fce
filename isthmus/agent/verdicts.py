"""The prober's verdicts on disk, so that control starts again with what it knew (see `probes.memory`).

The event loop never waits for the disk; a file that cannot be read or written costs the knowledge of the next
start, never this one.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from isthmus.flow import Table
from isthmus.model.health import CheckKey, Verdict
from isthmus.probes import memory

if TYPE_CHECKING:  # loaded later: the first plan does not wait for it
    from isthmus.probes.prober import Prober

FILE = "verdicts.json"
PAUSE_SECONDS = 2.0
NOTES_PER_SECOND = 4_000
"""So many are written at most: a large world in which verdicts change all the time is written less often."""
FRESH_SECONDS = 60.0
"""What has not changed is confirmed this often, so that its age tells when we stopped."""

log = structlog.get_logger()


def load(folder: Path) -> memory.Notes:
    """What the last control process knew, nothing where there is no such file."""
    try:
        return memory.decode((folder / FILE).read_bytes(), time.time())
    except OSError:
        return {}


async def keep(prober: Prober, health: Table[CheckKey, Verdict], folder: Path) -> None:
    """Writes verdicts down when they change, until cancelled."""
    changed, written, failing, pause = True, float("-inf"), False, PAUSE_SECONDS

    def observe(_key: CheckKey, old: Verdict | None, new: Verdict | None) -> None:
        nonlocal changed
        changed = changed or (old.up if old else None) is not (new.up if new else None)

    health.observe(observe)
    while True:
        if time.monotonic() - written >= (pause if changed else FRESH_SECONDS):
            changed, written = False, time.monotonic()
            notes = await prober.known()
            pause = max(PAUSE_SECONDS, len(notes) / NOTES_PER_SECOND)
            try:
                await asyncio.to_thread(_write, folder / FILE, notes)
                failing = False
            except OSError as error:
                if not failing:
                    log.warning("verdicts not kept", folder=str(folder), error=str(error))
                failing = True
            del notes  # they are many, and it may be long until the next
        await asyncio.sleep(PAUSE_SECONDS)


def _write(path: Path, notes: list[memory.Note]) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(memory.encode(notes))
    os.replace(beside, path)
