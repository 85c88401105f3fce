"""How long `isthmus --help` takes, beside a Python that does nothing and one that imports typer.

Each round starts the three one after the other, so that a busy machine slows them alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

TARGET_SECONDS = 0.25
COMMANDS = {
    "help_s": ["-m", "isthmus", "--help"],
    "explain_help_s": ["-m", "isthmus", "explain", "--help"],
    "typer_s": ["-c", "import typer"],
    "python_s": ["-c", "pass"],
}


def measure(rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - began)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    found = measure(rounds)
    table = Table("figure", "median", "min", "max", "target", title="The command's start")
    figures = {}
    for name, values in found.items():
        figures[name] = round(statistics.median(values), 3)
        target = f"< {TARGET_SECONDS:g}" if name.endswith("help_s") else ""
        table.add_row(name, f"{figures[name]:.3f}", f"{min(values):.3f}", f"{max(values):.3f}", target)
    Console().print(table)
    targets = {name: TARGET_SECONDS for name in figures if name.endswith("help_s")}
    passed = all(figures[name] < target for name, target in targets.items())
    report = {"bench": "cli", "figures": figures, "rounds": rounds, "targets": targets, "passed": passed}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
