"""What agents tell of themselves, in numbers, plans and logs: evidence that a fault reached them.

Who does not answer for PATIENCE_SECONDS has told nothing, and that is evidence of nothing: NaN, no plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from isthmus.demo.httpcall import Answer, fetch
from isthmus.demo.reach import answers
from isthmus.demo.stage import Stage
from isthmus.demo.world import CONSOLE_PORT, Member
from loadtests.load.clusterset import Clusterset

PATIENCE_SECONDS = 20.0
"""An agent may be starting again when it is asked."""
POLL_SECONDS = 0.1


async def told(members: Iterable[Member], metric: str, **labels: str) -> float:
    """The sum of a metric's series with these labels over the agents; NaN where one does not tell."""
    pages = [await _asked(member.agent, "/metrics") for member in members]
    return sum(summed(page.body.decode(), metric, **labels) if page else math.nan for page in pages)


async def _asked(address: str, path: str, port: int = CONSOLE_PORT) -> Answer | None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError):
            answer = await fetch(address, port, path)
            if answer.status == 200:
                return answer
        if time.monotonic() > until:
            return None
        await asyncio.sleep(POLL_SECONDS)


async def serves_again(member: Member, seconds: float) -> bool:
    """Whether the agent's control process is ready, or becomes it within so many seconds."""
    until = time.monotonic() + seconds
    while await answers(member.agent, CONSOLE_PORT, "/readyz"):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def planned(bed: Clusterset, cluster: str, service: str) -> list[dict[str, float]]:
    """What each cluster is to serve of a service of the bed, as parts of 1, by each plan of that agent."""
    return [shares(plan) for plan in await _plans(bed, cluster, service)]


async def endpoints(bed: Clusterset, cluster: str, service: str) -> set[str]:
    """The addresses of a cluster's own endpoints, draining ones too, in any plan of its agent."""
    plans = await _plans(bed, cluster, service)
    return {address for plan in plans for address in addresses(plan, cluster)}


async def _plans(bed: Clusterset, cluster: str, service: str) -> list[dict[str, Any]]:
    address, port = bed.consoles[cluster]
    answer = await _asked(address, f"/v1/plans?service={bed.namespace}/{service}&limit=1000", port)
    return list(msgspec.json.decode(answer.body)["items"]) if answer else []


def shares(plan: dict[str, Any]) -> dict[str, float]:
    """The same of one plan as the console shows it; clusters without a share are left out."""
    points: Counter[str] = Counter()
    for group in plan["shares"]:
        points[group["cluster"]] += group["basisPoints"]
    return {cluster: share / 10_000 for cluster, share in points.items() if share}


def addresses(plan: dict[str, Any], cluster: str) -> set[str]:
    """Those of a cluster's endpoints in one plan as the console shows it, whatever they are there for."""
    groups = [group for part in ("shares", "standby", "unhealthy", "draining") for group in plan[part]]
    mine = [group for group in groups if group["cluster"] == cluster]
    return {address for group in mine for backend in group["backends"] for address in backend["addresses"]}


async def wall_clock(address: str) -> float:
    """What time it is for the process behind that console, in seconds since 1970, to a second; or NaN."""
    answer = await _asked(address, "/healthz")
    return parsedate_to_datetime(answer.headers[b"date"].decode()).timestamp() if answer else math.nan


def summed(text: str, metric: str, **labels: str) -> float:
    """The sum of a metric's series with these labels on one page of metrics."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


def logged(stage: Stage, members: Iterable[Member], event: str) -> int:
    """How often these agents have logged an event so far."""
    logs = (stage.folder / f"agent-{member.name}.log" for member in members)
    return sum(log.read_text(errors="replace").count(event) for log in logs)
