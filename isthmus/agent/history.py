"""Control's memory of what happened: changed rows of four tables, told as events.

What is there when a table is first complete is no news. A change of many rows at once (a whole cluster's
death) is told by its first few and a count, so that it does not push out what led to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

from isthmus.agent.acceptance import AcceptedPolicy, PolicyKey
from isthmus.agent.chain import Chain
from isthmus.console import transitions
from isthmus.console.events import Ring
from isthmus.flow import Table
from isthmus.model.cluster import ClusterView
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId
from isthmus.model.plan import Plan, PlanKey

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Tell = Callable[[K, V | None, V | None], tuple[str, str]]
"""Subject and sentence of a change; the sentence is "" where there is nothing to tell."""

TOLD_AT_ONCE = 50
KEYS_PER_TURN = 200


async def record(chain: Chain, ring: Ring, *, wall: Callable[[], float] = time.time) -> None:
    """Follows plans, verdicts, clusters and policies until cancelled."""

    def plan(key: PlanKey, old: Plan | None, new: Plan | None) -> tuple[str, str]:
        service = chain.services.get(key.service)
        if not key.port and service is not None and service.ports:
            return "", ""  # the plans of the ports say it
        return transitions.plan_subject(key), transitions.plan_sentence(old, new)

    async with asyncio.TaskGroup() as group:
        for name, follower in (
            ("plan", _follow(chain.plans, plan, "plan", ring, wall)),
            ("health", _follow(chain.health, _verdict, "health", ring, wall)),
            ("cluster", _follow(chain.views, _cluster, "cluster", ring, wall)),
            ("policy", _follow(chain.accepted, _policy, "policy", ring, wall)),
        ):
            group.create_task(follower, name=f"history-{name}")


async def _follow(
    table: Table[K, V], tell: Tell[K, V], kind: str, ring: Ring, wall: Callable[[], float]
) -> None:
    before: dict[K, V] | None = None
    async for keys in table.changes():
        if before is None:
            before = dict(table.items())
            del keys  # the first are all, and it may be long until the next
            continue
        told: list[tuple[str, str]] = []
        for index, key in enumerate(keys, 1):
            new = table.get(key)
            old = before.pop(key, None)
            if new is not None:
                before[key] = new
            subject, text = tell(key, old, new)
            if text:
                told.append((subject, text))
            if not index % KEYS_PER_TURN:
                await asyncio.sleep(0)
        if told:
            ring.add(kind, wall(), _shortened(sorted(told)))


def _shortened(told: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(told) <= TOLD_AT_ONCE:
        return told
    return [*told[:TOLD_AT_ONCE], ("and others", f"{len(told) - TOLD_AT_ONCE} more changed at the same time")]


def _verdict(key: CheckKey, old: Verdict | None, new: Verdict | None) -> tuple[str, str]:
    text = transitions.verdict_sentence(old, new)
    return f"{key.service} {key.port} {key.endpoint} of {key.cluster}", text


def _cluster(key: ClusterId, old: ClusterView | None, new: ClusterView | None) -> tuple[str, str]:
    return key, transitions.cluster_sentence(old, new)


def _policy(key: PolicyKey, old: AcceptedPolicy | None, new: AcceptedPolicy | None) -> tuple[str, str]:
    origin, name = key
    rows = [None if row is None else (row.in_force, row.refused) for row in (old, new)]
    return f"{name} ({origin})", transitions.policy_sentence(*rows)
