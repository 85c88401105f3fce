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
    GRPC = "grpc"
    DNS = "dns"
    KERNEL = "kernel"


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
    to: Annotated[Door, typer.Option(metavar="WHAT", help="plan, envoy, grpc, dns or kernel.")] = Door.PLAN,
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
    """Translate manifests offline: the plan, and what each door makes of it."""
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
    render = {
        Door.PLAN: _plans,
        Door.ENVOY: _envoy,
        Door.GRPC: _grpc,
        Door.DNS: _dns,
        Door.KERNEL: _kernel,
    }[to]
    emit(document(r.Format(output.value), {"from": vantage_text(vantage), **render(world, vantage)}))
    if world.refusals:
        raise typer.Exit(EXIT_REFUSED)


def _plans(world: Clusterset, vantage: Vantage) -> dict[str, Any]:
    from isthmus.console.explanation import explained
    from isthmus.traffic.explain import explain_overruled

    made = []
    for service in world.services.values():
        for _key, port in world.keys(service, vantage):
            if port is not None or not service.ports:
                overruled = explain_overruled(world.speakers(vantage), service, port)
                made.append(explained(world.reckon(service, port, vantage), overruled))
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


def _grpc(world: Clusterset, vantage: Vantage) -> dict[str, Any]:
    from isthmus.xds import grpc
    from isthmus.xds.envoy.readable import readable
    from isthmus.xds.rows import ResourceType, resource_name

    listeners, routes, clusters, assignments = [], [], [], []
    for key, service in world.services.items():
        for name, port in grpc.names(key, service.ports).items():
            listeners.append(readable(ResourceType.LDS, grpc.listener(name, key, port)))
            if name != resource_name(key, port.port):
                continue
            doors = world.policy(service, port, vantage).doors
            plan = world.reckon(service, port, vantage).plan
            routes.append(readable(ResourceType.RDS, grpc.route_configuration(key, port, doors)))
            clusters.append(readable(ResourceType.CDS, grpc.cluster(key, port, doors)))
            assignments.append(readable(ResourceType.EDS, grpc.load_assignment(plan)))
    return {
        "listeners": listeners,
        "route_configurations": routes,
        "clusters": clusters,
        "load_assignments": assignments,
    }


def _kernel(world: Clusterset, vantage: Vantage) -> dict[str, Any]:
    """Per service port the shares of plain addresses, and what callers connect to."""
    from isthmus.model.plan import port_id
    from isthmus.model.service import AddressFamily
    from isthmus.traffic.addressshares import address_shares

    told = []
    for key, service in world.services.items():
        for port in service.ports:
            plan = world.reckon(service, port, vantage).plan
            families = {
                family.value: [
                    {"address": one.address, "port": one.port, "share": round(float(100 * one.share), 4)}
                    for one in address_shares(plan, family)
                ]
                for family in AddressFamily
            }
            told.append(
                {
                    "service": str(key),
                    "port": port_id(port),
                    "addresses": list(world.ips.get((vantage.cluster, key), ())),
                    "affinity_seconds": service.affinity.timeout_seconds if service.affinity else None,
                    "shares": {name: rows for name, rows in families.items() if rows},
                }
            )
    return {"services": told}


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
