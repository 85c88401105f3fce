"""Work goes on while all processes live; one that ends although nobody asked it to is told instead."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from isthmus.demo.processes import ProcessDied, Processes


async def test_work_that_is_done_gives_its_result_and_its_error(tmp_path: Path) -> None:
    async def fails() -> None:
        raise ValueError("of its own")

    async with Processes(tmp_path, os.environ) as processes:
        await processes.start("sleeper", ["sleep", "600"])
        assert await processes.unbroken(asyncio.sleep(0, 7), "work") == 7
        with pytest.raises(ValueError, match="of its own"):
            await processes.unbroken(fails(), "work")


async def test_work_ends_with_a_process_that_dies(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Processes(tmp_path, os.environ) as processes:
        await processes.start("dying", ["sh", "-c", "echo it hurts; exit 3"])
        with pytest.raises(ProcessDied, match="dying ended with code 3: it hurts"):
            await processes.unbroken(goes_on(), "work")
        assert ended.is_set()
