"""`isthmus translate`: manifests in, plans or what a door makes of them out, without any cluster."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r
from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from isthmus.cli.clusterset import Clusterset
    from isthmus.model.names import Vantage

EXAMPLES = "Example: isthmus translate -f eu-1=eu.yaml -f us-1=us.yaml -f policy.yaml --to plan --down us-1"

EXIT_REFUSED = 1


class Door(StrEnum):
    PLAN = "plan"
    ENVOY = "envoy"
    DNS = "dns"


class Structured(StrEnum):
    YAML = "yaml"
    JSON = "json"


def command(
    files: Annotated[
        list[str],
        typer.Option(
            "--file",
            "-f",
            metavar="[CLUSTER=]FILE",
            help="Manifests: a file, a folder, or - for stdin; repeatable. A document's annotation "
            "isthmus.dev/cluster goes before CLUSTER.",
        ),
    ],
    to: Annotated[Door, typer.Option(metavar="WHAT", help="plan, envoy or dns.")] = Door.PLAN,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="CLUSTER[/ZONE]", help="Where the callers stand; default: the first cluster."
        ),
    ] = None,
    down: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A cluster, or an endpoint's id, that is Down; repeatable."),
    ] = None,
    output: Annotated[
        Structured, typer.Option("--output", "-o", help="yaml or json.", metavar="FORMAT")
    ] = Structured.YAML,
) -> None:
    """Translate manifests offline: the plan, Envoy's, DNS'."""
    from isthmus.cli import clusterset
    from isthmus.cli.output import document, emit, note
    from isthmus.console.explanation import Unanswerable, find_vantage, vantage_text

    world = clusterset.read(files)
    for refusal in world.refusals:
        note(refusal)
    if not world.services:
        raise ConfigError("nothing is exported: no ServiceExport in the files goes with a Service")
    clusterset.mark_down(world, down or ())
    vantage = find_vantage(world.places(), from_ or next(iter(world.clusters)))
    if isinstance(vantage, Unanswerable):
        raise ConfigError(f"--from {from_}: {vantage.error}")
    render = {Door.PLAN: _plans, Door.ENVOY: _envoy, Door.DNS: _dns}[to]
    emit(document(r.Format(output.value), {"from": vantage_text(vantage), **render(world, vantage)}))
    if world.refusals:
        raise typer.Exit(EXIT_REFUSED)


def _plans(world: Clusterset, vantage: Vantage) -> dict[str, Any]:
    from isthmus.console.explanation import explained

    made = []
    for service in world.services.values():
        for _key, port in world.keys(service, vantage):
            if port is not None or not service.ports:
                made.append(explained(world.reckon(service, port, vantage)))
    return {"plans": made}


def _envoy(world: Clusterset, vantage: Vantage) -> dict[str, Any]:
    from isthmus.model.plan import port_id
    from isthmus.model.service import Protocol
    from isthmus.xds import envoy, rows
    from isthmus.xds.envoy.readable import readable
    from isthmus.xds.rows import ResourceType

    clusters, assignments, hosts = [], [], []
    for service in world.services.values():
        doors = {port_id(port): world.policy(service, port, vantage).doors for port in (None, *service.ports)}
        for port in service.ports:
            if port.protocol is Protocol.TCP:
                plan = world.reckon(service, port, vantage).plan
                cluster = envoy.cluster(service.key, port, doors[port_id(port)])
                clusters.append(readable(ResourceType.CDS, cluster))
                assignments.append(readable(ResourceType.EDS, envoy.load_assignment(plan)))
        hosts.append(envoy.virtual_host(service.key, service.ports, doors[""], doors))
    where = rows.split_listen(rows.DEFAULT_LISTEN)
    assert where is not None
    return {
        "listeners": [readable(ResourceType.LDS, envoy.listener(*where))],
        "route_configurations": [readable(ResourceType.RDS, envoy.route_configuration(hosts))],
        "clusters": clusters,
        "load_assignments": assignments,
    }


def _dns(world: Clusterset, vantage: Vantage) -> dict[str, Any]:
    from isthmus.dns import rrset
    from isthmus.dns.readable import readable

    zone = "clusterset.local"
    told = []
    for key, service in world.services.items():
        plans = {
            plan_key.port: world.reckon(service, port, vantage).plan
            for plan_key, port in world.keys(service, vantage)
        }
        row = rrset.row(service, world.ips.get((vantage.cluster, key), ()), plans)
        told.append(readable(row, zone))
    return {"zone": zone, "services": told}
