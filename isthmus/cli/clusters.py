"""`isthmus clusters`: the members, and how each agent that was asked sees them; verbs for one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import typer

from isthmus.cli import membership
from isthmus.cli import reach as r

app = typer.Typer(
    help="List the clusters and how they are seen, or decide about one.",
    epilog="Example: isthmus clusters --agent http://127.0.0.1:9470",
    invoke_without_command=True,
)
for verb in (membership.drain, membership.undrain, membership.leave, membership.forget):
    app.command(epilog=f"Example: isthmus clusters {verb.__name__} eu-1 --hub-context hub")(verb)

Item = dict[str, Any]


@app.callback()
def command(
    context_: typer.Context,
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """List the clusters and how they are seen, or decide about one."""
    if context_.invoked_subcommand is not None:
        return
    import asyncio

    asyncio.run(_run(r.reach(agent, kubeconfig, context, agent_namespace, timeout), output))


async def _run(reach: r.Reach, form: r.Format) -> None:
    from isthmus.cli import output
    from isthmus.cli.agents import meet

    async with meet(reach) as company:
        told = {one.cluster: rows for one, rows in await company.lists("/v1/clusters")}
        items = merged(told)
        if form is r.Format.TABLE:
            output.emit(_table(items) if items else "No cluster is known: is there a hub?\n")
            output.notes(company)
            for item in items:
                for teller, refused in item["refused"].items():
                    output.note(f"{item['id']}: {teller} refuses {_refused(refused)}; see isthmus services")
        else:
            output.emit(output.structured(form, {"items": items}, company))


def merged(told: Mapping[str, Iterable[Item]]) -> list[Item]:
    """One item for each cluster; `state` is common to all agents or `differs`, `seen` is by agent."""
    found: dict[str, Item] = {}
    for teller, rows in told.items():
        for row in rows:
            item = found.setdefault(
                row["id"],
                {"id": row["id"], "region": row["region"], "services": 0, "seen": {}, "refused": {}},
            )
            item["services"] = max(item["services"], row["services"])
            item["seen"][teller] = _state(row)
            if refused := row.get("refused"):
                item["refused"][teller] = refused
    for item in found.values():
        for teller in told:
            item["seen"].setdefault(teller, "not known")
        states = set(item["seen"].values())
        item["state"] = states.pop() if len(states) == 1 else "differs"
    return [item for _id, item in sorted(found.items())]


def _refused(refused: Mapping[str, Mapping[str, int]]) -> str:
    """`3 endpoints (ForbiddenAddress 3), 1 services (QuotaExceeded 1)`."""
    return ", ".join(
        f"{sum(reasons.values())} {what} ({', '.join(f'{why} {count}' for why, count in reasons.items())})"
        for what, reasons in refused.items()
    )


def _state(row: Item) -> str:
    words = [word for word in ("unknown", "draining") if row[word]]
    return " and ".join(words) or "ready"


def _table(items: list[Item]) -> str:
    import sys

    from isthmus.cli.output import Screen, table

    rows = []
    for item in items:
        by_state: dict[str, list[str]] = {}
        for teller, state in sorted(item["seen"].items()):
            by_state.setdefault(state, []).append(teller)
        seen = "; ".join(f"{state}: {','.join(tellers)}" for state, tellers in by_state.items())
        if item["state"] != "differs":
            seen = ",".join(item["seen"])
        rows.append((item["id"], item["region"] or "-", item["state"], item["services"], seen))
    return table(("CLUSTER", "REGION", "STATE", "SERVICES", "SEEN BY"), rows, Screen.of(sys.stdout))
