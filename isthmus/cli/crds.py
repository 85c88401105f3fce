"""`isthmus crds`: the CustomResourceDefinitions, to be applied before anything else."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

EXAMPLES = "Example: isthmus crds --for member | kubectl apply --server-side -f -"


class Audience(StrEnum):
    ALL = "all"
    MEMBER = "member"
    HUB = "hub"


def command(
    for_: Annotated[Audience, typer.Option("--for", help="Which API server they are for.")] = Audience.ALL,
) -> None:
    """Print the CustomResourceDefinitions as YAML."""
    import yaml

    from isthmus.api import crds

    choice = {
        Audience.ALL: crds.all_crds,
        Audience.MEMBER: crds.member_crds,
        Audience.HUB: crds.hub_crds,
    }
    typer.echo(yaml.safe_dump_all(choice[for_](), sort_keys=False), nl=False)
