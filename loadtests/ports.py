"""Ports to listen on, for load tests and tests."""

from __future__ import annotations

import random
import socket
from typing import Final

PORTS: Final = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now, neither for TCP nor for UDP.

    It is below the ephemeral ones, so that nobody is given it by chance, and this process is told it once:
    most ports are listened on long after they were asked for.
    """
    while True:
        port = random.SystemRandom().choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
