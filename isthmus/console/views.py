"""Tables as JSON-able values: the answers of `/v1/...`, made of plain dicts, lists and texts.

Pure: a view reads tables and returns; equal rows give equal views, ordered by key. Names are camelCase as in
Kubernetes, times are seconds since the epoch, shares are basis points. Lists are cut (`limit`) and say how
long they are (`total`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from isthmus import __version__
from isthmus.flow import Derived, Table
from isthmus.model.cluster import ClusterView, Phase, Standing
from isthmus.model.health import CheckKey, Verdict
from isthmus.model.names import ClusterId, ServiceKey, Vantage
from isthmus.model.plan import Backend, Plan, PlanGroup, PlanKey, port_id
from isthmus.model.policy import Policy
from isthmus.model.refusal import Refused, RefusedOffer
from isthmus.model.service import Endpoint, Export, Port, Service
from isthmus.traffic.planner import Reckoning

View = dict[str, Any]
T = TypeVar("T")

MOST_FAILURES = 20
EVERY_VERDICT: frozenset[bool | None] = frozenset({True, False, None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The tables that the console shows.

    `required` must be synced before the process is ready; `/v1/status` counts these and `tables`. `exports`
    are this cluster's own.
    """

    cluster: ClusterId
    services: Table[ServiceKey, Service]
    endpoints: Table[tuple[ServiceKey, ClusterId], tuple[Endpoint, ...]]
    plans: Table[PlanKey, Plan]
    clusters: Table[ClusterId, ClusterView]
    health: Table[CheckKey, Verdict]
    exports: Table[ServiceKey, Export | Refused]
    required: tuple[Table[Any, Any], ...]
    reckon: Callable[[PlanKey], Reckoning | None]
    """The reckoning behind a plan, at any vantage."""
    places: Callable[[], Iterable[Vantage]]
    """Where callers can stand; a vantage without a zone stands for its cluster."""
    policies: Callable[[ServiceKey], Iterable[Policy]] = lambda _key: ()
    """Every policy in force or overruled that speaks of a service."""
    membership: Callable[[], Standing] = lambda: Standing(phase=Phase.UNDECIDED)
    """Where this cluster stands on its hub."""
    tables: tuple[Table[Any, Any], ...] = ()
    withheld: Callable[[ServiceKey], tuple[ClusterId, ...]] = lambda _key: ()
    """Clusters that export a service, and not to this one."""
    held: Callable[[ServiceKey], str] = lambda _key: ""
    """Who has made this cluster's import of a service, where it is not ours to write; else ""."""
    ips: Callable[[ServiceKey], tuple[str, ...]] = lambda _key: ()
    """The clusterset IPs of a service in this cluster."""
    failing: Callable[[], Mapping[str, str]] = dict
    """The last failure of each source that fails now, by table name."""
    refused: Callable[[], Mapping[ClusterId, Mapping[str, Mapping[str, int]]]] = dict
    """How many things of each cluster are refused: by cluster, what they are, and reason."""
    refused_of: Callable[[ServiceKey], Iterable[RefusedOffer]] = lambda _key: ()
    """What is refused of a service."""
    zone: Callable[[str], tuple[Vantage | None, str]] = lambda _address: (None, "")
    """Where a DNS caller of that address stands, and why. Raises ValueError for what is no address."""
    proxies: Callable[[], Awaitable[tuple[list[View], list[str]]]] | None = None
    """The proxies that are connected, and workers that did not tell theirs in time."""
    waiting: Callable[[], Iterable[str]] = tuple
    """What else the process is not ready for, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is wanted."""

    limit: int = 500
    offset: int = 0

    def cut(self, rows: Iterable[T], view: Callable[[T], View]) -> View:
        """The page of `rows`, which are in order, and how many there are in all."""
        found = list(rows)
        items = found[self.offset : self.offset + self.limit]
        return {"total": len(found), "offset": self.offset, "items": [view(row) for row in items]}


def _by_key(row: tuple[Any, Any]) -> Any:
    return row[0]


def not_ready(sources: Sources) -> list[str]:
    """Why the process is not ready, in words; empty when it is."""
    incomplete = [f"{table.name} is not complete" for table in sources.required if not table.synced]
    return [*incomplete, *sources.waiting()]


def status(sources: Sources) -> View:
    """The process as a whole: readiness, sources that fail, tables and derivations in trouble."""
    reasons = not_ready(sources)
    standing = sources.membership()
    tables = {table.name: table for table in (*sources.required, *sources.tables)}
    verdicts = Counter(verdict.up for _, verdict in sources.health.items())
    return {
        "version": __version__,
        "cluster": sources.cluster,
        "membership": {"phase": standing.phase.value, "reason": standing.reason},
        "ready": not reasons,
        "notReady": reasons,
        "failing": dict(sorted(sources.failing().items())),
        "checks": {"up": verdicts[True], "down": verdicts[False], "unknown": verdicts[None]},
        "tables": {name: _table(table) for name, table in sorted(tables.items())},
    }


def proxies(found: list[View], silent: list[str], page: Page, node: str | None) -> View:
    """The proxies, of one node where it is named."""
    chosen = [proxy for proxy in found if node in (None, proxy["node"])]
    return page.cut(chosen, lambda proxy: proxy) | ({"silent": silent} if silent else {})


def zone(sources: Sources, address: str) -> View | None:
    """Where a DNS caller of that address stands, and why; None for what is no address."""
    try:
        vantage, why = sources.zone(address)
    except ValueError:
        return None
    return {"address": address, "vantage": vantage._asdict() if vantage is not None else None, "why": why}


def _table(table: Table[Any, Any]) -> View:
    view: View = {"rows": len(table), "synced": table.synced}
    if table.stale:
        view["stale"] = dict(sorted(table.stale.items()))
    if isinstance(table, Derived) and table.failures:
        first = sorted((str(key), failure) for key, failure in table.failures.items())[:MOST_FAILURES]
        view["failures"] = {
            "total": len(table.failures),
            "items": [{"key": key, "error": failure.error, "count": failure.count} for key, failure in first],
        }
    return view


def services(sources: Sources, page: Page) -> View:
    """All services in one line each."""
    return page.cut(sorted(sources.services.items(), key=_by_key), lambda row: _service_line(sources, row[1]))


def _service_line(sources: Sources, service: Service) -> View:
    clusters = [export.cluster for export in service.exports]
    held = sources.held(service.key)
    return {
        "namespace": service.key.namespace,
        "name": service.key.name,
        "type": service.type.value,
        "ports": [_port(port) for port in service.ports],
        "clusters": clusters,
        "endpoints": sum(len(sources.endpoints.get((service.key, cluster)) or ()) for cluster in clusters),
        "conflicts": [conflict.reason for conflict in service.conflicts],
        "refusals": refusals(sources, service.key),
    } | ({"heldBy": held} if held else {})


def service(sources: Sources, key: ServiceKey) -> View | None:
    """One service with its exports, endpoints and their verdicts; None where there is no such service."""
    found = sources.services.get(key)
    own = sources.exports.get(key)
    withheld = list(sources.withheld(key))
    if found is None:
        refused = refusals(sources, key)
        if not isinstance(own, Refused) and not withheld and not refused:
            return None
        absent: View = {"namespace": key.namespace, "name": key.name, "withheld": withheld}
        absent["refusals"] = refused
        return absent | (_refused(own) if isinstance(own, Refused) else {})
    verdicts = _verdicts(sources.health, key)
    view = _service_line(sources, found) | {
        "ipFamilies": [family.value for family in found.ip_families],
        "ips": list(sources.ips(key)),
        "conflicts": [{"reason": c.reason, "message": c.message} for c in found.conflicts],
        "exports": [_export(export) for export in found.exports],
        "endpoints": [
            _endpoint(endpoint, verdicts.get((cluster, endpoint.id), {}))
            for cluster in (export.cluster for export in found.exports)
            for endpoint in sources.endpoints.get((key, cluster)) or ()
        ],
    }
    view["withheld"] = withheld
    return view | (_refused(own) if isinstance(own, Refused) else {})


def _refused(refused: Refused) -> View:
    return {"refused": {"reason": refused.reason, "message": refused.message}}


def refusals(sources: Sources, key: ServiceKey) -> list[View]:
    """What other clusters say of a service and this one does not believe; the same said twice is one."""
    found: Counter[tuple[ClusterId, str, str, str]] = Counter()
    for cluster, what, refused in sources.refused_of(key):
        found[cluster, what, refused.reason, refused.message] += refused.count
    return [
        {"cluster": cluster, "what": what, "reason": reason, "message": message, "count": count}
        for (cluster, what, reason, message), count in sorted(found.items())[:MOST_FAILURES]
    ]


def _verdicts(health: Table[CheckKey, Verdict], key: ServiceKey) -> dict[tuple[str, str], View]:
    """Verdicts of one service by (cluster, endpoint), then by port."""
    found: dict[tuple[str, str], View] = {}
    for check, verdict in sorted((row for row in health.items() if row[0].service == key), key=_by_key):
        found.setdefault((check.cluster, check.endpoint), {})[check.port] = _verdict(verdict)
    return found


def _export(export: Export) -> View:
    return {
        "cluster": export.cluster,
        "created": export.created,
        "type": export.type.value,
        "ports": [_port(port) for port in export.ports],
        "draining": export.draining,
    }


def _endpoint(endpoint: Endpoint, verdicts: View) -> View:
    return {
        "id": endpoint.id,
        "cluster": endpoint.cluster,
        "region": endpoint.region,
        "zone": endpoint.zone,
        "network": endpoint.network,
        "addresses": list(endpoint.addresses),
        "ready": endpoint.ready,
        "serving": endpoint.serving,
        "terminating": endpoint.terminating,
        "health": verdicts,
    }


def plans(sources: Sources, key: ServiceKey, page: Page) -> View:
    """The plans of one service: the whole and each port, at each vantage."""
    rows = sorted((row for row in sources.plans.items() if row[0].service == key), key=_by_key)
    return page.cut(rows, lambda row: _plan(row[1]))


def _plan(plan: Plan) -> View:
    return {
        "service": str(plan.key.service),
        "port": plan.key.port,
        "vantage": plan.key.vantage._asdict(),
        "policy": plan.policy,
        "panic": plan.panic,
        "wavering": plan.wavering,
        "readyAnywhere": plan.ready_anywhere,
        "dns": {"answer": plan.doors.dns_answer, "ttlSeconds": plan.doors.dns_ttl},
        "shares": [_group(group) for group in plan.shares],
        "standby": [_group(group) for group in plan.standby],
        "unhealthy": [_group(group) for group in plan.unhealthy],
        "draining": [_group(group) for group in plan.draining],
        "leftOut": [left._asdict() for left in plan.left_out],
    }


def _group(group: PlanGroup) -> View:
    return {
        **group.locality._asdict(),
        "step": group.step,
        "basisPoints": group.basis_points,
        "backends": [_backend(backend) for backend in group.backends],
    }


def _backend(backend: Backend) -> View:
    view: View = {"id": backend.id, "addresses": list(backend.addresses), "port": backend.port}
    return view | ({"hostname": backend.hostname} if backend.hostname else {})


def clusters(sources: Sources, page: Page) -> View:
    """All clusters as the planner counts them."""
    exported = Counter(export.cluster for _, row in sources.services.items() for export in row.exports)
    refused = sources.refused()

    def view(row: tuple[ClusterId, ClusterView]) -> View:
        cluster = row[1]
        return {
            "id": cluster.id,
            "own": cluster.id == sources.cluster,
            "region": cluster.region,
            "labels": dict(cluster.labels),
            "unknown": cluster.unknown,
            "draining": cluster.draining,
            "services": exported[cluster.id],
            "refused": {what: dict(reasons) for what, reasons in refused.get(cluster.id, {}).items()},
        }

    return page.cut(sorted(sources.clusters.items(), key=_by_key), view)


def health(
    sources: Sources,
    page: Page,
    key: ServiceKey | None = None,
    ups: frozenset[bool | None] = EVERY_VERDICT,
) -> View:
    """Verdicts, of one service or of all, whose `up` is one of `ups`."""
    rows = (
        row for row in sources.health.items() if (key is None or row[0].service == key) and row[1].up in ups
    )

    def view(row: tuple[CheckKey, Verdict]) -> View:
        check, verdict = row
        names: Mapping[str, Any] = check._asdict() | {"service": str(check.service)}
        return {**names, **_verdict(verdict)}

    return page.cut(sorted(rows, key=_by_key), view)


def _verdict(verdict: Verdict) -> View:
    return {
        "up": verdict.up,
        "canary": verdict.canary,
        "wavering": verdict.wavering,
        "since": verdict.since,
        "reason": verdict.reason,
    }


def _port(port: Port) -> View:
    return {"id": port_id(port), "name": port.name, "appProtocol": port.app_protocol}
