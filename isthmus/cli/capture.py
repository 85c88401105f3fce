"""`isthmus capture`: the rules that bring a pod's connections to its sidecar, for its init container."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = (
    "Example: isthmus capture --user 1337 --only 10.96.0.0/12 | nft -f -    "
    "To undo it: nft delete table inet isthmus_capture"
)


def command(
    user: Annotated[
        int | None,
        typer.Option(metavar="UID", help="The user that the sidecar runs as; its own is left alone."),
    ] = None,
    group: Annotated[int | None, typer.Option(metavar="GID", help="Or the group that it runs as.")] = None,
    port: Annotated[int, typer.Option(metavar="PORT", help="Where the sidecar listens.")] = 15001,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="Capture these alone, e.g. the clusterset IPs; repeatable."),
    ] = None,
    never: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="Leave these alone; repeatable.")
    ] = None,
    never_port: Annotated[
        list[int] | None, typer.Option(metavar="PORT", help="Leave these ports alone; repeatable.")
    ] = None,
) -> None:
    """Print nft rules that redirect this machine's (or pod's) outgoing TCP connections to its sidecar.

    The sidecar's bootstrap says the same: isthmus bootstrap envoy --capture transparent.
    """
    from isthmus.cli.output import emit
    from isthmus.xds.redirect import Redirect, rules

    wanted = Redirect(
        port=port,
        user=user,
        group=group,
        only=only or (),
        never=never or (),
        never_ports=never_port or (),
    )
    emit(rules(wanted))
