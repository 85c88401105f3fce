"""Tells the DNS workers that their answers come from what was heard long ago.

Invariant: nothing is held back for that; callers may read it in their answers (RFC 8914), and that is all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from isthmus.agent.inputs import Source
from isthmus.dns.row import STALE_KEY
from isthmus.flow import Table

LONG_SECONDS: Final = 10.0
"""A server that is away for less may just be starting anew."""
_ANSWERS: Final = {"EndpointSlice", "Service", "ServiceExport", "ExportedService", "ExportedEndpoints"}
_LOOK_SECONDS: Final = 1.0


async def tell(
    sources: Sequence[Source], rows: Table[str, bytes], *, clock: Callable[[], float] = time.time
) -> None:
    """Keeps the row of `STALE_KEY` while a source of answers is stale; `clock` is wall-clock time."""
    writer = rows.partition("staleness", owns=lambda key: key == STALE_KEY)
    writer.replace({})
    while True:
        held = [
            since
            for source in sources
            if source.kind.kind in _ANSWERS and (since := source.writer.stale_since) is not None
        ]
        if held and clock() - min(held) > LONG_SECONDS:
            writer.put(STALE_KEY, b"")
        else:
            writer.drop(STALE_KEY)
        await asyncio.sleep(_LOOK_SECONDS)
