"""Whether the hub that an agent finds at its start still has what it had when it was read last.

A hub that was restored, empty or from a backup, has lost what clusters told it since. Those that live tell it
again, and an agent that runs keeps meanwhile what it has heard (`kube.reflector.Linger`). One that starts in
just that time has heard nothing: it takes its last-good rows first, which then linger like any others.
Invariant: of a hub that is what it was, the word alone counts; what was deleted while no agent ran is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from isthmus.agent.lastgood import LastGood
from isthmus.api import hub, kinds
from isthmus.api.meta import ObjectKey
from isthmus.errors import ConfigError, KubeError
from isthmus.kube.client import MALFORMED, Client
from isthmus.kube.raw import head_of

ANSWER_SECONDS = 2.0
CLUSTERS = "hub/clusters"

log = structlog.get_logger()


def lost(
    known: Mapping[ObjectKey, hub.Cluster], newest: int, uids: Mapping[ObjectKey, str], version: str
) -> str:
    """Why a hub seems to have lost something since it was read last, "" where nothing shows it.

    `known`: the members of then, `newest`: the highest resource version of then; `uids` and `version`: those
    of the members now and of their list. A backup that was restored with its versions raised shows nothing
    where all members of then are older than it.
    """
    for key, cluster in known.items():
        if key not in uids:
            return f"cluster {key} is not registered any more"
        if uids[key] != cluster.metadata.uid:
            return f"cluster {key} was registered anew"
    if version.isdecimal() and int(version) < newest:
        return f"its version {version} lies before {newest}"
    return ""


async def broken(client: Client, store: LastGood) -> bool:
    """Whether the last-good rows are to be taken before the hub's own; so, too, where it does not answer."""
    found = await store.load(CLUSTERS, kinds.CLUSTER)
    if found is None:
        return False
    newest = await store.newest("hub/")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            uids, version = await _members(client)
    except (KubeError, ConfigError, TimeoutError, *MALFORMED):
        return True
    why = lost(found[1], newest, uids, version)
    if why:
        log.warning("the hub has lost what it knew; what it had is kept for a while", reason=why)
    return bool(why)


async def _members(client: Client) -> tuple[dict[ObjectKey, str], str]:
    """The uids of all Cluster objects, and the version of the list."""
    uids: dict[ObjectKey, str] = {}
    version = ""
    async for page in client.list_pages(kinds.CLUSTER):
        version = version or page.metadata.resource_version
        for item in page.items:
            metadata = head_of(item).metadata
            uids[metadata.key] = metadata.uid
    return uids, version
