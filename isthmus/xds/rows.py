"""Names of rows: what the control process renders and a worker serves, as text keys.

A row is one serialised resource. Its key is `type|scope|name`. The scope says who may see it: `*` all
clients, a vantage those who stand there, a proxy class those of that class. Invariant: a key read back is the
key that was written; text from a proxy never reaches a key unless it fits the pattern of its part.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import NamedTuple

from isthmus.model.names import ClusterId, ServiceKey, Vantage

EVERYBODY = "*"
EXPLICIT = "explicit"
"""Name of the listener and of the route configuration of explicit capture."""
DEFAULT_LISTEN = "127.0.0.1:15001"

_PLACE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class ResourceType(StrEnum):
    """In the order in which they are sent (xDS protocol, eventual consistency considerations)."""

    CDS = "cds"
    EDS = "eds"
    LDS = "lds"
    RDS = "rds"


class Row(NamedTuple):
    """Key of one row of the table `xds`."""

    type: ResourceType
    scope: str
    name: str

    def __str__(self) -> str:
        return f"{self.type.value}|{self.scope}|{self.name}"

    @classmethod
    def parse(cls, text: str) -> Row:
        """The key that was written as `text`. Raises ValueError when it is none."""
        kind, scope, name = text.split("|")
        if not scope or not name:
            raise ValueError(f"row key {text!r} has an empty part")
        return cls(ResourceType(kind), scope, name)


class ProxyClass(NamedTuple):
    """Proxies that get the same bytes: where they stand, how they want to be spoken to, where they listen."""

    vantage: Vantage
    renderer: str = "envoy"
    listen: str = DEFAULT_LISTEN

    def __str__(self) -> str:
        return f"{self.renderer}@{self.vantage}@{self.listen}"

    @classmethod
    def parse(cls, text: str) -> ProxyClass:
        """The class that was written as `text`. Raises ValueError when it is none."""
        renderer, place, listen = text.split("@")
        cluster, region, zone = place.split("/")
        found = cls(Vantage(region, zone, ClusterId(cluster)), renderer, listen)
        if not _PLACE.fullmatch(renderer) or not _PLACE.fullmatch(cluster) or split_listen(listen) is None:
            raise ValueError(f"{text!r} is no proxy class")
        if (region, zone) != (place_name(region), place_name(zone)):
            raise ValueError(f"{text!r} has an impossible region or zone")
        return found


def scope_of(kind: ResourceType, proxy_class: ProxyClass) -> str:
    """The scope in which proxies of that class find resources of that type."""
    match kind:
        case ResourceType.CDS:
            return EVERYBODY
        case ResourceType.EDS:
            return str(proxy_class.vantage)
        case ResourceType.LDS | ResourceType.RDS:
            return str(proxy_class)


def resource_name(service: ServiceKey, port: int) -> str:
    """Name of the cluster and of the load assignment of one service port."""
    return f"{service.name}.{service.namespace}.svc.clusterset.local:{port}"


def place_name(text: str) -> str:
    """A region or zone as a proxy gave it; "" (unknown) for what cannot be one."""
    return text if _PLACE.fullmatch(text) else ""


def split_listen(text: str) -> tuple[str, int] | None:
    """Address and port of `10.0.0.1:15001` or `[::1]:15001`, None for anything else."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or "%" in host:
        return None
    return str(address), int(port)
