"""Who this process is: its name among those that compete for a lease, and its claim on a state directory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from isthmus.errors import ConfigError, PlatformError

PATIENCE_SECONDS = 3.0
"""A predecessor that was told to stop has this long to let go."""


def identity(state_dir: Path | None) -> str:
    """Host name and a random part, kept in the state directory where there is one.

    A control process that was killed and started again is then still the holder of its lease. Where the name
    cannot be kept (a full disk) it is one for this life only; an empty file holds none.
    """
    if state_dir is None:
        return f"{socket.gethostname()}-{secrets.token_hex(4)}"
    file = state_dir / "identity"
    try:
        if kept := file.read_text().strip():
            return kept
    except (OSError, UnicodeDecodeError):
        pass  # there is none yet, or none that can be read
    name = identity(None)
    with suppress(OSError):
        file.write_text(f"{name}\n")
    return name


@asynccontextmanager
async def claim(state_dir: Path) -> AsyncIterator[None]:
    """Holds the state directory for this process alone; the kernel frees it however the process ends.

    Raises ConfigError while another one holds it, PlatformError where it cannot be written.
    """
    try:
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PlatformError(f"state directory {state_dir}: {error.strerror}") from error
    try:
        await _lock(lock, state_dir)
        yield
    finally:
        os.close(lock)


async def _lock(lock: int, state_dir: Path) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not _locked(lock):  # noqa: ASYNC110 - the kernel has no event for it
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise ConfigError(
            f"another agent uses the state directory {state_dir}: stop it, or choose another --state-dir"
        ) from error


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
