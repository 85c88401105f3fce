"""How a process inside the namespaces is bidden: an order on stdin, whose end is the wish that it stops.

Who started it is gone then, or wants it to stop; SIGTERM means the same.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, TypeVar

import msgspec

from isthmus.agent.process import tell
from isthmus.demo.order import EXIT_CANNOT, EXIT_WRONG_USE
from isthmus.errors import ConfigError, IsthmusError

T = TypeVar("T")


async def bidden(kind: type[T]) -> tuple[T, asyncio.StreamReader]:
    """The order, the first line of stdin, and what will come after it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    order = msgspec.json.decode(await reader.readline(), type=kind)
    loop.add_signal_handler(signal.SIGTERM, reader.feed_eof)
    return order, reader


async def obey(piece: asyncio.Task[Any], wish: asyncio.Task[Any], who: str) -> int | None:
    """Wait until the piece is over, or stopped because the wish is done; both have ended when this returns.

    The exit code for what the piece could not do, told in one line as `who`; None where nothing was wrong.
    """
    try:
        await asyncio.wait({piece, wish}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        wish.cancel()
        piece.cancel()
        await asyncio.wait({piece, wish})
    try:
        if not piece.cancelled():
            piece.result()
    except* ConfigError as group:
        code = tell(who, group, EXIT_WRONG_USE)
    except* IsthmusError as group:
        code = tell(who, group, EXIT_CANNOT)
    else:
        return None
    return code
