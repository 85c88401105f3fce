"""The ICMP check: an echo that comes back (RFC 792, RFC 4443).

It uses the kernel's unprivileged datagram socket, which fills in identifier and checksum and hands over only
what answers this socket. Where this process' group is not in `net.ipv4.ping_group_range` nothing can be said.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct

from isthmus.probes.connection import Plain, dialled
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome, failed

NOT_ALLOWED = "no ICMP sockets here (see sysctl net.ipv4.ping_group_range)"

_ECHO = struct.Struct("!BBHHH")
_V4_REQUEST, _V4_REPLY = 8, 0
_V6_REQUEST, _V6_REPLY = 128, 129


async def check_icmp(address: str, timeout: float) -> Outcome:
    """Sends one echo request and waits `timeout` seconds for its reply."""
    v6 = ":" in address
    try:
        connection = dialled(address, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    except PermissionError:
        return Outcome(None, NOT_ALLOWED)
    except OSError as error:
        return failed(error)
    token = random.randbytes(16)
    request = _ECHO.pack(_V6_REQUEST if v6 else _V4_REQUEST, 0, 0, 0, 1) + token
    reply = bytes((_V6_REPLY if v6 else _V4_REPLY, 0))
    try:
        with connection:
            async with asyncio.timeout(timeout):
                connection.connect((address, 0))  # a datagram socket's never waits
                plain = Plain(connection)
                await plain.send(request)
                while True:
                    received = await plain.receive()
                    if received.startswith(reply) and received[_ECHO.size :] == token:
                        return PASSED
    except TimeoutError as error:
        return failed(error) if error.errno else TIMEOUT
    except OSError as error:
        return failed(error)
