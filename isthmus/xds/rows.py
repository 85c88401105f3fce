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

from isthmus.model.names import ClusterId, ServiceKey, Vantage, is_dns_label

EVERYBODY = "*"
GRPC_CLIENTS = "grpc"
"""Scope of what every gRPC client may see."""
EXPLICIT = "explicit"
"""Name of the listener and of the route configuration of explicit capture."""
PASSTHROUGH = "isthmus-passthrough"
"""Name of the cluster that a captured connection goes to untouched: where its caller meant it to go."""
BLACKHOLE = "isthmus-blackhole"
"""Name of the cluster without endpoints."""
DEFAULT_LISTEN = "127.0.0.1:15001"

MAX_USES = 64

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


class Renderer(StrEnum):
    """Whom resources are rendered for."""

    ENVOY = "envoy"
    GRPC = "grpc"


class Capture(StrEnum):
    """How calls come to an Envoy: sent to it by callers who know it, or redirected by the kernel."""

    EXPLICIT = "explicit"
    TRANSPARENT = "transparent"


class ProxyClass(NamedTuple):
    """Proxies that get the same bytes: where they stand, how they want to be spoken to, where they listen.

    `uses`: the services such a proxy is told of, `namespace/name` or `namespace/*`, sorted; none: all.
    `access_log`: whether it writes a line for each request to its standard output.
    """

    vantage: Vantage
    renderer: str = Renderer.ENVOY.value
    listen: str = DEFAULT_LISTEN
    capture: Capture = Capture.EXPLICIT
    access_log: bool = False
    uses: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.renderer}@{self.vantage}@{self.listen}"
        if self[3:] == (Capture.EXPLICIT, False, ()):
            return text
        return f"{text}@{self.capture.value}@{'log' if self.access_log else ''}@{','.join(self.uses)}"

    @classmethod
    def parse(cls, text: str) -> ProxyClass:
        """The class that was written as `text`. Raises ValueError when it is none."""
        renderer, place, listen, *more = text.split("@")
        cluster, region, zone = place.split("/")
        found = cls(Vantage(region, zone, ClusterId(cluster)), Renderer(renderer).value, listen)
        if more:
            capture, log, uses = more
            found = found._replace(capture=Capture(capture), access_log=log == "log", uses=read_uses(uses))
        if not _PLACE.fullmatch(cluster) or split_listen(listen) is None or str(found) != text:
            raise ValueError(f"{text!r} is no proxy class")
        if (region, zone) != (place_name(region), place_name(zone)):
            raise ValueError(f"{text!r} has an impossible region or zone")
        return found

    def may_use(self, service: ServiceKey) -> bool:
        """Whether proxies of this class are told of a service."""
        return not self.uses or not {f"{service.namespace}/*", str(service)}.isdisjoint(self.uses)


def read_uses(text: str, namespace: str = "") -> tuple[str, ...]:
    """What a pod says it uses: its own namespace, and services named `web`, `shop/web` or `shop/*`.

    Empty (everything) for `*`, and where neither text nor namespace says anything. Raises ValueError.
    """
    if namespace and not is_dns_label(namespace):
        raise ValueError(f"{namespace[:80]!r} is no namespace")
    wanted = {f"{namespace}/*"} if namespace else set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        if word == "*":
            return ()
        space, slash, name = word.rpartition("/")
        space = space if slash else namespace
        if not is_dns_label(space) or (name != "*" and not is_dns_label(name)):
            raise ValueError(f"{word[:80]!r} is neither namespace/name nor namespace/* nor *")
        wanted.add(f"{space}/{name}")
    if len(wanted) > MAX_USES:
        raise ValueError(f"more than {MAX_USES} services are named; name their namespaces (namespace/*)")
    return tuple(
        sorted(use for use in wanted if use.endswith("/*") or f"{use.split('/')[0]}/*" not in wanted)
    )


def scope_of(kind: ResourceType, proxy_class: ProxyClass) -> str:
    """The scope in which proxies of that class find resources of that type."""
    if proxy_class.renderer == Renderer.GRPC:
        return f"{GRPC_CLIENTS}@{proxy_class.vantage}" if kind is ResourceType.EDS else GRPC_CLIENTS
    match kind:
        case ResourceType.CDS:
            return f"uses:{','.join(proxy_class.uses)}" if proxy_class.uses else EVERYBODY
        case ResourceType.EDS:
            return str(proxy_class.vantage)
        case ResourceType.LDS:
            return str(proxy_class)
        case ResourceType.RDS:
            return EVERYBODY if proxy_class.capture is Capture.TRANSPARENT else str(proxy_class)


def ready_row(proxy_class: ProxyClass) -> Row:
    """The row whose presence says that all is rendered for a class; the listener, where it has its own."""
    return Row(ResourceType.LDS, str(proxy_class), EXPLICIT)


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
