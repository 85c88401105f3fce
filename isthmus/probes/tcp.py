"""The TCP check: a connection that opens is a success.

It is closed in the ordinary way (FIN): a reset would spare this side a TIME_WAIT and fill the server's log.
"""

from __future__ import annotations

import asyncio

from isthmus.probes.connection import dialled
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed


async def check_tcp(address: str, port: int, timeout: float) -> Outcome:
    """Connects within `timeout` seconds; never raises for what the target does."""
    try:
        with dialled(address) as connection:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except TimeoutError as error:
        return failed(error) if error.errno else TIMEOUT
    except OSError as error:
        return failed(error)
    return PASSED
