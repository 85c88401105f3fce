"""`isthmus proxies`: who is connected over xDS, what each has accepted, and what it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r

if TYPE_CHECKING:
    from isthmus.cli.agents import Company

EXAMPLES = "Example: isthmus proxies web-1.shop --diff"
MOST = 5_000
TYPES = ("cds", "eds", "lds", "rds")

Item = dict[str, Any]


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="Only the proxy of this node id.")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only what differs from what a proxy should have, by name.")
    ] = False,
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """List the proxies that are connected, with what each has accepted since when."""
    import asyncio

    reach = r.reach(agent, kubeconfig, context, agent_namespace, timeout)
    raise typer.Exit(asyncio.run(_run(reach, output, name, diff)))


async def _run(reach: r.Reach, form: r.Format, name: str | None, diff: bool) -> int:
    from isthmus.cli import output
    from isthmus.cli.agents import meet

    async with meet(reach) as company:
        items = await _asked(company, name)
        if diff:
            items = [item for item in items if differences(item)]
        if form is not r.Format.TABLE:
            output.emit(output.structured(form, {"items": items}, company))
        elif items:
            output.emit(_differing(items) if diff else _table(items))
        elif diff:
            output.emit("Every proxy has what it should have.\n")
        else:
            output.emit("No proxy is connected.\n" if name is None else f"No proxy {name} is connected.\n")
        if form is r.Format.TABLE:
            output.notes(company)
            for item in items:
                for text in rejections(item):
                    output.note(text)
        return 1 if name is not None and not items and not diff else 0


async def _asked(company: Company, name: str | None) -> list[Item]:
    """What every agent says: each replica has proxies of its own."""
    import asyncio

    from isthmus.cli import output
    from isthmus.errors import KubeError

    async def one(agent: Any) -> list[Item]:
        asked = {"limit": str(MOST)} | ({"node": name} if name is not None else {})
        try:
            answer = await agent.get("/v1/proxies", asked)
            if not answer.good:
                raise KubeError(f"/v1/proxies: {answer.body['error']}; is the agent older than this command?")
        except KubeError as error:
            company.lost(agent, error)
            return []
        for worker in answer.body.get("silent", ()):
            output.note(f"{agent.name}: worker {worker} did not tell its proxies in time; ask again")
        if answer.body["total"] > MOST:
            output.note(f"{agent.name}: {answer.body['total']} proxies, of which {MOST} are told")
        return [{"cluster": agent.cluster, "agent": agent.name, **item} for item in answer.body["items"]]

    found = await asyncio.gather(*(one(agent) for agent in company.here))
    company.require()
    return sorted((item for items in found for item in items), key=lambda item: (item["node"], item["since"]))


def differences(item: Item) -> list[tuple[str, str, list[str]]]:
    """Type, in which way, and names, wherever a proxy lacks something or holds something that is gone."""
    words = {
        "heldBack": "rejected",
        "due": "waits to be sent",
        "inFlight": "not answered yet",
        "missing": "asked for, does not exist",
        "kept": "gone, routes still lead there",
    }
    return [
        (kind, words[way], sorted(names))
        for kind, told in item["types"].items()
        for way, names in told["differs"].items()
        if names
    ]


def rejections(item: Item) -> list[str]:
    """What the proxy said against what it was sent."""
    return [
        f"{item['node']} rejected {kind}: {told['rejected']}"
        for kind, told in item["types"].items()
        if told["rejected"]
    ]


def _table(items: list[Item]) -> str:
    import sys

    from isthmus.cli.output import Screen, table

    rows = [
        (
            item["node"],
            item["cluster"],
            _place(item["class"]),
            _ago(item["since"]),
            *(_state(item["types"].get(kind)) for kind in TYPES),
        )
        for item in items
    ]
    heads = ("NODE", "CLUSTER", "ZONE", "SINCE", *(kind.upper() for kind in TYPES))
    return table(heads, rows, Screen.of(sys.stdout))


def _differing(items: list[Item]) -> str:
    import sys

    from isthmus.cli.output import Screen, table

    rows = [
        (item["node"], item["cluster"], kind, way, ", ".join(names))
        for item in items
        for kind, way, names in differences(item)
    ]
    return table(("NODE", "CLUSTER", "TYPE", "STATE", "NAMES"), rows, Screen.of(sys.stdout))


def _state(told: Item | None) -> str:
    """`accepted 3m ago`: the state and since when; a rejection since its own time."""
    if told is None:
        return "-"
    at = told["rejectedAt"] if told["state"] == "rejected" else told["acceptedAt"]
    return str(told["state"]) + (f" {_ago(at)} ago" if at is not None else "")


def _place(proxy_class: str) -> str:
    """Region and zone of a class text."""
    parts = proxy_class.split("@")
    places = parts[1].split("/") if len(parts) > 1 else ["", "", ""]
    return "/".join(part for part in places[1:] if part) or "-"


def _ago(at: float) -> str:
    import time

    seconds = max(0, int(time.time() - at))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
