"""The zone as a table of names, kept up to date row by row.

Invariant: every name above one that exists exists too, with no records where nothing stands there (an empty
non-terminal, RFC 8020); a name is in the table under its folded wire form. No name `<clusterid>.<service>`
ever has a record (multi-cluster DNS 1.0.0); a cluster id is one label or two.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple, Protocol

from isthmus.dns import wire
from isthmus.dns.compiled import compiled
from isthmus.dns.node import (
    EMPTY,
    SRV_TARGET,
    Drawn,
    DrawnTargets,
    Fixed,
    NamedTargets,
    Node,
    Placed,
    Pod,
    Pool,
    Records,
    courtesies,
)
from isthmus.dns.places import ANYWHERE, Places, Range, Zones
from isthmus.dns.row import Member, PortRow, Row
from isthmus.errors import ConfigError

SCHEMA_VERSION: Final = "1.0.0"
SCHEMA_TTL: Final = 28_800
NEGATIVE_TTL: Final = 5
_LONGEST_CLUSTER_ID: Final = 2


class Mirror(Protocol):
    """Who answers from copies of the names; `fastpath.FastPath` does."""

    def put(self, name: bytes, node: bytes) -> None: ...

    def drop(self, name: bytes) -> None: ...

    def zone(self, name: bytes, serial: int, negative_ttl: int, *, ready: bool, stale: bool) -> None: ...

    def places(self, askers: Sequence[Range]) -> None: ...


class _Held(NamedTuple):
    """What there is of one service: its names, the wire name of its namespace ("" where that is not legal).

    `by_place` only where callers in some zones have a row of their own: the names of each row.
    """

    names: tuple[bytes, ...]
    namespace: bytes
    by_place: Mapping[int, Mapping[bytes, Node]] | None = None


class Zone:
    """All names under `origin`, e.g. `clusterset.local`.

    `addresses` are where this server can be reached (the address records of the zone's name server); `clock`
    is wall-clock time, from which the SOA serial is made; `mirror` is told all that
    the zone holds; `places` knows where callers stand. Raises ConfigError for an origin that is no name.
    """

    def __init__(
        self,
        origin: str,
        *,
        addresses: Sequence[str] = (),
        clock: Callable[[], float],
        mirror: Mirror | None = None,
        places: Places | None = None,
    ) -> None:
        found = wire.name(origin)
        if found is None or found == b"\x00":
            raise ConfigError(f"DNS zone {origin!r} is not a domain name")
        self.wire = found
        self.serial = int(clock())
        self._synced = False
        self._stale = False
        self._mirror = mirror
        self._clock = clock
        self.places = Places() if places is None else places
        self._names: dict[bytes, Node | Placed] = {}
        self._held: dict[str, _Held] = {}
        self._namespaces: dict[bytes, int] = {}
        self._put_own(addresses)
        self._tell()

    @property
    def synced(self) -> bool:
        """False until all rows were seen once; until then nothing can be said about any name."""
        return self._synced

    @synced.setter
    def synced(self, synced: bool) -> None:
        self._synced = synced
        self._tell()

    @property
    def stale(self) -> bool:
        """True while nobody can say whether the rows are still right; answers say so (RFC 8914)."""
        return self._stale

    @stale.setter
    def stale(self, stale: bool) -> None:
        if stale != self._stale:
            self._stale = stale
            self._tell()

    def __len__(self) -> int:
        return len(self._names)

    @property
    def services(self) -> int:
        """How many services have a row."""
        return len(self._held)

    def find(self, folded: bytes) -> Node | Placed | None:
        """What stands at a name, None where the name does not exist."""
        return self._names.get(folded)

    def encloses(self, folded: bytes) -> bool:
        """Whether a well-formed name is the origin or below it, label by label."""
        start = len(folded) - len(self.wire)
        if start < 0 or not folded.endswith(self.wire):
            return False
        at = 0
        while at < start:
            at += 1 + folded[at]
        return at == start

    def put(self, key: str, row: Row, place: int = ANYWHERE) -> None:
        """Sets the names of one service to what its row says, for callers in one place.

        What a row says of a zone counts once there is one for all others.
        """
        namespace, names = self._compile(row)
        held = self._held.get(key)
        if held is not None and held.namespace != namespace:
            self._let_go(key)
            held = None
        if place == ANYWHERE and (held is None or held.by_place is None):
            self._hold(key, namespace, {ANYWHERE: names})
        else:
            self._hold(key, namespace, self._by_place(held) | {place: names})

    def drop(self, key: str, place: int = ANYWHERE) -> None:
        """Removes what a row has said, and the names of a service with its last row."""
        held = self._held.get(key)
        if held is None:
            return
        left = {other: names for other, names in self._by_place(held).items() if other != place}
        if left:
            self._hold(key, held.namespace, left)
        else:
            self._let_go(key)

    def _by_place(self, held: _Held | None) -> dict[int, Mapping[bytes, Node]]:
        """The names of each row of a service."""
        if held is None:
            return {}
        if held.by_place is not None:
            return dict(held.by_place)
        found = ((name, self._names[name]) for name in held.names)
        return {ANYWHERE: {name: node for name, node in found if not isinstance(node, Placed)}}

    def _hold(self, key: str, namespace: bytes, by_place: Mapping[int, Mapping[bytes, Node]]) -> None:
        names = _together(by_place)
        self._set(names)
        before = self._held.get(key)
        for gone in () if before is None else before.names:
            if gone not in names:
                self._remove(gone)
        if before is None and namespace:
            self._namespaces[namespace] = self._namespaces.get(namespace, 0) + 1
            self._set({namespace: EMPTY, b"\x03svc" + self.wire: EMPTY})
        alone = by_place.keys() == {ANYWHERE}
        self._held[key] = _Held(tuple(names), namespace, None if alone else by_place)
        self._touch()

    def _let_go(self, key: str) -> None:
        """Removes all names of one service, and its namespace's with the last service in it."""
        names, namespace, _ = self._held.pop(key)
        for gone in names:
            self._remove(gone)
        if namespace:
            self._namespaces[namespace] -= 1
            if not self._namespaces[namespace]:
                del self._namespaces[namespace]
                self._remove(namespace)
            if not self._namespaces:
                self._remove(b"\x03svc" + self.wire)
        self._touch()

    def stand(self, zones: Zones) -> None:
        """Sets where callers stand."""
        self.places.set(zones)
        if self._mirror is not None:
            self._mirror.places(self.places.askers)

    def _set(self, names: Mapping[bytes, Node | Placed]) -> None:
        """Sets names, all or none: whatever cannot be said in DNS raises before anything has changed."""
        nodes = {} if self._mirror is None else {name: compiled(names[name], len(name)) for name in names}
        self._names.update(names)
        if self._mirror is not None:
            for name, node in nodes.items():
                self._mirror.put(name, node)

    def _remove(self, name: bytes) -> None:
        del self._names[name]
        if self._mirror is not None:
            self._mirror.drop(name)

    def _touch(self) -> None:
        self.serial = max(self.serial + 1, int(self._clock()))
        self._tell()

    def _tell(self) -> None:
        if self._mirror is not None:
            self._mirror.zone(self.wire, self.serial, NEGATIVE_TTL, ready=self._synced, stale=self._stale)

    def _put_own(self, addresses: Sequence[str]) -> None:
        server = b"\x02ns\x03dns" + self.wire
        packed = [ipaddress.ip_address(text).packed for text in addresses]
        own = Member(
            "ns", "", tuple(a for a in packed if len(a) == 4), tuple(a for a in packed if len(a) == 16)
        )
        to_server = wire.rr(wire.NS, NEGATIVE_TTL, b"\x02ns\x03dns" + wire.QNAME)
        version = wire.rr(wire.TXT, SCHEMA_TTL, wire.text_data(SCHEMA_VERSION))
        self._set(
            {
                self.wire: _Apex(self, Records((to_server,), courtesies(own, NEGATIVE_TTL, 0, wire.RR_HEAD))),
                b"\x03dns" + self.wire: EMPTY,
                server: Pod(own, NEGATIVE_TTL),
                b"\x0bdns-version" + self.wire: Fixed({wire.TXT: Records((version,))}),
            }
        )

    def _compile(self, row: Row) -> tuple[bytes, dict[bytes, Node]]:
        """The wire name of the row's namespace ("" where it is not legal) and all names of the service."""
        namespace, service = wire.label(row.namespace), wire.label(row.name)
        if namespace is None or service is None:
            return b"", {}
        above = namespace + b"\x03svc" + self.wire
        name = service + above
        names: dict[bytes, Node] = {}
        if row.exists and len(name) <= wire.MAX_NAME:
            _put_service(names, name, row)
        return above, names


class _Apex:
    """The origin itself: the SOA record, whose serial moves, and the name server."""

    __slots__ = ("_ns", "_zone")

    def __init__(self, zone: Zone, ns: Records) -> None:
        self._zone = zone
        self._ns = ns

    def records(self, qtype: int, client: str, now: float) -> Records:
        if qtype == wire.SOA:
            return Records((wire.soa(wire.QNAME, self._zone.serial, NEGATIVE_TTL, NEGATIVE_TTL),))
        return self._ns if qtype == wire.NS else Records(())


def _together(by_place: Mapping[int, Mapping[bytes, Node]]) -> Mapping[bytes, Node | Placed]:
    """The names of a service's rows; a name that is the same object in all of them stands there itself."""
    default = by_place.get(ANYWHERE)
    if default is None or len(by_place) == 1:
        return default or {}
    zones = {place: names for place, names in by_place.items() if place != ANYWHERE}
    found: dict[bytes, Node | Placed] = {}
    for name in dict.fromkeys(chain(*by_place.values())):
        node = default.get(name)
        others = {place: names.get(name) for place, names in zones.items()}
        alike = node is not None and all(other is node for other in others.values())
        found[name] = node if node is not None and alike else Placed(node, others)
    return found


def _put_service(names: dict[bytes, Node], name: bytes, row: Row) -> None:
    if row.draw is None:
        _put_fixed(names, name, row)
        return
    service = Drawn(Pool(row.draw, row.ttl), row.members)
    if not row.headless:
        every = NamedTargets(_srv_records(_union(row.ports), row.ttl, name), service)
        names[name] = service.with_srv(every)
        for port in row.ports:
            records = _srv_records(port.targets, row.ttl, name)
            _put_port(names, name, port, NamedTargets(records, service))
        return
    pods = _put_pods(names, name, row)
    pools = [Pool(port.draw, row.ttl) for port in row.ports if port.draw is not None]
    names[name] = service.with_srv(DrawnTargets(pools, row.members, pods))
    for port in row.ports:
        if port.draw is not None:
            pool = Pool(port.draw, row.ttl)
            _put_port(names, name, port, DrawnTargets((pool,), row.members, pods))


def _put_fixed(names: dict[bytes, Node], name: bytes, row: Row) -> None:
    """A service that answers with its clusterset IPs."""
    own = Member("", "", row.v4, row.v6)
    srv = Records(_srv_records(_union(row.ports), row.ttl, name), courtesies(own, row.ttl, 0, SRV_TARGET))
    names[name] = Fixed({**dict(Pod(own, row.ttl).types()), wire.SRV: srv})
    for port in row.ports:
        records = _srv_records(port.targets, row.ttl, name)
        _put_port(names, name, port, Fixed({wire.SRV: Records(records, srv.additional)}))


def _union(ports: Sequence[PortRow]) -> tuple[tuple[int, int], ...]:
    """The targets of all ports, each port number once (TCP/53 and UDP/53 are one SRV record)."""
    found: dict[int, int] = {}
    for port in ports:
        for number, weight in port.targets:
            found[number] = max(weight, found.get(number, 0))
    return tuple(found.items())


def _srv_records(targets: Sequence[tuple[int, int]], ttl: int, name: bytes) -> tuple[bytes, ...]:
    return tuple(wire.rr(wire.SRV, ttl, wire.srv_data(weight, port, name)) for port, weight in targets)


def _put_port(names: dict[bytes, Node], name: bytes, port: PortRow, node: Node) -> None:
    """`_port._protocol.<service>`; a port without a name has none (and is found at the service's name)."""
    above = wire.label(f"_{port.protocol}")
    own = wire.label(f"_{port.name}") if port.name else None
    if above is None or own is None or len(own) + len(above) + len(name) > wire.MAX_NAME:
        return
    names.setdefault(above + name, EMPTY)
    names[own + above + name] = node


def _put_pods(names: dict[bytes, Node], name: bytes, row: Row) -> list[bytes]:
    """`<hostname>.<clusterid>.<service>` for every member; the names in the order of the members.

    Several members of one cluster under one hostname are one name with all their addresses. A name that would
    not be legal is left out ("").
    """
    pods: list[bytes] = []
    together: dict[bytes, Member] = {}
    for member in row.members:
        pod = b""
        parts = [wire.label(member.host), *(wire.label(part) for part in member.cluster.split("."))]
        legal = [part for part in parts if part is not None]
        if len(legal) == len(parts) <= 1 + _LONGEST_CLUSTER_ID:
            pod = b"".join(legal) + name
        pods.append(pod if len(pod) <= wire.MAX_NAME else b"")
        if not pods[-1]:
            continue
        same = together.get(pod)
        if same is not None:
            member = Member(same.host, same.cluster, same.v4 + member.v4, same.v6 + member.v6)
        together[pod] = member
        for cut in range(1, len(legal)):
            names.setdefault(b"".join(legal[cut:]) + name, EMPTY)
    for pod, member in together.items():
        names[pod] = Pod(member, row.ttl)
    return pods
