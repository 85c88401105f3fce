"""Which endpoints an agent finds well, counted by what it asks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from isthmus.demo.httpcall import fetch
from isthmus.demo.policies import spoken_of
from isthmus.demo.world import CONSOLE_PORT, Member

PAGE = 500
ANSWER_SECONDS = 2.0
CANARIES = "TCP"
"""What is checked where nobody asked."""


def protocols(policies: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What is asked of the endpoints of each service that a policy checks, by `namespace/name`."""
    found = {}
    for policy in policies:
        health = policy.get("spec", {}).get("health")
        if isinstance(health, dict):
            asked = health.get("protocol") or ("HTTP" if "path" in health else "TCP")
            for namespace, name in spoken_of(policy):
                found[f"{namespace}/{name}"] = str(asked)
    return found


Verdicts = Counter[tuple[str, str, bool | None]]
"""How many checks there are by protocol, cluster of the endpoint, and verdict."""


async def verdicts(member: Member, asked: Mapping[str, str]) -> Verdicts:
    """What the member's agent says; OSError while it does not answer."""
    found: Verdicts = Counter()
    offset, total = 0, 1
    while offset < total:
        path = f"/v1/health?limit={PAGE}&offset={offset}"
        answer = await fetch(member.agent, CONSOLE_PORT, path, timeout=ANSWER_SECONDS)
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}")
        page = msgspec.json.decode(answer.body)
        for row in page["items"]:
            found[asked.get(row["service"], CANARIES), row["cluster"], row["up"]] += 1
        offset, total = offset + PAGE, page["total"]
    return found


def complete(found: Verdicts, clusters: Iterable[str]) -> bool:
    """Whether something is checked in each of the clusters, and everything has a verdict."""
    seen = {cluster for _, cluster, _ in found}
    return seen >= set(clusters) and not any(up is None for _, _, up in found)


def well(found: Verdicts) -> dict[str, int]:
    """How many are up, by protocol."""
    counts: Counter[str] = Counter()
    for (protocol, _, up), count in found.items():
        if up:
            counts[protocol] += count
    return dict(sorted(counts.items()))


def words(found: Verdicts) -> str:
    """`12 GRPC, 24 TCP up`, and how many are not."""
    up = well(found)
    others = found.total() - sum(up.values())
    told = ", ".join(f"{count} {protocol}" for protocol, count in up.items()) or "none"
    return f"{told} up" + (f", {others} not" if others else "")
