"""An xDS client in memory that behaves as Envoy does on one aggregated stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from isthmus.flow.table import Table
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds import wire
from isthmus.xds.ads import Ads
from isthmus.xds.node import CAPTURE_METADATA, USES_METADATA
from isthmus.xds.rows import EXPLICIT, ProxyClass, ResourceType, Row, scope_of
from isthmus.xds.snapshot import TYPE_URLS, Variant
from isthmus.xds.stream import Stream
from isthmus.xds.wants import Wants

CDS, EDS, LDS, RDS = ResourceType.CDS, ResourceType.EDS, ResourceType.LDS, ResourceType.RDS
KINDS = {url: kind for kind, url in TYPE_URLS.items()}
VANTAGE = Vantage("eu", "a", ClusterId("eu-1"))
CLASS = ProxyClass(VANTAGE)
POISON = b"=9"
"""What the client's values never end with, or it rejects them."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class World:
    """A protocol core with rows that say little: values are names and numbers, not real resources.

    Clients are of one class.
    """

    def __init__(self, proxy_class: ProxyClass = CLASS) -> None:
        self.proxy_class = proxy_class
        self.clock = Clock()
        self.wants: Table[str, bytes] = Table("wants")
        self.ads = Ads(ClusterId("eu-1"), Wants(self.wants.partition("w")), self.clock)
        self.rows: dict[str, bytes] = {}

    @classmethod
    def of(cls, services: Iterable[str]) -> World:
        """With these services, their assignments, and routes to them."""
        world, names = cls(), list(services)
        for name in names:
            world.apply(**{f"cds_{name}": value(name, 0), f"eds_{name}": value(name, 0)})
        world.apply(rds=routes(names), lds=b"listener")
        return world

    def apply(self, **rows: bytes | None) -> None:
        """Takes rows in one batch; see `key`."""
        self.batch({key(name, self.proxy_class): value for name, value in rows.items()})

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

    def connect_delta(self, before: DeltaClient | None = None) -> DeltaClient:
        return DeltaClient(self, before)


def key(name: str, proxy_class: ProxyClass = CLASS) -> str:
    """`cds_a` is cluster a, `eds_a` its assignment, `lds` and `rds` the listener and its routes."""
    kind, _, rest = name.partition("_")
    return str(Row(ResourceType(kind), scope_of(ResourceType(kind), proxy_class), rest or EXPLICIT))


def routes(clusters: Iterable[str]) -> bytes:
    """A route configuration in so far as it names clusters."""
    return b"".join(wire.field(1, name) for name in sorted(clusters))


def chains(clusters: Iterable[str]) -> bytes:
    """A listener of captured connections in so far as it names clusters."""
    return b"".join(wire.field(2, name) for name in sorted(clusters))


class Client:
    """Answers are sent when `process` is called, in the order in which responses came.

    While `held`, what it sends stays on its way: the newest of `transit` of a type may arrive later than what
    is sent of another.
    """

    variant = Variant.SOTW
    response_type: Any = discovery_pb2.DiscoveryResponse
    request_type: Any = discovery_pb2.DiscoveryRequest

    def __init__(self, world: World) -> None:
        self.world = world
        self.inbox: list[Any] = []
        self.received: list[Any] = []
        self.view: dict[ResourceType, dict[str, bytes]] = {kind: {} for kind in ResourceType}
        self.names: dict[ResourceType, frozenset[str]] = {}
        self.nonce = dict.fromkeys(ResourceType, "")
        self.version = dict.fromkeys(ResourceType, "")
        self.sent: dict[ResourceType, list[bytes]] = {kind: [] for kind in ResourceType}
        self.warming: set[str] = set()
        """New and changed clusters that wait for their assignment."""
        self.blamed: set[tuple[ResourceType, str, bytes]] = set()
        """What was rejected alone on this stream."""
        self.told: set[tuple[ResourceType, str, bytes]] = set()
        """Of that, what the server has been told of; before, it may send it a second time."""
        self.room = True
        self.refused = False
        self.held = False
        self.transit: list[tuple[ResourceType, bytes, bool]] = []
        """Type, bytes, and whether it is an answer and nothing else."""
        self._greeted = False
        self.stream: Stream = world.ads.open(self._write, self.variant)

    def _write(self, data: bytes) -> bool:
        response = self.response_type.FromString(data)
        kind = KINDS[response.type_url]
        again = {(kind, name, one) for name, one in contents(response).items()} & self.told & self.blamed
        assert not again, "what was rejected alone is sent again"
        self.inbox.append(response)
        self.received.append(response)
        return self.room

    def start(self) -> None:
        """What Envoy asks for first."""
        self.subscribe(CDS, frozenset())
        self.subscribe(LDS, frozenset())

    def started(self) -> Self:
        """Has all that Envoy asks for, and has forgotten how it came."""
        self.start()
        self.settle()
        self.received.clear()
        return self

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
        self._send(kind, request, error, nonce is None and bool(self.nonce[kind]))

    def _send(self, kind: ResourceType, request: Any, error: str | None, answer: bool) -> None:
        if not self._greeted:
            request.node.CopyFrom(node())
            request.node.metadata.update(told(self.world.proxy_class))
            self._greeted, answer = True, False
        if error is not None:
            request.error_detail.code = 3
            request.error_detail.message = error
        data = request.SerializeToString()
        self.sent[kind].append(data)
        if self.held:
            self.transit.append((kind, data, answer))
        else:
            self._arrives(kind, data)

    def _arrives(self, kind: ResourceType, data: bytes) -> None:
        """A request reaches the server, which hears of a rejection where that answers its newest response."""
        request = self.request_type.FromString(data)
        known = self.stream.subscriptions.get(kind)
        if request.HasField("error_detail") and known and request.response_nonce == known.nonce:
            self.told |= {item for item in self.blamed if item[0] is kind}
        self.stream.request(data)

    def arrive(self, kind: ResourceType | None = None) -> None:
        """What is on its way arrives: all of it, or the oldest request of a type."""
        for item in list(self.transit):
            if kind is None or item[0] is kind:
                self.transit.remove(item)
                self._arrives(item[0], item[1])
                if kind is not None:
                    return

    def process(self, accept: bool = True, error: str = "will not do") -> ResourceType:
        """Takes the oldest response and answers it."""
        response = self.inbox.pop(0)
        kind = KINDS[response.type_url]
        self.nonce[kind] = response.nonce
        if not accept:
            self.refused = True
            # Of a resource the version that was rejected last is held back: an older one may come again.
            self.forgive(kind, self.news(kind, response))
            self.send(kind, error=error)
            return kind
        poisoned = sorted(name for name, one in contents(response).items() if one.endswith(POISON))
        if poisoned:
            news = self.news(kind, response)
            if len(news) == 1:
                self.blamed |= {(kind, name, one) for name, one in news.items()}
            self.send(kind, error=f"cannot take {poisoned[0]}: it is bad")
            return kind
        self._accept(kind, response)
        return kind

    def _accept(self, kind: ResourceType, response: Any) -> None:
        self.version[kind] = response.version_info
        content = contents(response)
        self.forgive(kind, content)
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
        self.follow(kind)

    def news(self, kind: ResourceType, response: Any) -> dict[str, bytes]:
        """What a response holds beside what was accepted."""
        content = contents(response)
        if self.variant is Variant.DELTA or kind not in (CDS, LDS):
            return content
        return {name: one for name, one in content.items() if self.view[kind].get(name) != one}

    def forgive(self, kind: ResourceType, names: Iterable[str]) -> None:
        """These may come as they were rejected, some day: something else was accepted, or they were left."""
        held = set(names)
        self.blamed = {item for item in self.blamed if item[0] is not kind or item[1] not in held}
        self.told &= self.blamed

    def follow(self, kind: ResourceType) -> None:
        """Asks for what new clusters and listeners need."""
        if kind is CDS:
            self._follow(EDS, frozenset(self.view[CDS]))
        if kind is LDS:
            self._follow(RDS, frozenset({EXPLICIT}) if self.view[LDS] else frozenset())

    def _follow(self, kind: ResourceType, names: frozenset[str]) -> None:
        if names != self.names.get(kind, frozenset()):
            self.view[kind] = {name: value for name, value in self.view[kind].items() if name in names}
            self.forgive(kind, self.names.get(kind, frozenset()) - names)
            self.subscribe(kind, names)

    def settle(self) -> None:
        """Accepts everything until nothing comes any more."""
        self.held = False
        self.arrive()
        for _ in range(1000):
            if not self.inbox:
                return
            self.process()
        raise AssertionError("the server never stops sending")


class DeltaClient(Client):
    """The incremental variant; `view` and versions may come from an earlier stream."""

    variant = Variant.DELTA
    response_type = discovery_pb2.DeltaDiscoveryResponse
    request_type = discovery_pb2.DeltaDiscoveryRequest

    def __init__(self, world: World, before: DeltaClient | None = None) -> None:
        super().__init__(world)
        self.versions: dict[ResourceType, dict[str, str]] = {kind: {} for kind in ResourceType}
        if before is not None:
            self.view = {kind: dict(held) for kind, held in before.view.items()}
            self.versions = {kind: dict(held) for kind, held in before.versions.items()}

    def start(self) -> None:
        for kind in (CDS, EDS, LDS, RDS):
            names = frozenset() if kind in (CDS, LDS) else frozenset(self.view[kind])
            if kind is EDS:
                names = frozenset(self.view[CDS])
            if kind in (CDS, LDS) or names:
                self.names[kind] = names
                self.send_delta(kind, names, versions=self.versions[kind])

    def send(self, kind: ResourceType, error: str | None = None, nonce: str | None = None) -> None:
        self.send_delta(kind, error=error, nonce=self.nonce[kind] if nonce is None else nonce)

    def send_delta(
        self,
        kind: ResourceType,
        add: Iterable[str] = (),
        leave: Iterable[str] = (),
        *,
        versions: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> None:
        add, leave = sorted(add), sorted(leave)
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=TYPE_URLS[kind],
            resource_names_subscribe=add,
            resource_names_unsubscribe=leave,
            initial_resource_versions=versions or {},
            response_nonce=nonce,
        )
        self._send(kind, request, error, bool(nonce) and not add and not leave)

    def subscribe(self, kind: ResourceType, names: frozenset[str]) -> None:
        old = self.names.get(kind, frozenset())
        self.names[kind] = names
        self.send_delta(kind, names - old, old - names)

    def _accept(self, kind: ResourceType, response: Any) -> None:
        content = contents(response)
        self.forgive(kind, content)
        if kind is CDS:
            self.warming |= {name for name in content if content[name] != self.view[CDS].get(name)}
            self.warming -= set(response.removed_resources)
        if kind is EDS:
            self.warming -= content.keys()
        self.view[kind] |= content
        self.versions[kind] |= {resource.name: resource.version for resource in response.resources}
        for name in response.removed_resources:
            self.view[kind].pop(name, None)
            self.versions[kind].pop(name, None)
        self.send(kind)
        self.follow(kind)

    def _follow(self, kind: ResourceType, names: frozenset[str]) -> None:
        for name in self.names.get(kind, frozenset()) - names:
            self.versions[kind].pop(name, None)
        super()._follow(kind, names)


def running(*services: str) -> tuple[World, Client]:
    """A world with these services, and a client that has all of it."""
    world = World.of(services)
    return world, world.connect().started()


def running_delta(*services: str) -> tuple[World, DeltaClient]:
    """The same with the incremental variant."""
    world = World.of(services)
    return world, world.connect_delta().started()


def node(region: str = "eu", zone: str = "a", listen: str = "") -> base_pb2.Node:
    found = base_pb2.Node(id="sidecar-1", cluster="whatever")
    found.locality.region, found.locality.zone = region, zone
    if listen:
        found.metadata["isthmus.dev/listen"] = listen
    return found


def told(proxy_class: ProxyClass) -> dict[str, str]:
    """What the bootstrap of such a proxy says of it."""
    found = {CAPTURE_METADATA: proxy_class.capture.value, USES_METADATA: ",".join(proxy_class.uses)}
    return {name: text for name, text in found.items() if text}


def contents(response: Any) -> dict[str, bytes]:
    """Resources by name; the tests' values start with their own name."""
    found = {}
    for one in response.resources:
        resource = one.resource if isinstance(response, discovery_pb2.DeltaDiscoveryResponse) else one
        name = resource.value.partition(b"=")[0].decode() if b"=" in resource.value else EXPLICIT
        assert name not in found, "a resource twice in one response"
        found[name] = resource.value
    return found


def value(name: str, number: int) -> bytes:
    return f"{name}={number}".encode()
