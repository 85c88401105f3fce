"""`isthmus explain`: where callers of a service go, and why each endpoint is in or out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r
from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from isthmus.cli.agents import Agent, Company
    from isthmus.cli.output import Screen

EXAMPLES = "Example: isthmus explain shop/checkout:80 --from eu-1/eu-1a"

Item = dict[str, Any]


def command(
    service: Annotated[
        str,
        typer.Argument(
            metavar="NAMESPACE/NAME[:PORT]", help="PORT is a name or a number; default: the first one."
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="CLUSTER[/ZONE]", help="Where the callers stand; default: each agent's cluster."
        ),
    ] = None,
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """Explain where callers of a service go, and why."""
    import asyncio

    name, _, port = service.partition(":")
    namespace, _, rest = name.partition("/")
    if not namespace or not rest or "/" in rest:
        raise ConfigError(f"{service}: say NAMESPACE/NAME or NAMESPACE/NAME:PORT, e.g. shop/checkout:80")
    reach = r.reach(agent, kubeconfig, context, agent_namespace, timeout)
    asyncio.run(_run(reach, output, name, port, from_ or ""))


async def _run(reach: r.Reach, form: r.Format, name: str, port: str, at: str) -> None:
    import sys

    from isthmus.cli import output
    from isthmus.cli.agents import meet

    async with meet(reach) as company:
        asked = _tellers(company, at)
        found, wrong = await _ask(company, asked, name, port, at)
        if not found:
            company.require()
            raise await _mistake(company, name, wrong)
        if form is r.Format.TABLE:
            output.emit(text(found, output.Screen.of(sys.stdout)))
            output.notes(company)
        else:
            output.emit(output.structured(form, {"items": found}, company))
        for cluster, error in wrong.items():
            output.note(f"{cluster}: {error}")
        caller = at.partition("/")[0]
        if caller and found[0]["cluster"] != caller:
            output.note(
                f"no agent of {caller} was asked: this is how it looks with the health that "
                f"{found[0]['cluster']} sees"
            )


def _tellers(company: Company, at: str) -> list[Agent]:
    """Who is asked: the callers' own agent if it is here, else anybody; without callers, all."""
    speakers = company.speakers
    if not at:
        return speakers
    own = [agent for agent in speakers if agent.cluster == at.partition("/")[0]]
    return (own or speakers)[:1]


async def _ask(
    company: Company, agents: list[Agent], name: str, port: str, at: str
) -> tuple[list[Item], dict[str, str]]:
    """Explanations, and by cluster the error of each agent that could not explain."""
    import asyncio

    from isthmus.cli.agents import Answer
    from isthmus.errors import KubeError

    async def one(agent: Agent) -> Answer | None:
        try:
            return await agent.get("/v1/explain", {"service": name, "port": port, "from": at})
        except KubeError as error:
            company.lost(agent, error)
            return None

    answers = await asyncio.gather(*(one(agent) for agent in agents))
    found: list[Item] = []
    wrong: dict[str, str] = {}
    for agent, answer in zip(agents, answers, strict=True):
        if answer is None:
            continue
        if answer.good:
            found.append(answer.body)
        else:
            wrong[agent.cluster] = str(answer.body["error"])
    return found, wrong


async def _mistake(company: Company, name: str, wrong: dict[str, str]) -> ConfigError:
    """What to tell somebody whose question nobody could answer."""
    error = next(iter(wrong.values()))
    if error == "Not Found":
        return ConfigError(f"the agent of {next(iter(wrong))} is older than this command: upgrade it")
    if not error.startswith("no service"):
        return ConfigError(error)
    for agent in company.speakers:
        answer = await agent.get(f"/v1/services/{name}")
        refused = answer.body.get("refused") if answer.good else None
        if isinstance(refused, dict):
            return ConfigError(
                f"{name} is not in the clusterset: its export in {agent.cluster} is not valid "
                f"({refused['reason']}): {refused['message']}"
            )
        for refusal in answer.body.get("refusals", ()) if answer.good else ():
            from isthmus.cli.services import refusal_text

            by = refusal | {"by": agent.cluster}
            return ConfigError(f"{name} is not in the clusterset: {refusal_text(by)}")
    from isthmus.cli.nearness import near_names

    told = await company.lists("/v1/services")
    known = {f"{row['namespace']}/{row['name']}" for _agent, rows in told for row in rows}
    near = near_names(name, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; isthmus services lists them all"
    return ConfigError(f"{error}{hint}")


def text(found: list[Item], screen: Screen) -> str:
    """Where callers at each place go, and for the first of them why."""
    parts = []
    if len(found) > 1:
        parts.append(_matrix(found, screen))
        parts.append(f"Why, from {_place(found[0])} (--from CLUSTER[/ZONE] asks for another):\n\n")
    parts.append(_why(found[0], screen))
    return "".join(parts)


def _matrix(found: list[Item], screen: Screen) -> str:
    from isthmus.cli.output import table

    rows = [(_place(view), _spread(view), view["policy"] or "default") for view in found]
    return table(("FROM", "GOES TO", "POLICY"), rows, screen, wrap=1) + "\n"


def _spread(view: Item) -> str:
    shares: dict[str, float] = {}
    for group in view["groups"]:
        shares[group["cluster"]] = shares.get(group["cluster"], 0.0) + group["share"]
    return ", ".join(f"{cluster} {percent(share)}" for cluster, share in sorted(shares.items())) or "nowhere"


def _why(view: Item, screen: Screen) -> str:
    from isthmus.cli.output import clean, table

    port = view["port"] or "as a whole"
    head = f"{view['service']} {port} from {_place(view)}, policy: {view['policy'] or 'default'}"
    lines = [clean(head, screen)]
    if view["panic"]:
        lines.append("PANIC: nothing counts as healthy, so everything does.")
    if view.get("withheld"):
        clusters = ", ".join(view["withheld"])
        lines.append(f"Not counted: {clusters}, whose export is not for {view['cluster']}.")
    if view["empty"]:
        lines.append("Nowhere: no endpoint can serve.")
    steps = [
        (
            row["step"],
            row["tier"],
            ",".join(row["clusters"]),
            f"{row['healthy']}/{row['total']}",
            percent(row["health"]),
            percent(row["share"]),
        )
        for row in view["steps"]
    ]
    groups = [
        (
            group["cluster"],
            group["region"] or "-",
            group["zone"] or "-",
            group["step"],
            percent(group["share"]),
        )
        for group in view["groups"]
    ]
    endpoints = [
        (
            row["endpoint"],
            row["place"].rstrip("/") or row["cluster"],
            row["state"],
            "-" if row["step"] is None else row["step"],
            percent(row["share"]),
            row["reason"] or "in",
        )
        for row in view["endpoints"]
    ]
    tables = [
        table(("STEP", "TIER", "CLUSTERS", "HEALTHY", "HEALTH", "SHARE"), steps, screen, wrap=1),
        table(("CLUSTER", "REGION", "ZONE", "STEP", "SHARE"), groups, screen) if groups else "",
        table(("ENDPOINT", "PLACE", "STATE", "STEP", "SHARE", "WHY"), endpoints, screen),
    ]
    refused = [
        (row["cluster"], row["what"], row["count"], row["reason"], row["message"])
        for row in view.get("refusals", ())
    ]
    overruled = [(row["policy"], row["why"]) for row in view.get("overruled", ())]
    if overruled:
        tables.append(table(("OVERRULED POLICY", "BECAUSE OF THE ONE IN FORCE"), overruled, screen))
    if refused:
        tables.append(table(("REFUSED OF", "WHAT", "COUNT", "REASON", "WHY"), refused, screen))
    return "\n".join(["\n".join(lines) + "\n", *(part for part in tables if part)])


def _place(view: Item) -> str:
    vantage = view["vantage"]
    return f"{vantage['cluster']}/{vantage['zone']}" if vantage["zone"] else str(vantage["cluster"])


def percent(value: float) -> str:
    """`33.3%`, without zeros that say nothing."""
    return f"{round(value, 2):g}%"
