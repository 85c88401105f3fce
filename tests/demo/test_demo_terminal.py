"""Keys and the screen: what terminals send, what is written to them, and that they are given back."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from isthmus.demo import namespace
from isthmus.demo.envoy import find_envoy
from isthmus.demo.keys import LEAVE, decode, keyboard, read_keys
from isthmus.demo.screen import ENTER, Screen, difference
from isthmus.errors import PlatformError

ROOT = Path(__file__).resolve().parents[2]


def _missing() -> str:
    try:
        namespace.enter_command()
        find_envoy(None, os.environ, Path.home())
    except PlatformError as error:
        return str(error)
    return ""


MISSING = _missing()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(the user's end, the program's end) of a terminal of 80 columns and 24 lines."""
    user, program = pty.openpty()
    fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield user, program
    os.close(user)
    os.close(program)


def taken(user: int) -> str:
    """What has been written to the terminal."""
    data = b""
    while select.select([user], [], [], 0.0)[0]:
        data += os.read(user, 65_536)
    return data.decode()


def test_keys_are_decoded_and_unknown_sequences_swallowed() -> None:
    assert decode(b"kS3") == ["k", "s", "3"]
    assert decode(b"\x1b[C\x1b[D\x1bOC\t") == ["next", "previous", "next", "next"]
    assert decode(b"\x1b[15~d\x1b") == ["d"]
    assert decode(b"\r\n \xc3\xa9") == []


@given(st.binary(max_size=64))
def test_no_bytes_make_more_than_names_and_printable_characters(data: bytes) -> None:
    keys = decode(data)
    assert all(key in ("next", "previous") or (len(key) == 1 and key.isprintable()) for key in keys)


def test_the_keyboard_is_read_key_by_key_and_given_back(terminal: tuple[int, int]) -> None:
    user, program = terminal
    before = termios.tcgetattr(program)
    with keyboard(program):
        os.write(user, b"k")
        assert read_keys(program) == ["k"]
        assert read_keys(program) == []
        assert taken(user) == ""
    assert termios.tcgetattr(program) == before


def test_only_lines_that_changed_are_written() -> None:
    old = [Text("same"), Text("old"), Text("gone")]
    new = [Text("same"), Text("new"), Text()]
    assert difference(old, new, str) == "\x1b[2;1Hnew\x1b[K\x1b[3;1H\x1b[K"
    assert difference(old, old, str) == ""
    assert difference([Text.assemble(("a", "red"))], [Text("a")], str) != ""


def test_a_screen_is_taken_drawn_on_and_given_back(terminal: tuple[int, int]) -> None:
    user, program = terminal
    screen = Screen(program, Console(file=io.StringIO(), color_system=None))
    assert screen.size() == (80, 24)
    screen.leave()
    assert taken(user) == ""
    screen.enter()
    screen.draw([Text.assemble(("one", "red")), Text("two")], (80, 24))
    assert taken(user) == f"{ENTER}\x1b[2J\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K"
    screen.draw([Text.assemble(("one", "red")), Text("2")], (80, 24))
    assert taken(user) == "\x1b[2;1H2\x1b[K"
    screen.draw([Text.assemble(("one", "red"))], (70, 24))
    assert taken(user) == "\x1b[2J\x1b[1;1Hone\x1b[K"
    screen.leave()
    assert taken(user) == LEAVE


def test_colours_are_used_where_there_are_some(terminal: tuple[int, int]) -> None:
    user, program = terminal
    screen = Screen(program, Console(file=io.StringIO(), color_system="standard", force_terminal=True))
    screen.draw([Text.assemble(("one", "red"))], (80, 24))
    assert "\x1b[31mone\x1b[0m" in taken(user)


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing is missing")
def test_the_user_plays_and_quits_and_has_the_terminal_back(
    terminal: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    user, program = terminal
    before = termios.tcgetattr(program)
    demo = subprocess.Popen(
        [sys.executable, "-m", "isthmus", "demo", "--clusters", "2", "--rate", "50", "--interactive"],
        cwd=ROOT, env={**os.environ, "TERM": "xterm", "LC_ALL": "C"},
        stdin=program, stdout=program, stderr=program, start_new_session=True, preexec_fn=_own_terminal,
    )  # fmt: skip
    try:
        seen = _until(user, "", "k)ill")
        os.write(user, b"d")
        seen = _until(user, seen, "eu-2 is drained", "DRAINED (draining)")
        os.write(user, b"r")
        seen = _until(user, seen, "eu-2 is restored")
        os.write(user, b"q")
        seen = _until(user, seen, LEAVE, "Callers noticed no failure")
        assert demo.wait(180) == 0
    finally:
        demo.kill()
        demo.wait()
    assert seen.index(ENTER) < seen.index(LEAVE)
    assert termios.tcgetattr(program) == before


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _until(user: int, seen: str, *wanted: str) -> str:
    """Read on until all the texts have been written."""
    deadline = time.monotonic() + 180
    while not all(text in seen for text in wanted):
        assert time.monotonic() < deadline, f"not written: {wanted}\n{seen[-2000:]}"
        if select.select([user], [], [], 0.1)[0]:
            seen += os.read(user, 65_536).decode(errors="replace")
    return seen
