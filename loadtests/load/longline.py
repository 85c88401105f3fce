"""A long line: packets that come out of a tunnel go back into it after a while, in order.

`python -m loadtests.load.longline DEVICE MILLISECONDS`, in the bed's network namespace, until its stdin ends.
What the kernel sends into the tunnel is local to it again when it comes back (`loadtests.load.faults.slow`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import sys
from collections import deque

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MAX_PACKET = 65_535
MAX_WAITING = 100_000
"""Packets under way; more are lost, as in a router."""


class LongLine:
    """`device`: a file of the tunnel, not blocking; `seconds`: how long each packet is under way."""

    def __init__(self, device: int, seconds: float) -> None:
        self._device = device
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._loop.add_reader(device, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(self._device, MAX_PACKET)
                if len(self._waiting) < MAX_WAITING:
                    self._waiting.append((self._loop.time() + self._seconds, packet))
                if len(self._waiting) == 1:
                    self._loop.call_at(self._waiting[0][0], self._write)

    def _write(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            with contextlib.suppress(OSError):  # full: lost
                os.write(self._device, self._waiting.popleft()[1])
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._write)


async def main(name: str, milliseconds: float) -> None:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    LongLine(device, milliseconds / 1000)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await reader.read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
