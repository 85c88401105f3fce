"""The TCP check: a connection that opens is a success.

It is closed in the ordinary way (FIN): a reset would spare this side a TIME_WAIT and fill the server's log.
"""

from __future__ import annotations

import asyncio
import socket

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


def dialled(address: str) -> socket.socket:
    """A non-blocking TCP socket of the address's family. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
