"""`isthmus events`: what happened lately, from every agent, and with --follow what happens now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r

if TYPE_CHECKING:
    from isthmus.cli.agents import Agent, Company

EXAMPLES = "Example: isthmus events --follow"

Item = dict[str, Any]

WAIT_SECONDS = 25
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0


def command(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stay and print what happens, until interrupted.")
    ] = False,
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """Tell what happened lately, or follow what happens."""
    import asyncio

    asyncio.run(_run(r.reach(agent, kubeconfig, context, agent_namespace, timeout), output, follow))


async def _run(reach: r.Reach, form: r.Format, follow: bool) -> None:
    import asyncio

    from isthmus.cli import output
    from isthmus.cli.agents import meet

    async with meet(reach) as company:
        speakers = company.speakers
        first = await asyncio.gather(*(_first(agent, company) for agent in speakers))
        company.require()
        items = [item for view in first if view is not None for item in _items(view)]
        items.sort(key=lambda item: (item["at"], item["agent"], item["number"]))
        if form is r.Format.TABLE or follow:
            output.emit("".join(_line(item, form) for item in items))
            output.notes(company)
        else:
            output.emit(output.structured(form, {"items": items}, company))
        if follow:
            async with asyncio.TaskGroup() as group:
                for agent, view in zip(speakers, first, strict=True):
                    if view is not None:
                        group.create_task(_follow(agent, view, form), name=f"follow-{agent.name}")


async def _first(agent: Agent, company: Company) -> Item | None:
    from isthmus.errors import KubeError

    try:
        answer = await agent.get("/v1/events")
        if not answer.good:
            raise KubeError("is older than this command: it keeps no events; upgrade it")
    except KubeError as error:
        company.lost(agent, error)
        return None
    return answer.body


async def _follow(agent: Agent, view: Item, form: r.Format) -> None:
    """Prints the agent's news for ever; an agent that goes away is named once, and again when it is back."""
    import asyncio

    from isthmus.cli import output
    from isthmus.errors import KubeError

    pause, away = FIRST_RETRY_SECONDS, False
    while True:
        params = {"after": str(view["last"]), "run": str(view["run"]), "wait": str(WAIT_SECONDS)}
        try:
            answer = await agent.get("/v1/events", params, seconds=WAIT_SECONDS + agent.client.timeout)
            if not answer.good:
                raise KubeError(str(answer.body["error"]))
        except KubeError as error:
            if not away:
                output.note(f"{agent.cluster} is away, trying again: {error}")
            away = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)
            continue
        if away:
            output.note(f"{agent.cluster} is back")
        pause, away, view = FIRST_RETRY_SECONDS, False, answer.body
        if view["lost"]:
            output.note(f"{agent.cluster}: {view['lost']} events came too fast and are lost")
        output.emit("".join(_line(item, form) for item in _items(view)))


def _items(view: Item) -> list[Item]:
    return [{"agent": view["cluster"], **item} for item in view["items"]]


def _line(item: Item, form: r.Format) -> str:
    """One event: a line of text, a line of JSON, or a YAML document."""
    import json
    import sys
    from datetime import datetime

    from isthmus.cli import output

    if form is r.Format.JSON:
        return json.dumps(item) + "\n"
    if form is r.Format.YAML:
        return "---\n" + output.document(form, item)
    when = datetime.fromtimestamp(item["at"]).astimezone().isoformat(" ", "milliseconds")[:23]
    line = f"{when}  {item['agent']}  {item['kind']}  {item['subject']}: {item['text']}"
    return output.clean(line, output.Screen.of(sys.stdout)) + "\n"
