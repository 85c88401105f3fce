"""`isthmus dns`: what a cluster's own DNS needs to find ours, and why a name answers as it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import reach as r
from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from isthmus.cli.agents import Company
    from isthmus.cli.output import Screen
    from isthmus.model.plan import Plan
    from isthmus.model.service import Service

COREFILE_EXAMPLES = "Example: isthmus dns corefile --server 10.96.0.53"
EXPLAIN_EXAMPLES = "Example: isthmus dns explain checkout.shop.svc.clusterset.local --from 10.64.1.7"

app = typer.Typer(help="Join DNS to a cluster's own, and explain its answers.", no_args_is_help=True)


class Resolver(StrEnum):
    COREDNS = "coredns"
    NODELOCAL = "nodelocal"


class RecordType(StrEnum):
    A = "A"
    AAAA = "AAAA"
    SRV = "SRV"
    TXT = "TXT"
    SOA = "SOA"
    NS = "NS"


Zone = Annotated[str, typer.Option(metavar="ZONE", help="DNS zone of the clusterset.")]


@app.command(epilog=COREFILE_EXAMPLES)
def corefile(
    server: Annotated[
        list[str],
        typer.Option(
            "--server", metavar="ADDRESS[:PORT]", help="Where the agents answer DNS; repeatable. IPv6 in []."
        ),
    ],
    for_: Annotated[
        Resolver, typer.Option("--for", metavar="WHAT", help="coredns or nodelocal (NodeLocal DNSCache).")
    ] = Resolver.COREDNS,
    bind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="With nodelocal: what the cache listens on, as in its other blocks; repeatable. "
            "Default: 169.254.20.10.",
        ),
    ] = None,
    zone: Zone = "clusterset.local",
) -> None:
    """Print the server block that sends the clusterset's zone here, to add to a Corefile."""
    from isthmus.dns import wire

    if wire.name(zone) is None:
        raise ConfigError(f"--zone {zone}: not a domain name")
    if bind and for_ is Resolver.COREDNS:
        raise ConfigError("--bind goes with --for nodelocal")
    servers = " ".join(map(_server, server))
    lines = ["errors"]
    if for_ is Resolver.NODELOCAL:
        lines.append(f"bind {' '.join(map(_address, bind or ['169.254.20.10']))}")
    # 30 s is the most: what is kept is bounded by each record's own TTL, denials by the SOA's 5 s.
    lines += ["cache 30 {", "    success 9984", "    denial 9984 5", "}"]
    lines += [f"forward . {servers} {{", "    max_concurrent 1000", "}", "prometheus :9153"]
    if for_ is Resolver.NODELOCAL:
        lines[-1] = "prometheus :9253"
    body = "\n".join(f"    {line}" for line in lines)
    typer.echo(f"{zone.rstrip('.')}:53 {{\n{body}\n}}")


def _address(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ConfigError(f"{text}: not an address, e.g. 10.96.0.53 or fd00::53") from None


def _server(text: str) -> str:
    """An address and a port as CoreDNS writes them."""
    host, _, port = text.rpartition(":")
    if text.endswith("]") or not host or (":" in host and not host.endswith("]")):
        host, port = text, "53"
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"--server {text}: port {port!r} is none; say ADDRESS or ADDRESS:PORT")
    address = _address(host.strip("[]"))
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@app.command(epilog=EXPLAIN_EXAMPLES, no_args_is_help=True)
def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The whole name that is asked for.")],
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="ADDRESS", help="The caller's address: who asks our DNS, often a resolver."
        ),
    ] = "127.0.0.1",
    type_: Annotated[
        RecordType, typer.Option("--type", case_sensitive=False, metavar="TYPE", help="A, AAAA, SRV, TXT, …")
    ] = RecordType.A,
    zone: Zone = "clusterset.local",
    agent: r.Agents = None,
    kubeconfig: r.Kubeconfig = None,
    context: r.Contexts = None,
    agent_namespace: r.AgentNamespace = r.AGENT_NAMESPACE,
    timeout: r.Timeout = 5.0,
    output: r.Output = r.Format.TABLE,
) -> None:
    """Explain what the DNS of each cluster answers for a name at this moment, and why."""
    import asyncio

    reach = r.reach(agent, kubeconfig, context, agent_namespace, timeout)
    asyncio.run(_run(reach, output, name, type_.value, zone, _address(from_)))


async def _run(reach: r.Reach, form: r.Format, name: str, rtype: str, zone: str, client: str) -> None:
    import sys
    import time

    from isthmus.cli import output
    from isthmus.cli.agents import meet
    from isthmus.dns import rrset
    from isthmus.dns.explained import explained, service_of

    key = service_of(name, zone)
    async with meet(reach) as company:
        found = []
        for one in await _told(company, key, client):
            row = rrset.row(one.service, one.ips, one.plans) if one.service is not None else None
            told = explained(name, rtype, zone, client, time.time(), row, one.plans)
            found.append({"cluster": one.cluster, "zone": one.zone, "zoneBecause": one.because, **told})
        company.require()
        if form is r.Format.TABLE:
            screen = output.Screen.of(sys.stdout)
            output.emit("\n".join(_text(view, screen) for view in found))
            output.notes(company)
        else:
            output.emit(output.structured(form, {"items": found}, company))


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a cluster's agent knows of the caller and of a service: itself, its IPs, the caller's plans."""

    cluster: str
    zone: str = ""
    """"" where it is not known; `because` says why."""
    because: str = ""
    service: Service | None = None
    ips: tuple[str, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)


async def _told(company: Company, key: tuple[str, str] | None, client: str) -> list[_Told]:
    """The word of each cluster's agent."""
    from isthmus.cli import planview
    from isthmus.errors import KubeError

    found: list[_Told] = []
    for agent in company.speakers:
        try:
            stands = await agent.get("/v1/zone", {"address": client})
            vantage = stands.body.get("vantage") or {}
            caller = _Told(
                cluster=agent.cluster,
                zone=vantage.get("zone", ""),
                because=stands.body["why"]
                if stands.good
                else "this agent is older than zones of DNS callers",
            )
            if key is None:
                found.append(caller)
                continue
            answer = await agent.get(f"/v1/services/{key[0]}/{key[1]}")
            plans = await agent.items("/v1/plans", {"service": "/".join(key)}) if answer.good else []
        except KubeError as error:
            company.lost(agent, error)
            continue
        service = planview.service(answer.body) if answer.good else None
        own = [view for view in plans if _is_own(view["vantage"], agent.cluster)]
        # A policy that tells no zones apart has no plans for them.
        own = [view for view in plans if view["vantage"] == vantage] or own
        made = [planview.plan(view, service) for view in own] if service is not None else []
        ips = tuple(answer.body.get("ips", ())) if answer.good else ()
        found.append(replace(caller, service=service, ips=ips, plans={one.key.port: one for one in made}))
    return found


def _is_own(vantage: Mapping[str, Any], cluster: str) -> bool:
    """Whether DNS answers for callers there whose zone it does not know."""
    return bool(vantage["cluster"] == cluster and not vantage["zone"])


def _text(view: dict[str, Any], screen: Screen) -> str:
    """The answer in words, then the draw, then endpoint by endpoint."""
    from isthmus.cli.output import clean, table

    head = f"{view['name']} {view['type']} in {view['cluster']}, asked by {view['client']}: {view['rcode']}"
    caller = f"Caller: zone {view['zone'] or 'unknown'}: {view['zoneBecause']}."
    lines = [head, caller, f"Why: {view['why']}.", *(f"  {one}" for one in view["answers"])]
    for draw in view.get("draw", ()):
        start, end = draw["window"]
        lines.append(
            f"Draw: {draw['drawn']} of {draw['of']}, TTL {draw['ttl']} s, the same until {_clock(end)} "
            f"(window of {end - start} s), shares {draw['version']}"
        )
    parts = ["\n".join(clean(line, screen) for line in lines) + "\n"]
    rows = [
        (
            one["endpoint"],
            one["cluster"],
            ",".join(one["addresses"]) or "-",
            f"{round(one['share'], 2):g}%",
            "in" if one["in"] else "out",
            one["why"],
        )
        for one in view.get("endpoints", ())
    ]
    if rows:
        parts.append(table(("ENDPOINT", "CLUSTER", "ADDRESSES", "SHARE", "ANSWER", "WHY"), rows, screen))
    return "\n".join(parts)


def _clock(seconds: float) -> str:
    import time

    return time.strftime("%H:%M:%S UTC", time.gmtime(seconds))
