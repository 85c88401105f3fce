"""The keyboard, read outside the namespaces: keys become lines that the process inside gets on its stdin."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Iterator

POLL_SECONDS = 0.2
MOST_BYTES = 64
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
"""Back from the second screen, with a cursor and without colours."""
_NAMED = {b"\x1b[C": "next", b"\x1b[D": "previous", b"\x1bOC": "next", b"\x1bOD": "previous", b"\t": "next"}


def decode(data: bytes) -> list[str]:
    """The keys in what a terminal sent: single characters in lower case, `next` and `previous` for arrows."""
    keys: list[str] = []
    while data:
        name = next((sequence for sequence in _NAMED if data.startswith(sequence)), b"")
        if name:
            keys.append(_NAMED[name])
            data = data[len(name) :]
        elif data[:1] == b"\x1b":
            # A sequence that nobody knows: up to its final byte.
            end = next((i for i, byte in enumerate(data[2:], 3) if 0x40 <= byte <= 0x7E), len(data))
            data = data[end:]
        else:
            if 0x21 <= data[0] <= 0x7E:
                keys.append(chr(data[0]).lower())
            data = data[1:]
    return keys


@contextlib.contextmanager
def keyboard(descriptor: int) -> Iterator[None]:
    """Keys one by one and not shown; Ctrl-C still interrupts, Ctrl-Z would leave the screen in pieces."""
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        now = termios.tcgetattr(descriptor)
        now[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(descriptor, termios.TCSANOW, now)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def is_ours(descriptor: int) -> bool:
    """Whether it is a terminal, and this process is the one in its foreground."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def read_keys(descriptor: int) -> list[str]:
    """Keys pressed within POLL_SECONDS, [] when there were none; `q` when there will be no more."""
    ready, _, _ = select.select([descriptor], [], [], POLL_SECONDS)
    if not ready:
        return []
    data = os.read(descriptor, MOST_BYTES)
    return decode(data) if data else ["q"]
