"""Where the replicas of one cluster's agent see differently: each follows its own probes.

What one calls Down and another does not is named; usually one of them stands behind a broken link.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from isthmus.errors import KubeError

if TYPE_CHECKING:
    from isthmus.cli.agents import Agent, Company

SHOWN = 10

Down = dict[tuple[str, ...], str]
"""Reason by (service, cluster, endpoint, port)."""


async def differences(company: Company) -> list[dict[str, Any]]:
    """What some replicas of a cluster call Down and others do not; an agent that fails is away then."""
    by_cluster: dict[str, list[Agent]] = {}
    for agent in company.here:
        by_cluster.setdefault(agent.cluster, []).append(agent)
    several = [agents for agents in by_cluster.values() if len(agents) > 1]
    return [row for agents in several for row in await _compared(company, agents)]


async def _compared(company: Company, agents: list[Agent]) -> list[dict[str, Any]]:
    answers = await asyncio.gather(*(_down(company, agent) for agent in agents))
    seen = [(agent, down) for agent, down in zip(agents, answers, strict=True) if down is not None]
    rows = []
    for key in sorted({key for _, down in seen for key in down}):
        calling = {agent.name: down[key] for agent, down in seen if key in down}
        others = [agent.name for agent, down in seen if key not in down]
        if others:
            service, cluster, endpoint, port = key
            target = {"service": service, "cluster": cluster, "endpoint": endpoint, "port": port}
            rows.append({"agentsOf": agents[0].cluster, **target, "down": calling, "notDown": others})
    return rows


async def _down(company: Company, agent: Agent) -> Down | None:
    try:
        items = await agent.items("/v1/health", {"up": "false"})
    except KubeError as error:
        company.lost(agent, error)
        return None
    return {
        (item["service"], item["cluster"], item["endpoint"], item["port"]): str(item["reason"])
        for item in items
    }


def told(rows: list[dict[str, Any]]) -> list[str]:
    """The differences in lines for people."""
    lines = []
    for row in rows[:SHOWN]:
        calling = ", ".join(f"{name} ({reason})" for name, reason in row["down"].items())
        target = f"{row['service']} {row['port']}, endpoint {row['endpoint']} of {row['cluster']}"
        others = ", ".join(row["notDown"])
        lines.append(
            f"{row['agentsOf']}: replicas differ on {target}: Down from {calling}, not from {others}"
        )
    if len(rows) > SHOWN:
        lines.append(f"and {len(rows) - SHOWN} more differences: see -o json")
    return lines
