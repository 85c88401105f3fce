"""`isthmus crds`: the CustomResourceDefinitions, printed or installed before anything else."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r

if TYPE_CHECKING:
    from isthmus.kube.config import Access
    from isthmus.kube.definition import Outcome

EXAMPLES = "Example: isthmus crds --for member | kubectl apply --server-side -f -"
INSTALL_EXAMPLES = "Example: isthmus crds install --for member --context eu-1"


class Audience(StrEnum):
    ALL = "all"
    MEMBER = "member"
    HUB = "hub"


For = Annotated[Audience, typer.Option("--for", help="Which API server they are for.")]

app = typer.Typer(
    name="crds",
    help="Print the CustomResourceDefinitions as YAML, or install them.",
    epilog=EXAMPLES,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def show(context: typer.Context, for_: For = Audience.ALL) -> None:
    """Print the CustomResourceDefinitions as YAML, or install them."""
    if context.invoked_subcommand is None:
        import yaml

        typer.echo(yaml.safe_dump_all(_chosen(for_), sort_keys=False), nl=False)
    elif for_ is not Audience.ALL:
        raise typer.BadParameter(f"say it after the verb: isthmus crds install --for {for_.value}")


@app.command(epilog=INSTALL_EXAMPLES)
def install(
    for_: For = Audience.ALL,
    kubeconfig: r.Kubeconfig = None,
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="NAME", help="Which API server; default: the current context."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long until they must be served.")
    ] = 30.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """Apply the definitions; a newer one that is installed already is kept."""
    import asyncio
    import sys

    from isthmus.cli import output as out
    from isthmus.cli.agents import access_of

    outcomes = asyncio.run(_install(access_of(kubeconfig or "", context), _chosen(for_), timeout))
    if output is r.Format.TABLE:
        rows = [(one.name, one.step.value, one.why or "-") for one in outcomes]
        out.emit(out.table(("DEFINITION", "WHAT", "WHY"), rows, out.Screen.of(sys.stdout)))
    else:
        items = [{"name": one.name, "step": one.step.value, "why": one.why} for one in outcomes]
        out.emit(out.document(output, {"items": items}))
    lacking = [f"{one.name} does not serve {one.lacks}" for one in outcomes if one.lacks]
    if lacking:
        out.note(f"Isthmus cannot work with what was kept: {'; '.join(lacking)}")
        raise typer.Exit(1)


async def _install(access: Access, definitions: list[dict[str, Any]], seconds: float) -> list[Outcome]:
    from isthmus.kube.client import Client
    from isthmus.kube.definition import install as bring

    async with Client(access) as client:
        return await bring(client, definitions, seconds=seconds)


def _chosen(audience: Audience) -> list[dict[str, Any]]:
    from isthmus.api import crds

    choice = {
        Audience.ALL: crds.all_crds,
        Audience.MEMBER: crds.member_crds,
        Audience.HUB: crds.hub_crds,
    }
    return choice[audience]()
