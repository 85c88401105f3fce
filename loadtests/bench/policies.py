"""What it costs the hub's process to sum up what members report of its policies, and what it writes then.

So many hub policies, each reported by so many members, in the tables of the hub's process. A start sums up
everything; an edited policy is summed up anew after the report of each member (the process does that once a
second at most); members that report the same again, and a list that is read anew, must write nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

import msgspec
from rich.console import Console
from rich.table import Table

from isthmus.agent.hubpolicies import TOLD_POLICY, PolicySums
from isthmus.api import hub, kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table as FlowTable
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId

TARGET_ONE_MS = 5.0
TARGET_ALL_S = 5.0
TARGET_HELD_MS = 250.0
"""With a collection of garbage in it; clusters are judged by leases of 20 s beside it."""
SPEC = {"strategy": "FailOver", "targets": [{"cluster": "eu-1"}, {"cluster": "us-1"}]}


def policy(number: int, generation: int) -> Any:
    metadata = {"namespace": "shop", "name": f"web-{number}", "uid": f"u{number}", "generation": generation}
    return kinds.POLICY.decode(msgspec.json.encode({"metadata": metadata, "spec": SPEC}))


def report(cluster: str, number: int, generation: int) -> Any:
    told = {
        "Accepted": "The policy is valid.",
        "ResolvedRefs": "",
        "InForce": f"Holds for web-{number}.",
        "DoorFidelity": "Every door can express it.",
    }
    conditions = [
        {"type": kind, "status": "True", "reason": kind, "message": text} for kind, text in told.items()
    ]
    spec = {
        "cluster": cluster,
        "policy": {"namespace": "shop", "name": f"web-{number}"},
        "uid": f"u{number}",
        "observedGeneration": generation,
        "inForceGeneration": generation,
        "plan": "cluster eu-1 > cluster us-1",
        "conditions": conditions,
    }
    metadata = {"namespace": hub_namespace(ClusterId(cluster)), "name": f"hub.shop.web-{number}"}
    return TOLD_POLICY.decode(msgspec.json.encode({"metadata": metadata, "spec": spec}))


class Hub:
    """The tables that sums are made of, and how many statuses were written."""

    def __init__(self, policies: int, members: int) -> None:
        clusters: FlowTable[ObjectKey, hub.Cluster] = FlowTable("clusters")
        self.sums = PolicySums(clusters)
        self.members = [f"member-{number}" for number in range(members)]
        rows = [msgspec.convert({"metadata": {"name": name}}, hub.Cluster) for name in self.members]
        clusters.partition("bench").replace({one.metadata.key: one for one in rows})
        self.policies = self.sums.policies.partition("bench")
        self.reports = self.sums.reports.partition("bench")
        self.policies.replace({one.metadata.key: one for one in (policy(n, 1) for n in range(policies))})
        self.reports.replace(self.all_reports(range(policies)))
        self.writes = 0
        self.sums.desired.observe(self._written)

    def all_reports(self, numbers: Iterable[int]) -> dict[ObjectKey, Any]:
        found = (report(name, number, 1) for number in numbers for name in self.members)
        return {one.metadata.key: one for one in found}

    def _written(self, _key: object, _old: object, _new: object) -> None:
        self.writes += 1

    async def settle(self) -> tuple[float, float]:
        """Seconds of work, and the longest that nobody else had a turn."""
        spent, longest = 0.0, 0.0
        more = True
        while more:
            began = time.perf_counter()
            more = self.sums.renew()
            took = time.perf_counter() - began
            spent, longest = spent + took, max(longest, took)
            await asyncio.sleep(0)
        return spent, longest


async def measure(policies: int, members: int, rounds: int) -> dict[str, float]:
    world = Hub(policies, members)
    whole, held = await world.settle()
    assert world.writes == policies, world.writes
    one = []
    for number in range(rounds):
        world.policies.put(policy(number, 2).metadata.key, policy(number, 2))
        for name in world.members:
            again = report(name, number, 2)
            world.reports.put(again.metadata.key, again)
            one.append((await world.settle())[0])
    before = world.writes
    same = world.all_reports(range(rounds, policies))
    for key, row in same.items():
        world.reports.put(key, row)
    unchanged, _ = await world.settle()
    return {
        "start_s": round(whole, 3),
        "longest_turn_ms": round(held * 1e3, 2),
        "one_status_median_ms": round(statistics.median(one) * 1e3, 3),
        "one_status_max_ms": round(max(one) * 1e3, 3),
        "unchanged_reports": len(same),
        "unchanged_s": round(unchanged, 4),
        "unchanged_writes": world.writes - before,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    figures = asyncio.run(measure(given.policies, given.members, given.rounds))
    targets = {
        "start_s": TARGET_ALL_S,
        "longest_turn_ms": TARGET_HELD_MS,
        "one_status_median_ms": TARGET_ONE_MS,
        "unchanged_writes": 0,
    }
    table = Table(
        "figure", "value", "target", title=f"Sums of {given.policies} policies x {given.members} members"
    )
    for name, value in figures.items():
        table.add_row(name, f"{value:g}", f"<= {targets[name]:g}" if name in targets else "")
    Console().print(table)
    passed = all(figures[name] <= target for name, target in targets.items())
    answer = {"bench": "policies", "figures": figures, "targets": targets, "passed": passed}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
