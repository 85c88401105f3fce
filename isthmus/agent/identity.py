"""Who this process is to the others that compete for the same lease."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path


def identity(state_dir: Path | None) -> str:
    """Host name and a random part, kept in the state directory where there is one.

    A control process that was killed and started again is then still the holder of its lease.
    """
    if state_dir is None:
        return f"{socket.gethostname()}-{secrets.token_hex(4)}"
    file = state_dir / "identity"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        name = identity(None)
        file.write_text(f"{name}\n")
        return name
