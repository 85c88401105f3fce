"""Pages that tools write from the code itself."""

from __future__ import annotations

import sys
from pathlib import Path


def renew(path: Path, made: str) -> int:
    """Writes the page, or with --check only says whether it is current; the exit code of the tool."""
    if "--check" in sys.argv[1:]:
        if path.exists() and path.read_text() == made:
            return 0
        sys.stderr.write(f"{path} is not current: run {sys.executable} {sys.argv[0]}\n")
        return 1
    path.write_text(made)
    return 0
