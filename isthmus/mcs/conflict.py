"""The merge of one service's exports (KEP-1645, constraints and conflict resolution).

The oldest export wins, ties by cluster name. Ports are a union: in order of precedence, a port whose name or
whose (protocol, port) is taken is dropped. So a newcomer never changes what already carries traffic; it can
only add. The order in which exports or ports are listed never matters. All agents run this over the same
exports and find the same service.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from isthmus.model.service import Export, ExportConflict, Port, Service


def merge(exports: Sequence[Export]) -> Service:
    """The service that these exports, one per cluster and at least one, make together."""
    ordered = sorted(exports, key=lambda export: export.precedence)
    if not ordered:
        raise ValueError("a service without an export does not exist")
    oldest = ordered[0]
    conflicts = [conflict for rule in _RULES if (conflict := rule(ordered)) is not None]
    return Service(
        key=oldest.key,
        type=oldest.type,
        ports=merged_ports(ordered),
        exports=tuple(ordered),
        ip_families=oldest.ip_families,
        affinity=oldest.affinity,
        internal_traffic_policy=oldest.internal_traffic_policy,
        traffic_distribution=oldest.traffic_distribution,
        labels=oldest.labels,
        annotations=oldest.annotations,
        conflicts=tuple(conflicts),
    )


def merged_ports(ordered: Sequence[Export]) -> tuple[Port, ...]:
    """The union of the ports of exports in order of precedence, sorted; no name and no pair twice.

    "" counts as a name. Two ports that differ in appProtocol alone are the same port, told as the older says.
    """
    names: set[str] = set()
    pairs: set[tuple[str, int]] = set()
    union: list[Port] = []
    for export in ordered:
        for port in sorted(export.ports):
            if port.name in names or (port.protocol, port.port) in pairs:
                continue
            names.add(port.name)
            pairs.add((port.protocol, port.port))
            union.append(port)
    return tuple(sorted(union))


def _conflict(
    ordered: Sequence[Export], reason: str, what: str, said: str, disagree: int, of: int
) -> ExportConflict | None:
    if not disagree:
        return None
    message = (
        f'Conflicting {what}. {said} from oldest service export in "{ordered[0].cluster}". '
        f"{disagree}/{of} clusters disagree."
    )
    return ExportConflict(reason=reason, message=message)


def _same(
    reason: str,
    what: str,
    field: Callable[[Export], Hashable],
    text: Callable[[Export], str],
    *,
    among_type: bool = False,
) -> Callable[[Sequence[Export]], ExportConflict | None]:
    """The rule that all exports say the same in `field` (`among_type`: those of the oldest's type)."""

    def rule(ordered: Sequence[Export]) -> ExportConflict | None:
        oldest = ordered[0]
        asked = [export for export in ordered if not among_type or export.type is oldest.type]
        disagree = sum(field(export) != field(oldest) for export in asked)
        return _conflict(ordered, reason, what, f"Using {text(oldest)}", disagree, len(ordered))

    return rule


def _ports(ordered: Sequence[Export]) -> ExportConflict | None:
    first = frozenset(ordered[0].ports)
    disagree = sum(frozenset(export.ports) != first for export in ordered)
    return _conflict(
        ordered,
        "PortConflict",
        "ports",
        "Exposing all of them; where they collide, those",
        disagree,
        len(ordered),
    )


def _affinity_config(ordered: Sequence[Export]) -> ExportConflict | None:
    """Timeouts are compared only with exports whose affinity is the oldest's own."""
    first = ordered[0].affinity
    if first is None:
        return None
    disagree = sum(export.affinity is not None and export.affinity != first for export in ordered)
    said = f'Using "{first.timeout_seconds}s"'
    reason = "SessionAffinityConfigConflict"
    return _conflict(ordered, reason, "session affinity timeout", said, disagree, len(ordered))


def _ip_families(ordered: Sequence[Export]) -> ExportConflict | None:
    """A family that the oldest has and another lacks reaches only a part of the endpoints."""
    first = ordered[0].ip_families
    disagree = sum(not frozenset(first) <= frozenset(export.ip_families) for export in ordered)
    said = f'Using "{",".join(first)}"'
    return _conflict(ordered, "IPFamilyConflict", "IP families", said, disagree, len(ordered))


_RULES: tuple[Callable[[Sequence[Export]], ExportConflict | None], ...] = (
    _ports,
    _same("TypeConflict", "type", lambda e: e.type, lambda e: f'"{e.type.value}"'),
    _same(
        "SessionAffinityConflict",
        "session affinity",
        lambda e: e.affinity is None,
        lambda e: '"None"' if e.affinity is None else '"ClientIP"',
        among_type=True,
    ),
    _affinity_config,
    _same("LabelsConflict", "exported labels", lambda e: e.labels, lambda _: "those"),
    _same("AnnotationsConflict", "exported annotations", lambda e: e.annotations, lambda _: "those"),
    _same(
        "InternalTrafficPolicyConflict",
        "internal traffic policy",
        lambda e: e.internal_traffic_policy,
        lambda e: f'"{e.internal_traffic_policy}"',
    ),
    _same(
        "TrafficDistributionConflict",
        "traffic distribution",
        lambda e: e.traffic_distribution,
        lambda e: f'"{e.traffic_distribution}"',
    ),
    _ip_families,
)
