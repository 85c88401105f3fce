"""`isthmus status`: every agent that can be asked, whether it is ready, what ails it, what it calls Down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.cli import reach as r

if TYPE_CHECKING:
    from isthmus.cli.agents import Agent, Company

EXAMPLES = "Example: isthmus status --context eu-1 --context us-1"


def command(
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """Show the agents, ready or not, and what ails them."""
    import asyncio

    asyncio.run(_run(r.reach(agent, kubeconfig, context, agent_namespace, timeout), output))


async def _run(reach: r.Reach, form: r.Format) -> None:
    from isthmus.cli import output, replicas
    from isthmus.cli.agents import meet

    async with meet(reach) as company:
        differing = await replicas.differences(company)
        items = [_item(one) for one in company.here]
        if form is r.Format.TABLE:
            output.emit(_table(items, company))
            output.notes(company)
            for item in items:
                for problem in item["problems"]:
                    output.note(f"{item['cluster']}: {problem}")
            for line in replicas.told(differing):
                output.note(line)
        else:
            output.emit(output.structured(form, {"items": items, "differences": differing}, company))


def _item(agent: Agent) -> dict[str, Any]:
    status = agent.status
    tables = status.get("tables", {})
    return {
        "cluster": agent.cluster,
        "agent": agent.name,
        "ready": bool(status.get("ready")),
        "version": status.get("version", ""),
        "plans": tables.get("plans", {}).get("rows", 0),
        "checks": status.get("checks", {}),
        "problems": problems(status, agent.context),
    }


def problems(status: dict[str, Any], context: str = "") -> list[str]:
    """What a status says is wrong, each in one line that says what to do."""
    failing = status.get("failing", {})
    membership = status.get("membership", {})
    found = [f"membership: {membership['reason']}"] if membership.get("reason") else []
    found += [_failing(name, error, context) for name, error in failing.items()]
    for name, table in status.get("tables", {}).items():
        if name not in failing and table.get("stale"):
            found.append(f"{name}: not heard of lately, its last rows serve")
        if failures := table.get("failures"):
            first = failures["items"][0] if failures["items"] else {"key": "?", "error": "?"}
            count = failures["total"]
            found.append(
                f"{name}: {count} cannot be computed, the last good value serves: "
                f"{first['key']}: {first['error']} (please report it)"
            )
    return found


def _failing(name: str, error: str, context: str) -> str:
    """A source that cannot be read. A missing or old CRD answers 404, a missing role 403."""
    side = "hub" if name.startswith("hub/") else "member"
    if ": 404" in error:
        option = f" --context {context}" if context and side == "member" else ""
        return (
            f"{name}: its CRD is missing or old, apply the current one to the {side}: "
            f"isthmus crds --for {side} | kubectl{option} apply --server-side -f -"
        )
    if ": 403" in error or ": 401" in error:
        return f"{name}: the agent may not read it: grant it get, list and watch on the {side} ({error})"
    return f"{name}: {error}"


def _table(items: list[dict[str, Any]], company: Company) -> str:
    import sys

    from isthmus.cli.output import Screen, table

    rows: list[tuple[object, ...]] = [
        (
            item["cluster"],
            "ready" if item["ready"] else "not ready",
            item["version"],
            item["plans"],
            item["checks"].get("down", ""),
            len(item["problems"]),
            item["agent"],
        )
        for item in sorted(items, key=lambda item: (item["cluster"], item["agent"]))
    ]
    rows += [("?", "away", "", "", "", "", away.agent) for away in company.away]
    headers = ("CLUSTER", "STATE", "VERSION", "PLANS", "DOWN", "PROBLEMS", "AGENT")
    return table(headers, rows, Screen.of(sys.stdout))
