"""A row in words: what is answered for a service (`isthmus translate --to dns`)."""

from __future__ import annotations

import ipaddress
from typing import Any

from isthmus.dns.row import DrawRow, PortRow, Row


def readable(row: Row, zone: str) -> dict[str, Any]:
    """The names of a service and what they answer; shares of addresses in percent.

    `zone` is that of the clusterset, `clusterset.local` as a rule.
    """
    name = f"{row.name}.{row.namespace}.svc.{zone}."
    if not row.exists:
        return {"name": name, "answer": "NXDOMAIN: Kubernetes has no ready endpoint anywhere"}
    told: dict[str, Any] = {"name": name, "ttl": row.ttl}
    if row.draw is None:
        told["answer"] = "the clusterset IP of the caller's cluster"
        if row.v4 or row.v6:
            told["addresses"] = [str(ipaddress.ip_address(raw)) for raw in (*row.v4, *row.v6)]
    elif not row.draw.groups:
        told["answer"] = "NODATA: no endpoint can serve"
    else:
        told["answer"] = "addresses of endpoints, drawn by their shares"
        told["addresses"] = _drawn(row, row.draw)
    if row.headless and row.members:
        told["pods"] = _pods(row, name)
    if row.ports:
        told["srv"] = {
            f"_{port.name}._{port.protocol}.{name}" if port.name else name: _srv(port, name)
            for port in row.ports
        }
    return told


def _drawn(row: Row, draw: DrawRow) -> list[dict[str, Any]]:
    """Each endpoint of a plan with its addresses and share, in the plan's order."""
    found: list[dict[str, Any]] = []
    for points, count in draw.groups:
        for _ in range(count):
            index = draw.members[len(found)]
            share = round(points / count / 100, 2)
            found.append(
                {"cluster": row.members[index].cluster, "share": share, "addresses": _addresses(row, index)}
            )
    return found


def _addresses(row: Row, index: int) -> list[str]:
    member = row.members[index]
    return [str(ipaddress.ip_address(raw)) for raw in (*member.v4, *member.v6)]


def _pods(row: Row, name: str) -> dict[str, list[str]]:
    """Per-pod names; members of one cluster under one hostname share theirs."""
    found: dict[str, list[str]] = {}
    for index, member in enumerate(row.members):
        if member.host:
            found.setdefault(f"{member.host}.{member.cluster}.{name}", []).extend(_addresses(row, index))
    return found


def _srv(port: PortRow, name: str) -> list[str] | str:
    """Priority, weight, port and target of each record; drawn ones name pods."""
    if port.draw is None:
        return [f"0 {weight} {number} {name}" for number, weight in port.targets]
    numbers = ", ".join(map(str, sorted(set(port.draw.ports))))
    return f"{len(port.draw.members)} pods, drawn by the shares of the port; port {numbers or 'none'}"
