"""`isthmus run agent` and `isthmus run hub`: the processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run one of Isthmus' processes.", no_args_is_help=True)

Config = Annotated[
    Path | None,
    typer.Option(help="YAML file of settings (the flags' names, with underscores).", metavar="FILE"),
]
HubKubeconfig = Annotated[Path | None, typer.Option(help="Kubeconfig of the hub.", metavar="FILE")]
HubContext = Annotated[str | None, typer.Option(help="Context in it; default: its current one.")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error.")]
LogFormat = Annotated[str | None, typer.Option(help="auto, json or text.")]


@app.command(
    epilog="Example: isthmus run agent --cluster eu-1 --region eu --kubeconfig ~/.kube/config --context eu-1 "
    "--hub-kubeconfig hub.yaml --state-dir /var/lib/isthmus"
)
def agent(
    cluster: Annotated[str | None, typer.Option(help="This cluster's id in the clusterset.")] = None,
    clusterset: Annotated[
        str | None, typer.Option(help="Name of the clusterset, the same in every member; default: default.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Its region, where nodes carry no region label.")] = None,
    network: Annotated[str | None, typer.Option(help="Network that its pod addresses belong to.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig of this cluster; none: in-cluster.", metavar="FILE")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context in it; default: its current one.")] = None,
    hub_kubeconfig: HubKubeconfig = None,
    hub_context: HubContext = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Last-good inputs, sockets, pid files.", metavar="DIR")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of this cluster where its agents agree who writes.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="DNS zone of the clusterset.")] = None,
    dns_listen: Annotated[str | None, typer.Option(help="Where DNS answers, HOST:PORT.")] = None,
    dns_workers: Annotated[int | None, typer.Option(help="Processes that answer DNS; 0: none.")] = None,
    dns_query_log: Annotated[
        int | None, typer.Option(help="Queries a second, at most, that are written to the log; 0: none.")
    ] = None,
    dns_forward: Annotated[
        str | None,
        typer.Option(
            help="DNS servers that other zones are asked of, so that pods can resolve everything here; "
            "none: other zones are refused.",
            metavar="ADDRESS[:PORT][,…]",
        ),
    ] = None,
    xds_listen: Annotated[str | None, typer.Option(help="Where xDS is served, HOST:PORT.")] = None,
    xds_workers: Annotated[int | None, typer.Option(help="Processes that serve xDS; 0: none.")] = None,
    xds_cert: Annotated[
        Path | None, typer.Option(help="Certificate that proxies see, in PEM with its chain.", metavar="FILE")
    ] = None,
    xds_key: Annotated[Path | None, typer.Option(help="Its key, in PEM.", metavar="FILE")] = None,
    xds_ca: Annotated[
        Path | None, typer.Option(help="Authorities that sign for proxies, in PEM.", metavar="FILE")
    ] = None,
    xds_trust_domain: Annotated[
        str | None, typer.Option(help="Trust domain of proxies' SPIFFE identities; default: any.")
    ] = None,
    xds_plaintext: Annotated[
        bool | None,
        typer.Option("--xds-plaintext", help="Serve xDS without TLS even beyond loopback."),
    ] = None,
    console_listen: Annotated[str | None, typer.Option(help="Health, metrics and views, HOST:PORT.")] = None,
    quota_services: Annotated[
        int | None, typer.Option(help="Services that one cluster may export; the same in all agents.")
    ] = None,
    quota_endpoints: Annotated[int | None, typer.Option(help="Their endpoints, in all.")] = None,
    quota_bytes: Annotated[int | None, typer.Option(help="Their names, labels and annotations.")] = None,
    config: Config = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the agent of one cluster: control and its DNS and xDS workers."""
    flags = {name: value for name, value in locals().items() if name != "config"}
    from isthmus.agent import settings, supervisor
    from isthmus.errors import PlatformError

    chosen = settings.load_agent(flags, os.environ, config)
    try:
        supervisor.start(settings.encode(chosen), chosen.state_dir)
    except OSError as error:
        raise PlatformError(f"--state-dir {chosen.state_dir}: {error.strerror}") from error


@app.command(epilog="Example: isthmus run hub --hub-kubeconfig hub.yaml")
def hub(
    hub_kubeconfig: HubKubeconfig = None,
    hub_context: HubContext = None,
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of the hub where its processes agree who writes.")
    ] = None,
    console_listen: Annotated[str | None, typer.Option(help="Health and metrics, HOST:PORT.")] = None,
    config: Config = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the hub's process: it turns the members' leases into cluster states."""
    flags = {name: value for name, value in locals().items() if name != "config"}
    from isthmus.agent import hubprocess, settings

    hubprocess.main(settings.load_hub(flags, os.environ, config))
