"""Nobody loses sight of a process: a name is taken while its process runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isthmus.demo.processes import Processes


async def test_a_name_is_taken_while_its_process_runs(tmp_path: Path) -> None:
    async with Processes(tmp_path, os.environ) as processes:
        await processes.start("pods", ["sleep", "600"])
        assert processes.running("pods")
        with pytest.raises(ValueError, match="pods runs already"):
            await processes.start("pods", ["sleep", "600"])
        await processes.kill("pods")
        assert not processes.running("pods")
        await processes.start("pods", ["sleep", "600"])
