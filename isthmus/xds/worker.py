"""The xDS worker: a process that follows the table `xds` of its control process and serves it over ADS.

Invariant: it sends nothing before it has seen every row once, and goes on serving the rows it has when
control is gone. What control should render it says in the table `wants`.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import structlog

from isthmus.flow import pulse
from isthmus.flow.replica import Replica
from isthmus.flow.stats import STATS, Stats
from isthmus.flow.table import Table
from isthmus.model.names import ClusterId
from isthmus.tls import Certificates, Files
from isthmus.xds import metrics, proxies
from isthmus.xds.ads import Ads
from isthmus.xds.names import NameSets
from isthmus.xds.server import Limits, Security, serving
from isthmus.xds.wants import Wants

log = structlog.get_logger()

TABLE: Final = "xds"
WANTS: Final = "wants"
TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a worker has to know. `name` is its own, unlike any other worker's of this agent.

    `cluster` is the one this agent serves: every proxy that connects stands there. `listen` is `host:port`,
    served in plain text without `tls`; `trust_domain` is that of clients' SPIFFE identities, empty: any.
    """

    name: str
    cluster: ClusterId
    listen: str
    limits: Limits = field(default_factory=Limits)
    tls: Files | None = None
    trust_domain: str = ""


async def run(options: Options, link: Path) -> None:
    """Serves until cancelled, with the rows that come over the Unix socket `link`.

    Raises PlatformError where the address cannot be listened on, ConfigError for certificates of no use.
    """
    many_connections()
    rows: Table[str, bytes] = Table(TABLE)
    wants: Table[str, bytes] = Table(WANTS)
    looks: Table[str, bytes] = Table(proxies.LOOKS)
    told: Table[str, bytes] = Table(proxies.PROXIES)
    stats = Stats(options.name)
    published = {WANTS: wants, STATS: stats.table, proxies.PROXIES: told}
    replica = Replica(link, {TABLE: rows, proxies.LOOKS: looks}, published, name=options.name)
    async with asyncio.TaskGroup() as group:

        def listening(_address: str, ads: Ads) -> None:
            gc.freeze()  # what was imported is no garbage: not to be looked through while a fleet comes
            counting = pulse.publish(
                stats, lambda: metrics.samples(ads, len(rows)), lambda: rows.current and ads.snapshot.synced
            )
            group.create_task(counting, name="xds-stats")
            answering = proxies.Looks(ads, looks, told.partition(options.name))
            group.create_task(answering.run(), name="xds-looks")

        group.create_task(replica.run(), name="xds-replica")
        group.create_task(serve(options, rows, wants, listening=listening), name="xds-serve")


async def serve(
    options: Options,
    rows: Table[str, bytes],
    wants: Table[str, bytes],
    *,
    clock: Callable[[], float] = time.monotonic,
    listening: Callable[[str, Ads], None] = lambda _address, _ads: None,
) -> None:
    """Serves the rows of a table until cancelled, and keeps `wants`.

    `listening` is told the address once it is served, and the state behind it.
    """
    wanted = wants.partition(options.name)
    limits = options.limits
    ads = Ads(options.cluster, Wants(wanted), clock, NameSets(limits.names, limits.all_names))
    try:
        security = None
        if options.tls is not None:
            security = Security(certificates=Certificates(options.tls), trust_domain=options.trust_domain)
        async with serving(ads, options.listen, limits, security) as address:
            log.info("xds listening", listen=address, tls=options.tls is not None)
            listening(address, ads)
            async with asyncio.TaskGroup() as group:
                group.create_task(_follow(ads, rows), name="xds-rows")
                group.create_task(_tick(ads), name="xds-tick")
    finally:
        wanted.retire()


def many_connections() -> None:
    """Lets this process have as many as it may: a connection is a file, and the usual limit is 1,024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _follow(ads: Ads, rows: Table[str, bytes]) -> None:
    async with aclosing(cast("AsyncGenerator[frozenset[str], None]", rows.changes())) as changes:
        async for keys in changes:
            ads.apply((key, rows.get(key)) for key in keys)
            del keys  # they may be many, and it may be long until the next


async def _tick(ads: Ads) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        ads.tick()
