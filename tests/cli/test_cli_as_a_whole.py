"""The command as a program: help, completion, the plugin, its reference, and tables."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_scenes import ROOT, environment
from hypothesis import given
from hypothesis import strategies as st

from isthmus.cli.nearness import near_names
from isthmus.cli.output import Screen, table

Isthmus = Callable[..., Awaitable[Any]]
VERBS = ("status", "services", "explain", "clusters", "proxies", "events", "translate", "crds", "demo")


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_has_help_with_an_example(isthmus: Isthmus, verb: str) -> None:
    ran = await isthmus(verb, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert "Example: isthmus " in ran.out
    assert ran.out.isascii()


def test_help_loads_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    heavy = ("aiohttp", "rich", "yaml", "google.protobuf", "grpc", "kubernetes", "msgspec")
    code = (
        "import sys\n"
        "sys.argv = ['isthmus', 'explain', '--help']\n"
        "from isthmus.cli.main import app\n"
        "try: app()\n"
        f"except SystemExit: print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), cwd=ROOT, capture_output=True, text=True
    )
    assert ran.stderr.strip() == "[]"


async def test_a_shell_is_told_the_verbs(isthmus: Isthmus) -> None:
    ran = await isthmus(_ISTHMUS_COMPLETE="complete_bash", COMP_WORDS="isthmus e", COMP_CWORD="1")
    assert ran.out.split() == ["explain", "events"]


def test_the_plugin_calls_itself_by_kubectls_name(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = ['--help']; from isthmus.cli.main import kubectl; kubectl()"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith("Usage: kubectl isthmus [OPTIONS] COMMAND")


def test_the_reference_in_docs_is_current() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "cli_reference.py"))
    command = [sys.executable, str(ROOT / "tools" / "cli_reference.py"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert page["PAGE"].read_text().count("\n## isthmus") > len(VERBS)


CELLS = st.text(st.characters(codec="utf-8"), max_size=30)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6), st.integers(20, 120), st.booleans())
def test_a_table_fits_and_holds_no_control_characters(
    rows: Sequence[Sequence[str]], width: int, narrow: bool
) -> None:
    text = table(("FIRST", "SECOND", "THIRD"), rows, Screen(width=width, ascii=narrow))
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert text.isascii() or not narrow
    assert max((len(line) for line in text.splitlines()), default=0) <= width


@given(st.text(max_size=10), st.lists(st.text(max_size=10)))
def test_near_names_are_names(name: str, known: list[str]) -> None:
    found = near_names(name, known)
    assert len(found) <= 3
    assert set(found) <= set(known)
    if name in known:
        assert name in near_names(name, [name])
