"""`isthmus bootstrap`: the file that an Envoy or a gRPC client starts from; the rest comes over xDS."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r
from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from isthmus.model.names import Vantage
    from isthmus.xds.secrets import Identity

ENVOY_EXAMPLES = (
    "Example: isthmus bootstrap envoy --cluster eu-1 --zone eu-1a --xds 10.96.0.20:18000 > envoy.yaml && "
    "envoy -c envoy.yaml"
)
GRPC_EXAMPLES = (
    "Example: isthmus bootstrap grpc --cluster eu-1 --xds 10.96.0.20:18000 > grpc.json && "
    "GRPC_XDS_BOOTSTRAP=grpc.json ./caller xds:///web.shop.svc.clusterset.local:80"
)


class Structured(StrEnum):
    YAML = "yaml"
    JSON = "json"


class CaptureMode(StrEnum):
    EXPLICIT = "explicit"
    TRANSPARENT = "transparent"


Cluster = Annotated[str, typer.Option(metavar="ID", help="The cluster in which the client stands.")]
Region = Annotated[str, typer.Option(metavar="NAME", help="Its region, as its nodes say.")]
Zone = Annotated[str, typer.Option(metavar="NAME", help="Its zone: calls stay in it where policies say so.")]
Xds = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the agent of that cluster serves xDS.")]
NodeId = Annotated[
    str | None, typer.Option(metavar="NAME", help="What the client is called; default: this host's name.")
]
Ca = Annotated[str | None, typer.Option(metavar="FILE", help="Certificates that the agent is known by.")]
Cert = Annotated[str | None, typer.Option(metavar="FILE", help="The client's own certificate.")]
Server = Annotated[
    str, typer.Option(metavar="NAME", help="The name on the agent's certificate; default: the host of --xds.")
]
Key = Annotated[str | None, typer.Option(metavar="FILE", help="Its private key.")]
YamlFirst = Annotated[Structured, typer.Option("--output", "-o", help="yaml or json.", metavar="FORMAT")]

app = typer.Typer(
    name="bootstrap",
    help="Print the file that an Envoy or a gRPC client starts from.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command(epilog=ENVOY_EXAMPLES)
def envoy(
    cluster: Cluster,
    region: Region = "",
    zone: Zone = "",
    xds: Xds = "127.0.0.1:18000",
    node_id: NodeId = None,
    listen: Annotated[
        str, typer.Option(metavar="IP:PORT", help="Where callers, or the kernel, bring their calls.")
    ] = "127.0.0.1:15001",
    admin: Annotated[
        str, typer.Option(metavar="IP:PORT", help="Envoy's own pages; keep them to the machine.")
    ] = "127.0.0.1:15000",
    capture: Annotated[
        CaptureMode,
        typer.Option(
            help="Callers send HTTP to the proxy, or `isthmus capture` redirects their connections."
        ),
    ] = CaptureMode.EXPLICIT,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a JSON line for each request to standard output.")
    ] = False,
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="The pod's own: its services are told; default: all services.")
    ] = "",
    uses: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="More that the pod calls (annotation isthmus.dev/uses): shop/web, shop/*, or * for all.",
        ),
    ] = "",
    delta: Annotated[
        bool, typer.Option("--delta", help="Get only what differs: for thousands of services.")
    ] = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    server_name: Server = "",
    secrets: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write there what lets the proxy follow --ca, --cert and --key when they are renewed.",
        ),
    ] = None,
    output: YamlFirst = Structured.YAML,
) -> None:
    """Print the configuration that a stock Envoy starts from."""
    from isthmus.xds.bootstrap import envoy_bootstrap
    from isthmus.xds.rows import Capture

    identity = _identity(ca, cert, key, server_name, secrets)
    made = envoy_bootstrap(
        _name(node_id),
        _vantage(cluster, region, zone),
        xds,
        admin,
        listen,
        capture=Capture(capture.value),
        access_log=access_log,
        namespace=namespace,
        uses=uses,
        identity=identity,
        delta=delta,
    )
    if identity is not None and identity.secrets:
        _write_secrets(xds.rpartition(":")[0], identity)
    _print(made, output)


@app.command(epilog=GRPC_EXAMPLES)
def grpc(
    cluster: Cluster,
    region: Region = "",
    zone: Zone = "",
    xds: Xds = "127.0.0.1:18000",
    node_id: NodeId = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Print, as JSON, what a gRPC library reads from the file that GRPC_XDS_BOOTSTRAP names."""
    from isthmus.xds.bootstrap import grpc_bootstrap

    vantage = _vantage(cluster, region, zone)
    _print(grpc_bootstrap(_name(node_id), vantage, xds, identity=_identity(ca, cert, key)), Structured.JSON)


def _vantage(cluster: str, region: str, zone: str) -> Vantage:
    from isthmus.model.names import ClusterId, Vantage, is_cluster_id
    from isthmus.xds.rows import place_name

    if not is_cluster_id(cluster):
        raise ConfigError(f"--cluster {cluster!r} is not a cluster id, e.g. eu-1")
    for option, text in (("--region", region), ("--zone", zone)):
        if text != place_name(text):
            raise ConfigError(f"{option} {text!r} cannot be the name of a place")
    return Vantage(region, zone, ClusterId(cluster))


def _identity(
    ca: str | None, cert: str | None, key: str | None, server: str = "", secrets: str | None = None
) -> Identity | None:
    from pathlib import Path

    from isthmus.xds.secrets import Identity

    if ca is None and cert is None and key is None:
        if secrets is not None:
            raise ConfigError("--secrets is for --ca, --cert and --key, and none of them is given")
        return None
    if ca is None or cert is None or key is None:
        raise ConfigError("--ca, --cert and --key go together: both sides show who they are")
    paths = [str(Path(file).absolute()) for file in (ca, cert, key)]
    folder = "" if secrets is None else str(Path(secrets).absolute())
    return Identity(ca=paths[0], certificate=paths[1], key=paths[2], server=server, secrets=folder)


def _write_secrets(host: str, identity: Identity) -> None:
    import json
    from pathlib import Path

    from isthmus.xds.secrets import secret_files

    folder = Path(identity.secrets)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in secret_files(host, identity).items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--secrets {folder}: {error.strerror}") from error


def _name(given: str | None) -> str:
    import socket

    return given or socket.gethostname()


def _print(made: dict[str, Any], output: Structured) -> None:
    from isthmus.cli.output import document, emit

    emit(document(r.Format(output.value), made))
