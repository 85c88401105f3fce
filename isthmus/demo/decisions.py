"""What the planner decided, told as the difference between two plans of `/v1/plans`, and why.

`watch` asks the agent's own console, so the view shows what Isthmus says of itself and not what the demo did.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from isthmus.demo.board import Board
from isthmus.demo.httpcall import fetch
from isthmus.demo.population import DemoService
from isthmus.demo.world import CONSOLE_PORT, Member

POLL_SECONDS = 0.5
ANSWER_SECONDS = 1.0
MOST_SERVICES = 6
LEAST_POINTS = 50
"""Basis points; smaller changes of a share are not worth a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The parts of a plan that the view tells of, by cluster. Shares in basis points."""

    shares: Mapping[str, int] = field(default_factory=dict)
    unhealthy: Mapping[str, int] = field(default_factory=dict)
    draining: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    standby: frozenset[str] = frozenset()
    """Clusters that are well and get nothing."""
    endpoints: Mapping[str, int] = field(default_factory=dict)
    """All that the plan knows of, whatever becomes of them."""
    panic: bool = False


def decided(plan: Mapping[str, Any]) -> Decided:
    """Read one plan of the console's."""
    shares: Counter[str] = Counter()
    unhealthy: Counter[str] = Counter()
    draining: Counter[str] = Counter()
    endpoints: Counter[str] = Counter()
    for part in ("shares", "standby", "unhealthy", "draining"):
        for group in plan[part]:
            endpoints[group["cluster"]] += len(group["backends"])
    for left in plan["leftOut"]:
        endpoints[left["cluster"]] += 1
    for group in plan["shares"]:
        shares[group["cluster"]] += group["basisPoints"]
    for group in plan["unhealthy"]:
        unhealthy[group["cluster"]] += len(group["backends"])
    for group in plan["draining"]:
        draining[group["cluster"]] += len(group["backends"])
    return Decided(
        shares=dict(shares),
        unhealthy=dict(unhealthy),
        draining=dict(draining),
        left_out={left["cluster"]: left["reason"] for left in plan["leftOut"]},
        standby=frozenset(group["cluster"] for group in plan["standby"]) - shares.keys(),
        endpoints=dict(endpoints),
        panic=plan["panic"],
    )


def words(before: Decided, after: Decided) -> str:
    """How the shares changed and why, "" when they did not."""
    moved = [
        (cluster, before.shares.get(cluster, 0), after.shares.get(cluster, 0))
        for cluster in sorted(before.shares.keys() | after.shares.keys())
    ]
    changes = [(name, old, new) for name, old, new in moved if abs(new - old) >= LEAST_POINTS]
    if not changes and before.panic == after.panic:
        return ""
    # Losers first: they are why the others gain.
    changes.sort(key=lambda change: change[2] - change[1])
    told = ", ".join(f"{name} {old / 100:.0f}% to {new / 100:.0f}%" for name, old, new in changes)
    return "; ".join(part for part in (told, *_reasons(before, after)) if part)


def _reasons(before: Decided, after: Decided) -> list[str]:
    reasons = []
    if after.panic and not before.panic:
        reasons.append("panic: too few are healthy, so all count")
    if before.panic and not after.panic:
        reasons.append("enough are healthy again, panic is over")
    named = (before.shares, after.shares, before.unhealthy, after.unhealthy, before.draining, after.draining)
    for name in sorted(set().union(*named)):
        sick, well = after.unhealthy.get(name, 0), before.unhealthy.get(name, 0)
        if sick > well:
            reasons.append(f"{sick} {'endpoint fails' if sick == 1 else 'endpoints fail'} checks in {name}")
        elif sick < well and after.shares.get(name):
            reasons.append(f"{name} passes its checks again")
        if name in after.draining and name not in before.draining:
            reasons.append(f"{name} drains")
        elif name in before.draining and name not in after.draining:
            reasons.append(f"{name} drains no more")
        if (many := after.endpoints.get(name, 0)) != before.endpoints.get(name, 0):
            reasons.append(f"{name} has {many} {'endpoint' if many == 1 else 'endpoints'} now")
        if name in before.shares and name in after.standby:
            reasons.append(f"{name} stands by")
        elif name in before.standby and name in after.shares:
            reasons.append(f"{name} stands by no more")
        if name in before.shares and name not in after.shares and name in after.left_out:
            reasons.append(f"{name}: {after.left_out[name]}")
    return reasons


async def watch(
    board: Board,
    services: list[DemoService],
    living: Callable[[], Member | None],
    title: Callable[[DemoService], str],
) -> None:
    """Until cancelled: tell the board what the agent of a living member decides and holds of the clusters.

    An agent that does not answer is passed over; its plans are compared when it is back.
    """
    known: dict[tuple[str, str], Decided] = {}
    while True:
        member = living()
        if member is not None:
            try:
                await _look(board, services[:MOST_SERVICES], member, title, known)
            except (OSError, msgspec.MsgspecError, KeyError):
                board.seen = {}
        await asyncio.sleep(POLL_SECONDS)


async def _look(
    board: Board,
    services: list[DemoService],
    member: Member,
    title: Callable[[DemoService], str],
    known: dict[tuple[str, str], Decided],
) -> None:
    board.vantage = member.name
    rows = await _ask(member, "/v1/clusters")
    board.seen = {row["id"]: _seen(row) for row in rows}
    for service in services:
        plans = await _ask(member, f"/v1/plans?service={service.namespace}/{service.name}")
        port = f"TCP/{service.http_port}"
        plan = next((p for p in plans if p["port"] == port and p["vantage"]["cluster"] == member.name), None)
        if plan is None:
            continue
        after = decided(plan)
        before = known.get((member.name, service.authority))
        known[member.name, service.authority] = after
        if before is not None and (said := words(before, after)):
            board.decide(time.monotonic(), f"{title(service)}: {said}")


def _seen(row: Mapping[str, Any]) -> str:
    if row["draining"]:
        return "draining"
    return "unknown" if row["unknown"] else "serving"


async def _ask(member: Member, path: str) -> list[dict[str, Any]]:
    answer = await fetch(member.agent, CONSOLE_PORT, path, timeout=ANSWER_SECONDS)
    if answer.status != 200:
        raise OSError(f"HTTP {answer.status}")
    items: list[dict[str, Any]] = msgspec.json.decode(answer.body)["items"]
    return items
