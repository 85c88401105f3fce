"""How long an agent needs from its start to its first plan, and to its first DNS answer.

Three embedded API servers (a hub and two members) with 12 exported services each; the agent of one member is
started as its users start it, again and again, each time with an empty state directory. A round is timed from
`exec` of the command to the log line of the first plans, and to the first answer on its DNS port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "agent"))

from rich.console import Console
from rich.table import Table
from spine import Agent, Spine
from spineservers import Embedded

from isthmus.api import kinds

SERVICES = 12
TARGET_SECONDS = 1.0


async def measure(rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"first_plan_s": [], "first_answer_s": []}
    with tempfile.TemporaryDirectory() as folder:
        async with Spine(Path(folder), Embedded()) as spine:
            for cluster in ("eu-1", "eu-2"):
                for number in range(SERVICES):
                    await spine.serve(cluster, f"web-{number}")
            # The other member and this one have exported everything before the first round.
            await spine.start("eu-1", "eu-2")
            while len(await spine.everything("hub", kinds.EXPORTED_ENDPOINTS)) < 2 * SERVICES:
                await asyncio.sleep(0.05)
            agent = spine.agents["eu-1"]
            for _ in range(rounds):
                await agent.stop()
                shutil.rmtree(agent.state_dir)
                agent.log.write_text("")
                began = time.time()
                await agent.start()
                while not await _answered(agent):
                    await asyncio.sleep(0.005)
                found["first_answer_s"].append(time.time() - began)
                found["first_plan_s"].append(_logged(agent.log) - began)
    return found


async def _answered(agent: Agent) -> bool:
    """Whether DNS answers; a query that was sent too early must not be waited for."""
    try:
        async with asyncio.timeout(0.05):
            return bool(await agent.addresses("web-0.shop.svc.clusterset.local"))
    except TimeoutError:
        return False


def _logged(log: Path) -> float:
    from datetime import datetime

    lines = [json.loads(line) for line in log.read_text().splitlines() if '"first plans"' in line]
    return datetime.fromisoformat(lines[0]["timestamp"]).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found = asyncio.run(measure(rounds))
    table = Table(
        "figure", "median", "min", "max", "target", title=f"Agent start, {SERVICES} services x 2 clusters"
    )
    figures = {}
    for name, values in found.items():
        figures[name] = round(statistics.median(values), 3)
        target = f"< {TARGET_SECONDS:g}" if name == "first_plan_s" else ""
        table.add_row(name, f"{figures[name]:.3f}", f"{min(values):.3f}", f"{max(values):.3f}", target)
    Console().print(table)
    passed = figures["first_plan_s"] < TARGET_SECONDS
    report = {
        "bench": "start",
        "figures": figures,
        "rounds": rounds,
        "targets": {"first_plan_s": TARGET_SECONDS},
        "passed": passed,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
