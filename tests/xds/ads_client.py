"""An xDS client in memory that behaves as Envoy does on one aggregated stream."""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.flow.table import Table
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds import wire
from isthmus.xds.ads import Ads, Stream
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ProxyClass, ResourceType, Row
from isthmus.xds.snapshot import TYPE_URLS
from isthmus.xds.wants import Wants

CDS, EDS, LDS, RDS = ResourceType.CDS, ResourceType.EDS, ResourceType.LDS, ResourceType.RDS
KINDS = {url: kind for kind, url in TYPE_URLS.items()}
VANTAGE = Vantage("eu", "a", ClusterId("eu-1"))
CLASS = ProxyClass(VANTAGE)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    """A protocol core with rows that say little: values are names and numbers, not real resources."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.wants: Table[str, bytes] = Table("wants")
        self.ads = Ads(ClusterId("eu-1"), Wants(self.wants.partition("w")), self.clock)
        self.rows: dict[str, bytes] = {}

    def apply(self, **rows: bytes | None) -> None:
        """Takes rows in one batch; see `key`."""
        self.batch({key(name): value for name, value in rows.items()})

    def batch(self, rows: dict[str, bytes | None]) -> None:
        for name, value in rows.items():
            if value is None:
                self.rows.pop(name, None)
            else:
                self.rows[name] = value
        self.ads.apply(rows.items())

    def held(self, kind: ResourceType) -> dict[str, bytes]:
        """What there is of a type, by name."""
        parsed = ((Row.parse(text), value) for text, value in self.rows.items())
        return {row.name: value for row, value in parsed if row.type is kind}

    def connect(self) -> Client:
        return Client(self)


def key(name: str) -> str:
    """`cds_a` is cluster a, `eds_a` its assignment, `lds` and `rds` the explicit listener and routes."""
    kind, _, rest = name.partition("_")
    scope = {"cds": EVERYBODY, "eds": str(VANTAGE)}.get(kind, str(CLASS))
    return str(Row(ResourceType(kind), scope, rest or EXPLICIT))


def routes(clusters: Iterable[str]) -> bytes:
    """A route configuration in so far as it names clusters."""
    return b"".join(wire.field(1, name) for name in sorted(clusters))


class Client:
    """Answers are sent when `process` is called, in the order in which responses came."""

    def __init__(self, world: World) -> None:
        self.inbox: list[discovery_pb2.DiscoveryResponse] = []
        self.received: list[discovery_pb2.DiscoveryResponse] = []
        self.view: dict[ResourceType, dict[str, bytes]] = {kind: {} for kind in ResourceType}
        self.names: dict[ResourceType, frozenset[str]] = {}
        self.nonce = dict.fromkeys(ResourceType, "")
        self.version = dict.fromkeys(ResourceType, "")
        self.sent: dict[ResourceType, list[bytes]] = {kind: [] for kind in ResourceType}
        self.warming: set[str] = set()
        """New and changed clusters that wait for their assignment."""
        self.room = True
        self.refused = False
        self._greeted = False
        self.stream: Stream = world.ads.open(self._write)

    def _write(self, data: bytes) -> bool:
        response = discovery_pb2.DiscoveryResponse.FromString(data)
        self.inbox.append(response)
        self.received.append(response)
        return self.room

    def start(self) -> None:
        """What Envoy asks for first."""
        self.subscribe(CDS, frozenset())
        self.subscribe(LDS, frozenset())

    def subscribe(self, kind: ResourceType, names: frozenset[str]) -> None:
        self.names[kind] = names
        self.send(kind)

    def send(self, kind: ResourceType, error: str | None = None, nonce: str | None = None) -> None:
        request = discovery_pb2.DiscoveryRequest(
            version_info=self.version[kind],
            resource_names=sorted(self.names[kind]),
            type_url=TYPE_URLS[kind],
            response_nonce=self.nonce[kind] if nonce is None else nonce,
        )
        if not self._greeted:
            request.node.CopyFrom(node())
            self._greeted = True
        if error is not None:
            request.error_detail.code = 3
            request.error_detail.message = error
        data = request.SerializeToString()
        self.sent[kind].append(data)
        self.stream.request(data)

    def process(self, accept: bool = True) -> ResourceType:
        """Takes the oldest response and answers it."""
        response = self.inbox.pop(0)
        kind = KINDS[response.type_url]
        self.nonce[kind] = response.nonce
        if not accept:
            self.refused = True
            self.send(kind, error="will not do")
            return kind
        self.version[kind] = response.version_info
        content = contents(response)
        if kind is CDS:
            old = self.view[CDS]
            self.warming = (self.warming & content.keys()) | {n for n in content if content[n] != old.get(n)}
        if kind is EDS:
            self.warming -= content.keys()
        if kind in (CDS, LDS):
            self.view[kind] = content
        else:
            self.view[kind] |= content
        self.send(kind)
        if kind is CDS:
            self._follow(EDS, frozenset(content))
        if kind is LDS:
            self._follow(RDS, frozenset({EXPLICIT}) if content else frozenset())
        return kind

    def _follow(self, kind: ResourceType, names: frozenset[str]) -> None:
        if names != self.names.get(kind, frozenset()):
            self.view[kind] = {name: value for name, value in self.view[kind].items() if name in names}
            self.subscribe(kind, names)

    def settle(self) -> None:
        """Accepts everything until nothing comes any more."""
        for _ in range(1000):
            if not self.inbox:
                return
            self.process()
        raise AssertionError("the server never stops sending")


def node(region: str = "eu", zone: str = "a", listen: str = "") -> base_pb2.Node:
    found = base_pb2.Node(id="sidecar-1", cluster="whatever")
    found.locality.region, found.locality.zone = region, zone
    if listen:
        found.metadata["isthmus.dev/listen"] = listen
    return found


def contents(response: discovery_pb2.DiscoveryResponse) -> dict[str, bytes]:
    """Resources by name; the tests' values start with their own name."""
    found = {}
    for resource in response.resources:
        name = resource.value.partition(b"=")[0].decode() if b"=" in resource.value else EXPLICIT
        assert name not in found, "a resource twice in one response"
        found[name] = resource.value
    return found


def value(name: str, number: int) -> bytes:
    return f"{name}={number}".encode()
