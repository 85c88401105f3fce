"""`isthmus demo`: a clusterset on this machine, and accidents that its callers do not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = "Example: isthmus demo --clusters 3 --rate 200 --keep"


def command(
    manifests: Annotated[
        Path | None, typer.Option(help="Kubernetes manifests, a file or folder; default: the demo shop.")
    ] = None,
    export_all: Annotated[bool, typer.Option(help="Export every Service, not only annotated ones.")] = False,
    clusters: Annotated[int, typer.Option(help="How many member clusters.")] = 3,
    rate: Annotated[float, typer.Option(help="Requests per second through Envoy, in all.")] = 200.0,
    duration: Annotated[float, typer.Option(help="Seconds of load.")] = 45.0,
    policy: Annotated[
        Path | None, typer.Option(help="GlobalTrafficPolicies to use instead of the demo's own.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Stay up after the accidents and print what to try.")] = False,
    interactive: Annotated[
        bool, typer.Option(help="Play the accidents yourself: keys kill, silence, drain, restore clusters.")
    ] = False,
    plain: Annotated[bool, typer.Option(help="Lines of progress, even where a live view could be.")] = False,
    json: Annotated[bool, typer.Option(help="Print one JSON report as last line.")] = False,
    envoy: Annotated[
        Path | None, typer.Option(help="The Envoy binary; default: $ISTHMUS_ENVOY, PATH.")
    ] = None,
    lenient: Annotated[bool, typer.Option(help="Go on without manifests that cannot be used.")] = False,
) -> None:
    """Run several clusters on this machine, kill one under load, and report what callers noticed."""
    from isthmus.demo.options import DemoOptions
    from isthmus.demo.run import run_demo

    options = DemoOptions(
        manifests=manifests,
        export_all=export_all,
        clusters=clusters,
        rate=rate,
        duration=duration,
        policy=policy,
        keep=keep,
        json=json,
        interactive=interactive,
        plain=plain,
        envoy=envoy,
        lenient=lenient,
    )
    raise typer.Exit(run_demo(options))
