"""Control's edges: health comes in; rows go to the door workers, objects to the API servers.

Loaded by `control` while the first lists are on their way.
"""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from isthmus.agent import (
    families,
    history,
    inputs,
    membership,
    metrics,
    staleness,
    vantages,
    verdicts,
    workerstats,
)
from isthmus.agent.clusterproperty import ClusterProperties
from isthmus.agent.control import Control
from isthmus.agent.doors import Doors
from isthmus.agent.identity import identity
from isthmus.agent.notices import Notices, Teller
from isthmus.agent.outputs import Outputs
from isthmus.agent.process import host_and_port
from isthmus.agent.proxies import Proxies
from isthmus.agent.records import Records
from isthmus.agent.reports import Reports
from isthmus.agent.session import HUB, Session
from isthmus.agent.worker import LINK
from isthmus.agent.writing import (
    EXPORT_KINDS,
    HUB_KINDS,
    MEMBER_KINDS,
    POLICY_REPORT_KINDS,
    REPORT_KINDS,
    Writing,
    compete,
    found_in,
)
from isthmus.api import kinds
from isthmus.api.hub import HealthReport
from isthmus.api.meta import ObjectKey
from isthmus.console import http
from isthmus.console.events import Ring
from isthmus.console.views import Sources
from isthmus.errors import PlatformError
from isthmus.flow import Table, pulse
from isthmus.flow.replica import Publisher
from isthmus.flow.stats import STATS, Stats
from isthmus.kube.lease import LeaseHolder
from isthmus.kube.raw import opened
from isthmus.mcs import autoexport, serviceimport
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.probes.prober import Prober, anchor
from isthmus.xds.proxies import LOOKS, PROXIES

WRITER_LEASE = "isthmus-agent"


def start(core: Control, group: asyncio.TaskGroup) -> None:
    """Starts everything that probes, serves and writes."""
    chain, settings = core.chain, core.settings
    registry = CollectorRegistry()
    outputs = Outputs(chain)
    doors = Doors(chain, outputs.vips, core.callers)
    core.graph.add([*outputs.tables, *doors.tables])
    counted: Table[str, bytes] = Table(STATS)
    workerstats.collect(counted, registry)
    proxies = Proxies()
    publisher = Publisher(
        settings.state_dir / LINK,
        {"xds": doors.xds, "dns": doors.dns, LOOKS: proxies.looks},
        {"wants": doors.wants, STATS: counted, PROXIES: proxies.told},
    )
    stats = Stats("control", counted, prefix="control/")
    prober = Prober(
        chain.checks,
        core.health,
        api_servers=[anchor(*address) for address in core.api_servers],
        registry=registry,
        notes=core.notes,
    )
    lease = LeaseHolder(
        core.member_client,
        ObjectKey(settings.namespace, WRITER_LEASE),
        identity(settings.state_dir),
        on_change=core.leads,
    )

    def may_write() -> bool:
        return lease.holds and core.member_read and membership.named_well(chain, settings.clusterset)

    def may_delete() -> bool:
        return core.everything_known

    member = Writing(
        core.member_client,
        "member",
        outputs.member,
        may_write,
        MEMBER_KINDS,
        deletes=may_delete,
        left=lambda: lease.left,
        refused=outputs.member_refused,
        spares=outputs.let_go.spares_member,
        born=outputs.born,
        plainer=serviceimport.plainer,
    )
    member.applier.hear(kinds.SERVICE, chain.member.services)
    member.applier.hear(kinds.ENDPOINT_SLICE, chain.member.slices)
    exports = Writing(
        core.member_client,
        "auto-exports",
        outputs.exports,
        may_write,
        EXPORT_KINDS,
        deletes=may_delete,
        left=lambda: lease.left,
        spares=outputs.let_go.spares_export,
        ours=autoexport.is_ours,
        manager=autoexport.MANAGER,
    )
    notices = Notices(chain.member, chain.services, member.applier.refused, outputs.held)
    core.graph.add(notices.tables)
    appliers = [member.applier, exports.applier]
    sources = Sources(
        cluster=chain.place.cluster,
        services=chain.services,
        endpoints=chain.endpoints,
        plans=chain.plans,
        clusters=chain.views,
        health=chain.health,
        exports=chain.own_exports,
        required=(chain.plans, doors.dns, doors.xds),
        reckon=chain.reckon,
        places=lambda: vantages.places(chain),
        policies=lambda key: chain.policies.get(key) or (),
        withheld=chain.admission.withheld,
        held=outputs.held,
        ips=lambda key: outputs.vips.get(key) or (),
        tables=tuple(source.table for source in (*core.member_sources, *core.hub_sources)),
        failing=lambda: inputs.failing((*core.member_sources, *core.hub_sources)),
        membership=lambda: chain.standing,
        refused=chain.refusals.by_cluster,
        refused_of=chain.refusals.of_service,
        zone=lambda address: chain.caller_zones.of(address, direct=bool(settings.dns_forward)),
        proxies=lambda: proxies.look(lambda: (name for name in publisher.workers if name.startswith("xds-"))),
        waiting=lambda: workerstats.not_ready(counted, settings.workers),
    )
    ring = Ring(f"{time.time_ns() // 1_000_000:x}")
    group.create_task(_console(sources, registry, ring, settings.console_listen), name="console")
    group.create_task(history.record(chain, ring), name="history")
    group.create_task(publisher.run(), name="publisher")
    aging = staleness.tell((*core.member_sources, *core.hub_sources), doors.dns)
    group.create_task(aging, name="staleness")
    group.create_task(pulse.publish(stats, tuple, lambda: chain.plans.synced), name="stats")
    group.create_task(chain.refusals.run(), name="refusals")
    group.create_task(prober.run(), name="prober")
    group.create_task(verdicts.keep(prober, chain.health, settings.state_dir), name="verdicts")
    group.create_task(
        compete(core.member_client, settings.namespace, lease, chain.member.namespaces), name="writer-lease"
    )
    group.create_task(member.run(), name="write-member")
    group.create_task(families.follow(core.member_client, outputs.asked.partition("server")), name="families")
    group.create_task(exports.run(), name="write-auto-exports")
    group.create_task(Teller(core.member_client, notices.rows, may_write).run(), name="notices")
    writings = [member, exports]
    if core.hub_client is None:
        outputs.hub_refused.partition("no hub").replace({})
    else:
        place, hub_client = chain.place, core.hub_client
        own = hub_namespace(place.cluster)
        hub = Writing(
            hub_client,
            "hub",
            outputs.hub,
            lambda: may_write() and member_of.speaks and session.begun,
            HUB_KINDS,
            namespace=own,
            deletes=may_delete,
            left=lambda: lease.left,
            refused=outputs.hub_refused,
            spares=outputs.let_go.spares_hub,
        )
        appliers.append(hub.applier)
        reports = Reports(
            place.cluster,
            chain.health,
            silent=lambda: chain.standing.withdrawn,
            # Before it is known what is checked, every report on the hub would be one too many.
            stored=lambda: _stored_reports(telling) if prober.followed else None,
        )
        member_of = membership.Membership(
            hub_client,
            chain,
            settings.clusterset,
            core.membership,
            hub_read=lambda: core.hub_read,
            may_write=may_write,
            withdrawn=lambda: (
                outputs.hub.synced and not outputs.hub and not outputs.policies.desired and reports.withdraw()
            ),
            leftovers=lambda: found_in((hub, telling, policies)),
            on_claimed=hub.applier.resync,
        )
        session = Session(
            hub_client,
            place.cluster,
            member_of,
            lambda: inputs.last_heard(core.hub_sources),
            core.session,
        )
        properties = ClusterProperties(core.member_client, chain, settings.clusterset, may_write)
        group.create_task(properties.run(), name="cluster-properties")
        telling = Writing(
            hub_client,
            "reports",
            reports.desired,
            lambda: may_write() and member_of.speaks,
            REPORT_KINDS,
            namespace=own,
            deletes=lambda: reports.complete,
        )
        policies = Writing(
            hub_client,
            "policy-reports",
            outputs.policies.desired,
            lambda: may_write() and member_of.speaks and core.recall.complete,
            POLICY_REPORT_KINDS,
            namespace=own,
            deletes=may_delete,
            left=lambda: lease.left,
        )
        records = Records(core.member_client, chain, may_write)
        writings += [hub, telling, policies]
        group.create_task(session.run(), name="session")
        group.create_task(records.run(), name="exported-at")
        group.create_task(hub.run(), name="write-hub")
        group.create_task(reports.run(), name="reports")
        group.create_task(telling.run(), name="write-reports")
        group.create_task(policies.run(), name="write-policy-reports")
    group.create_task(outputs.let_go.wake(appliers), name="let-go")
    servers = metrics.Servers(
        sources=(*core.member_sources, *core.hub_sources),
        clients={"member": core.member_client} | ({"hub": core.hub_client} if core.hub_client else {}),
        writings=tuple(writings),
        leads=lambda: lease.holds,
    )
    house = metrics.House(
        servers=servers,
        chain=chain,
        graph=core.graph,
        publisher=publisher,
        doors={"xds": doors.xds, "dns": doors.dns},
        workers=settings.workers,
        live=lambda: chain.session.get(HUB) is True,
    )
    workerstats.show(registry, metrics.METRICS, metrics.reader(house))


def _stored_reports(telling: Writing) -> list[HealthReport] | None:
    """The reports on the hub, None before they were read."""
    found = telling.tables[kinds.HEALTH_REPORT]
    return [opened(kinds.HEALTH_REPORT, row) for row in found.values()] if found.synced else None


async def _console(sources: Sources, registry: CollectorRegistry, ring: Ring, listen: str) -> None:
    host, port = host_and_port(listen)
    try:
        await http.serve(sources, registry, ring, host=host, port=port)
    except OSError as error:
        raise PlatformError(f"--console-listen {listen}: {error.strerror}") from error
