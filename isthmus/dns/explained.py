"""Why a name answers as it does for one caller (`isthmus dns explain`); pure.

Invariant: it asks the very zone that a worker would build from the same row, so what it shows is what is
answered at that moment; it decides nothing of its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any, Final

from isthmus.dns import wire
from isthmus.dns.node import Drawn, DrawnTargets, Node, Placed, Pool, Records
from isthmus.dns.querylog import text
from isthmus.dns.question import name_end
from isthmus.dns.row import Row
from isthmus.dns.zone import Zone
from isthmus.errors import ConfigError
from isthmus.model.plan import Plan, PlanGroup, port_id

TYPES: Final = {
    "A": wire.A,
    "AAAA": wire.AAAA,
    "SRV": wire.SRV,
    "TXT": wire.TXT,
    "SOA": wire.SOA,
    "NS": wire.NS,
}

_SRV_DATA: Final = wire.RR_HEAD + 6
_TAIL_HEAD: Final = 10
"""Type, class, TTL and length of a record without its owner."""
_FAMILY: Final = {wire.A: 4, wire.AAAA: 6}


def service_of(name: str, origin: str) -> tuple[str, str] | None:
    """The namespace and the service that a name speaks of; None where it speaks of none.

    Raises ConfigError for what is no name.
    """
    labels = _below(name, origin)
    return (
        (labels[-2], labels[-3]) if labels is not None and len(labels) >= 3 and labels[-1] == "svc" else None
    )


def explained(
    name: str, rtype: str, origin: str, client: str, now: float, row: Row | None, plans: Mapping[str, Plan]
) -> dict[str, Any]:
    """What is answered, and why, in plain values.

    `row` is that of the service the name speaks of, None where there is none, made of `plans` (by `port_id`);
    `client` is the caller's address, `now` wall-clock time in seconds. ConfigError for what is no name.
    """
    zone = Zone(origin, clock=lambda: now)
    zone.synced = True
    if row is not None:
        zone.put("asked", row)
    folded, qtype = _wire(name), TYPES[rtype]
    told: dict[str, Any] = {"name": f"{name.rstrip('.')}.", "type": rtype, "client": client}
    node = zone.find(folded)
    assert not isinstance(node, Placed), "a single row speaks to callers in one place"
    if node is None:
        outside = not zone.encloses(folded)
        rcode = "REFUSED" if outside else "NXDOMAIN"
        return told | {"rcode": rcode, "why": _absent(name, origin, row), "answers": []}
    records = node.records(qtype, client, now)
    answers = records.answers
    fixed = row is not None and row.exists and row.draw is None
    known = row is not None and bool(row.v4 or row.v6)
    if (
        row is not None
        and fixed
        and (answers or not known)
        and folded == _service(row, zone)
        and qtype in _FAMILY
    ):
        why = (
            f"the clusterset IP of the caller's cluster: spec.ips of ServiceImport {row.namespace}/{row.name}"
        )
        return told | {"rcode": "NOERROR", "why": why, "answers": [_text(qtype, one) for one in answers]}
    told |= {"rcode": "NOERROR" if answers else "NODATA", "why": _why(node, qtype, answers)}
    told["answers"] = [_text(qtype, record) for record in answers]
    pools = _pools(node, qtype)
    if pools:
        told["draw"] = [_draw(pool, client, now) for pool in pools]
        told["endpoints"] = _endpoints(_plan_of(name, origin, plans), _named(qtype, records), qtype)
    return told


def _below(name: str, origin: str) -> list[str] | None:
    """The labels before the origin, folded; None for a name that is not below it."""
    _wire(name)
    labels, above = name.rstrip(".").lower().split("."), origin.rstrip(".").lower().split(".")
    if labels[-len(above) :] != above:
        return None
    return labels[: -len(above)]


def _wire(name: str) -> bytes:
    found = wire.name(name)
    if found is None:
        raise ConfigError(f"{name!r} is not a domain name: say one like checkout.shop.svc.clusterset.local")
    return found


def _service(row: Row, zone: Zone) -> bytes:
    return (wire.name(f"{row.name}.{row.namespace}.svc") or b"\x00")[:-1] + zone.wire


def _absent(name: str, origin: str, row: Row | None) -> str:
    labels = _below(name, origin)
    if labels is None:
        return f"the name is not below {origin}, the only zone that is served"
    if service_of(name, origin) is None:
        return f"names of services are SERVICE.NAMESPACE.svc.{origin}"
    service = f"{labels[-2]}/{labels[-3]}"
    if row is None:
        return f"no cluster exports {service}"
    if not row.exists:
        return "Kubernetes has no ready endpoint anywhere"
    head = labels[:-3]
    if not head:
        return f"{service} has no legal name"
    if head[-1].startswith("_"):
        ports = ", ".join(f"_{port.name}._{port.protocol}" for port in row.ports if port.name)
        return f"{service} has no such named port; it has {ports or 'none that is named'}"
    if not row.headless:
        return f"{service} is not headless: its pods have no names, and no cluster has one"
    pods = [f"{one.host}.{one.cluster}" for one in row.members if one.host]
    shown = ", ".join(pods[:8]) + (", …" if len(pods) > 8 else "")
    return f"no ready pod of {service} has that name; there are {shown or 'none'}"


def _why(node: Node, qtype: int, answers: Collection[bytes]) -> str:
    if not answers:
        if any(pool.shares.size == 0 for pool in _pools(node, qtype)):
            return "no endpoint can serve, though Kubernetes has a ready one"
        return "the name exists, and has no record of this type"
    pools = _pools(node, qtype)
    if not pools:
        return "the same for every caller"
    if all(pool.shares.size == pool.shares.members for pool in pools):
        return "every endpoint with a share: few, and with equal shares"
    return "drawn by the shares, for this caller and this window of time"


def _pools(node: Node, qtype: int) -> list[Pool]:
    """What is drawn from for an answer of that type."""
    if isinstance(node, Drawn):
        return [node.pool] if qtype in _FAMILY else _pools(node.srv, qtype)
    return list(node.pools) if isinstance(node, DrawnTargets) and qtype == wire.SRV else []


def _draw(pool: Pool, client: str, now: float) -> dict[str, Any]:
    """Of how many how many are drawn, for how long, and what else the draw follows from."""
    start = int(now // pool.window) * pool.window
    return {
        "drawn": pool.shares.size,
        "of": pool.shares.members,
        "ttl": pool.ttl,
        "window": [start, start + pool.window],
        "version": pool.version.hex(),
        "client": client,
    }


def _plan_of(name: str, origin: str, plans: Mapping[str, Plan]) -> Plan | None:
    """The plan whose endpoints an answer names: that of the port, else of the service as a whole."""
    labels = _below(name, origin) or []
    for plan in plans.values():
        port = plan.port
        if port is not None and labels[:2] == [f"_{port.name.lower()}", f"_{port.protocol.value.lower()}"]:
            return plans[port_id(port)]
    return plans.get("")


def _endpoints(plan: Plan | None, named: set[str], qtype: int) -> list[dict[str, Any]]:
    """Each endpoint of the plan: its share in percent, whether this answer names it, and why or why not."""
    if plan is None:
        return []
    found: list[dict[str, Any]] = []
    for groups, why in (
        (plan.shares, "not drawn in this window"),
        (plan.standby, "standby: the steps before it take everything"),
        (plan.unhealthy, "its probe, or all canaries of its cluster, say Down"),
        (plan.draining, "draining: old sessions only"),
    ):
        for group in groups:
            found += _group(group, why, named, qtype)
    for left in plan.left_out:
        found.append(
            {
                "endpoint": left.endpoint,
                "cluster": left.cluster,
                "addresses": [],
                "share": 0.0,
                "in": False,
                "why": left.reason,
            }
        )
    return found


def _group(group: PlanGroup, why: str, named: set[str], qtype: int) -> list[dict[str, Any]]:
    share = round(group.basis_points / len(group.backends) / 100, 4)
    family = _FAMILY.get(qtype)
    found = []
    for backend in group.backends:
        addresses = [ipaddress.ip_address(one) for one in backend.addresses]
        inside = any(str(one) in named for one in addresses)
        lacking = family is not None and not any(one.version == family for one in addresses)
        found.append(
            {
                "endpoint": backend.id,
                "cluster": backend.cluster,
                "addresses": list(map(str, addresses)),
                "share": share,
                "in": inside,
                "why": "drawn" if inside else f"it has no IPv{family} address" if lacking else why,
            }
        )
    return found


def _named(qtype: int, records: Records) -> set[str]:
    """The addresses that an answer gives: its own, or those of its targets."""
    data = [record[wire.RR_HEAD :] for record in records.answers if qtype in _FAMILY]
    data += [extra.tail[_TAIL_HEAD:] for extra in records.additional]
    return {str(ipaddress.ip_address(raw)) for raw in data}


def _text(qtype: int, record: bytes) -> str:
    """The data of a record whose owner is a pointer; what points into the message, as RFC 3597 writes it."""
    data = record[wire.RR_HEAD :]
    if qtype in _FAMILY:
        return str(ipaddress.ip_address(data))
    if qtype == wire.SRV and name_end(record, _SRV_DATA) == len(record):
        numbers = (str(int.from_bytes(data[at : at + 2], "big")) for at in (0, 2, 4))
        return " ".join((*numbers, text(record[_SRV_DATA:])))
    if qtype == wire.TXT:
        return f'"{data[1:].decode("ascii", "replace")}"'
    return f"\\# {len(data)} {data.hex()}"
