"""The address families of this cluster, by the word of its API server.

Services and nodes show only what is used already. A Service that is created for show (a dry run) and asks for
every family there is comes back with those that the cluster has, the first one first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

import structlog

from isthmus.api import core, kinds
from isthmus.errors import ConfigError, Invalid, KubeError, Throttled, Unreachable
from isthmus.flow import Writer
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import Client
from isthmus.model.service import AddressFamily

SOON_SECONDS: Final = 2.0
LATER_SECONDS: Final = 600.0
"""A cluster gets a second family when its API server is restarted, once in its life."""
PATIENCE: Final = 4
"""So many refusals in a row and nobody waits for the answer any more: a server that has just started does not
know its own roles yet. It is asked on."""

_BACKOFF: Final = Backoff(first=SOON_SECONDS, longest=60.0)
_PROBE: Final = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "default", "generateName": "isthmus-families-"},
    "spec": {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]},
}

log = structlog.get_logger()


async def follow(
    client: Client,
    writer: Writer[str, tuple[AddressFamily, ...]],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Keeps the row "" of a table true until cancelled; no row where the server does not say.

    What it said once stays while it fails to say it again.
    """
    rng = Random()
    failures = refusals = 0
    while True:
        try:
            told = families_of(await client.create(kinds.SERVICE, _PROBE, dry_run=True))
        except (KubeError, ConfigError) as error:
            if not failures:
                log.warning("address families not told", error=str(error))
            refusals += not isinstance(error, Unreachable | Throttled)
            final = isinstance(error, Invalid)  # the probe itself is not wanted here
            if final or refusals >= PATIENCE:
                writer.complete()
            asked = error.retry_after if isinstance(error, KubeError) else None
            await sleep(LATER_SECONDS if final else _BACKOFF.delay(failures, rng.random(), asked))
            failures += 1
        else:
            writer.replace({"": told} if told else {})
            failures = refusals = 0
            await sleep(LATER_SECONDS)


def families_of(service: core.Service) -> tuple[AddressFamily, ...]:
    """The families that a Service was given."""
    return tuple(AddressFamily(family) for family in service.spec.ip_families if family in ("IPv4", "IPv6"))
