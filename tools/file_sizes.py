"""Fails when a source file is longer than the house allows: 500 lines, test files 400."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LONGEST = 500
LONGEST_TEST = 400


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "*.py"], check=True, capture_output=True, text=True).stdout
    long = [
        f"{path}: {lines} lines, at most {limit}"
        for path in listed.splitlines()
        if Path(path).exists()
        and (lines := len(Path(path).read_text().splitlines()))
        > (limit := LONGEST_TEST if path.startswith("tests/") else LONGEST)
    ]
    sys.stdout.write("".join(f"{line}\n" for line in long))
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
