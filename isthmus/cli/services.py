"""`isthmus services`: what the clusterset serves, and where several agents see it differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from isthmus.cli import reach as r

EXAMPLES = "Example: isthmus services --namespace shop -o json"

Item = dict[str, Any]


def command(
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAME", help="Only services of this namespace.")
    ] = None,
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """List the services of the clusterset."""
    import asyncio

    reach = r.reach(agent, kubeconfig, context, agent_namespace, timeout)
    asyncio.run(_run(reach, output, namespace))


async def _run(reach: r.Reach, form: r.Format, namespace: str | None) -> None:
    from isthmus.cli import output
    from isthmus.cli.agents import meet

    async with meet(reach) as company:
        told = {one.cluster: rows for one, rows in await company.lists("/v1/services")}
        items = [item for item in merged(told) if namespace in (None, item["namespace"])]
        if form is r.Format.TABLE:
            output.emit(_table(items) if items else "No service is exported.\n")
            output.notes(company)
            for item in items:
                for refusal in item["refusals"]:
                    output.note(f"{item['namespace']}/{item['name']}: {refusal_text(refusal)}")
        else:
            output.emit(output.structured(form, {"items": items}, company))


def merged(told: Mapping[str, Iterable[Item]]) -> list[Item]:
    """One item for each service, with clusters and conflicts as anybody knows them.

    `endpoints` is how many each agent counts; `missing` names the agents that do not know the service,
    `refusals` what an agent (`by`) does not believe of a cluster's offer; `held` says who holds the import in
    the agents' clusters where it is not ours to write.
    """
    found: dict[tuple[str, str], Item] = {}
    for teller, rows in told.items():
        for row in rows:
            item = found.setdefault(
                (row["namespace"], row["name"]),
                {
                    "namespace": row["namespace"],
                    "name": row["name"],
                    "type": row["type"],
                    "ports": row["ports"],
                    "clusters": [],
                    "conflicts": [],
                    "endpoints": {},
                    "refusals": [],
                    "held": {},
                },
            )
            for part in ("clusters", "conflicts"):
                item[part] += [one for one in row[part] if one not in item[part]]
            item["endpoints"][teller] = row["endpoints"]
            item["refusals"] += [refusal | {"by": teller} for refusal in row.get("refusals", ())]
            if row.get("heldBy"):
                item["held"][teller] = row["heldBy"]
    for item in found.values():
        item["missing"] = sorted(set(told) - item["endpoints"].keys())
    return [item for _key, item in sorted(found.items())]


def refusal_text(refusal: Item) -> str:
    """What an agent does not believe of a cluster's offer, in one line."""
    what = {"services": "the export", "chunks": "an object of endpoints"}.get(
        refusal["what"], f"{refusal['count']} endpoint{'s' if refusal['count'] > 1 else ''}"
    )
    by = f"{refusal['by']} refuses " if "by" in refusal else "refused is "
    return f"{by}{what} of {refusal['cluster']} ({refusal['reason']}): {refusal['message']}"


def _table(items: list[Item]) -> str:
    import sys

    from isthmus.cli.output import Screen, table

    rows = [
        (
            f"{item['namespace']}/{item['name']}",
            item["type"],
            ",".join(port["id"] for port in item["ports"]) or "-",
            ",".join(item["clusters"]),
            _count(item),
            ",".join([*item["conflicts"], *_held(item)]) or "-",
        )
        for item in items
    ]
    headers = ("SERVICE", "TYPE", "PORTS", "CLUSTERS", "ENDPOINTS", "CONFLICTS")
    return table(headers, rows, Screen.of(sys.stdout), wrap=3)


def _held(item: Item) -> list[str]:
    return [f"import held by {who} ({teller})" for teller, who in sorted(item["held"].items())]


def _count(item: Item) -> str:
    """How many endpoints; where agents differ, each one's number."""
    counts: dict[str, int] = item["endpoints"]
    if len(set(counts.values())) > 1:
        text = " ".join(f"{count} ({teller})" for teller, count in sorted(counts.items()))
    else:
        text = str(next(iter(counts.values())))
    return text + (f", unknown to {','.join(item['missing'])}" if item["missing"] else "")
