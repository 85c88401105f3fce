"""The DNS worker: a process that follows the table `dns` of its control process and answers from it.

Invariant: it answers nothing about a name before it has seen every row once, and goes on answering from the
rows it has when control is gone. A row that cannot be read leaves the service as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import structlog

from isthmus.dns import fastpath, places, row, wire
from isthmus.dns.answer import Responder
from isthmus.dns.forward import Forwarder
from isthmus.dns.front import Front
from isthmus.dns.metrics import Reading
from isthmus.dns.places import ANYWHERE, ZONES_KEY, Places, Zones
from isthmus.dns.querylog import QueryLog
from isthmus.dns.server import Listen, Served, serving
from isthmus.dns.tcp import TcpLimits
from isthmus.dns.upstream import Place
from isthmus.dns.zone import Zone
from isthmus.errors import WireError
from isthmus.flow import pulse
from isthmus.flow.replica import Replica
from isthmus.flow.stats import STATS, Sample, Stats
from isthmus.flow.table import Table
from isthmus.model.names import Vantage

log = structlog.get_logger()

TABLE: Final = "dns"
_ROWS_PER_TURN: Final = 16
_AGE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a worker has to know. `name` is its own, unlike any other worker's of this agent.

    `vantage` is that of its cluster: rows of that vantage are answered from, and those of the cluster's zones
    to callers who stand there. `addresses` are those under which callers reach it (the address records of the
    zone's name server), as literal texts.
    `query_log` is how many queries a second are written to the log, at most. `forward` are servers that are
    asked about other zones, which are refused where there are none.
    """

    name: str
    vantage: Vantage
    listen: tuple[Listen, ...]
    zone: str = "clusterset.local"
    addresses: tuple[str, ...] = ()
    udp_size: int = 1232
    tcp: TcpLimits = field(default_factory=TcpLimits)
    query_log: float = 0.0
    forward: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A worker that serves."""

    zone: Zone
    front: Front
    served: Served

    def samples(self) -> Iterator[Sample]:
        """All its numbers now."""
        gate = self.served.gate
        return Reading(
            numbers=self.front.counts(),
            overflowed=self.served.overflowed,
            connections=len(gate),
            refused=gate.refused,
            names=len(self.zone),
            services=self.zone.services,
            fast=self.front.fast is not None,
            forwarder=self.front.forwarder,
        ).samples()


async def run(options: Options, link: Path) -> None:
    """Serve until cancelled, with the rows that come over the Unix socket `link`.

    Raises ConfigError for a zone that is no name, PlatformError where an address cannot be listened on.
    """
    rows: Table[str, bytes] = Table(TABLE)
    stats = Stats(options.name)
    replica = Replica(link, {TABLE: rows}, {STATS: stats.table}, name=options.name)
    async with asyncio.TaskGroup() as group:

        def listening(standing: Standing) -> None:
            told = pulse.publish(stats, standing.samples, lambda: rows.current and standing.zone.synced)
            group.create_task(told, name="dns-stats")

        group.create_task(replica.run(), name="dns-replica")
        group.create_task(serve(options, rows, listening=listening), name="dns-serve")


async def serve(
    options: Options,
    rows: Table[str, bytes],
    *,
    clock: Callable[[], float] = time.time,
    listening: Callable[[Standing], None] = lambda _standing: None,
) -> None:
    """Serve the rows of a table until cancelled; `listening` is told once the addresses are served."""
    udp_size = min(max(options.udp_size, wire.MIN_UDP_SIZE), wire.MAX_UDP_SIZE)
    forwards = bool(options.forward)
    fast = fastpath.start(udp_size, forwards=forwards)
    with nullcontext() if fast is None else closing(fast):
        standing = Places(direct=forwards)
        zone = Zone(options.zone, addresses=options.addresses, clock=clock, mirror=fast, places=standing)
        responder = Responder(zone, udp_size=udp_size, forwards=forwards)
        forwarder = Forwarder(options.forward, udp_size=udp_size) if forwards else None
        front = Front(responder, fast, QueryLog(options.query_log), forwarder)
        async with serving(front, options.listen, options.tcp, clock) as served:
            listen = [f"{host} {port}" for host, port in served.bound]
            log.info("dns listening", zone=options.zone, listen=listen, fast_path=front.fast is not None)
            listening(Standing(zone=zone, front=front, served=served))
            aging = asyncio.create_task(_age(zone, rows), name="dns-age")
            try:
                await _follow(zone, rows, options.vantage)
            finally:
                aging.cancel()


async def _age(zone: Zone, rows: Table[str, bytes]) -> None:
    """Lets answers say that they are old, while control is away or says that what it knows is old."""
    while True:
        zone.stale = bool(rows.stale) or rows.get(row.STALE_KEY) is not None
        await asyncio.sleep(_AGE_SECONDS)


async def _follow(zone: Zone, rows: Table[str, bytes], vantage: Vantage) -> None:
    async with aclosing(cast("AsyncGenerator[frozenset[str], None]", rows.changes())) as changes:
        async for keys in changes:
            for done, key in enumerate(keys, 1):
                _apply(zone, vantage, key, rows.get(key))
                if done % _ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)
            if not zone.synced:
                zone.synced = True
                log.info("dns synced", services=zone.services, names=len(zone))


def _apply(zone: Zone, vantage: Vantage, key: str, raw: bytes | None) -> None:
    """Lets a row of this cluster say what it says; others are left alone."""
    try:
        if key == ZONES_KEY:
            zone.stand(Zones() if raw is None else places.decode(raw))
            return
        where, told, service = key.partition("|")
        if not told or not where.startswith(f"{vantage.cluster}/"):
            return
        place = ANYWHERE if where == str(vantage) else zone.places.number(where)
        if raw is None:
            zone.drop(service, place)
        else:
            zone.put(service, row.decode(raw), place)
    except WireError as error:
        log.error("dns row refused", key=key, reason=str(error))
    except Exception:  # one service's row must not end the answers of all others
        log.exception("dns row refused", key=key)
