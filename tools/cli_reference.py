"""Writes docs/cli.md from the command itself; with --check, only says whether it is current.

The pages are what `--help` prints, so the two cannot differ.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cli.md"
WIDTH = "80"
HEAD = """\
# The `isthmus` command

Written by `tools/cli_reference.py` from what `--help` prints; do not edit.

`kubectl isthmus` is the same command. Shell completion: `isthmus --install-completion`.

Which agents are asked: those at `--agent` (or `ISTHMUS_AGENTS`), else those whose pods run in the clusters of
`--context`, through the API server's pod proxy. One that is away is named on stderr and under `unreachable`
in JSON and YAML; the others still answer.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the check failed (a refused object, a caller of the demo that saw a failure) |
| 2 | wrong use: an option, a file, a name that does not exist |
| 3 | nobody could be reached, or this machine lacks something |
| 70 | a bug; a report is in the file it names |
"""


def page() -> str:
    """The whole text of docs/cli.md."""
    os.environ["COLUMNS"] = WIDTH
    sys.path.insert(0, str(ROOT))
    import typer.main

    from isthmus.cli.main import app

    return HEAD + "".join(_sections(typer.main.get_command(app), None, "isthmus"))


def _sections(command: Any, parent: Any, name: str) -> list[str]:
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    context.info_name = name if parent is None else name.rpartition(" ")[2]
    lines = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    made = [f"\n## {name}\n\n```\n{lines}\n```\n"]
    for child, found in getattr(command, "commands", {}).items():
        made += _sections(found, context, f"{name} {child}")
    return made


def main() -> int:
    from generated import renew  # found only where this file is run: tests read it from elsewhere

    return renew(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
