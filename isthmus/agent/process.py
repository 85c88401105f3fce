"""How every process begins and ends: logging, signals, exit codes.

SIGTERM and SIGINT cancel the main task, so that everything closes what it opened. A failure that people can
do something about is one line and exit code 2 (wrong use) or 3 (cannot).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

from isthmus.agent import freed, logs
from isthmus.errors import ConfigError, IsthmusError

EXIT_WRONG_USE = 2
EXIT_CANNOT = 3


def run(name: str, main: Callable[[], Awaitable[None]], *, level: str, style: logs.LogFormat) -> NoReturn:
    """Runs `main()` as this process' work until it ends, fails or is told to stop; never returns."""
    logs.configure(name, level=level, style=style)
    try:
        asyncio.run(_until_told(main))
    except* ConfigError as group:
        sys.exit(tell(f"isthmus {name}", group, EXIT_WRONG_USE))
    except* IsthmusError as group:
        sys.exit(tell(f"isthmus {name}", group, EXIT_CANNOT))
    sys.exit(0)


def host_and_port(listen: str) -> tuple[str, int]:
    """The two halves of a `HOST:PORT` that the settings have accepted; an IPv6 address loses its brackets."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


async def _until_told(main: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(main())
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, stop)
    giving = asyncio.create_task(freed.give_back(), name="give-back")
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)


def tell(who: str, group: BaseExceptionGroup[BaseException], code: int) -> int:
    """Says the first thing that went wrong as one line of stderr; gives the code back."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    sys.stderr.write(f"{who}: {error}\n")
    return code
