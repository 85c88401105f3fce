"""The address families of this cluster, by the word of its API server.

Services and nodes show only what is used already. A Service that is created for show (a dry run) and asks for
every family there is comes back with those that the cluster has, the first one first.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from isthmus.api import core, kinds
from isthmus.errors import KubeError, Throttled, Unreachable
from isthmus.flow import Writer
from isthmus.kube.client import Client
from isthmus.model.service import AddressFamily

SOON_SECONDS: Final = 2.0
LATER_SECONDS: Final = 600.0
"""A cluster gets a second family when its API server is restarted, once in its life."""

_PROBE: Final = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "default", "generateName": "isthmus-families-"},
    "spec": {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]},
}

log = structlog.get_logger()


async def follow(client: Client, writer: Writer[str, tuple[AddressFamily, ...]]) -> None:
    """Keeps the row "" of a table true until cancelled; no row where the server does not say."""
    while True:
        try:
            told = families_of(await client.create(kinds.SERVICE, _PROBE, dry_run=True))
        except (Unreachable, Throttled):
            await asyncio.sleep(SOON_SECONDS)
            continue
        except KubeError as error:
            log.warning("address families not told", error=str(error))
            told = ()
        writer.replace({"": told} if told else {})
        await asyncio.sleep(LATER_SECONDS)


def families_of(service: core.Service) -> tuple[AddressFamily, ...]:
    """The families that a Service was given."""
    return tuple(AddressFamily(family) for family in service.spec.ip_families if family in ("IPv4", "IPv6"))
