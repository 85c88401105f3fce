"""Where this cluster stands on its hub: its claim on the cluster id, kept true, and its leaving.

Invariant: nothing is written to the hub before the hub itself has confirmed that the id is ours, nor longer
than `FRESH_SECONDS` after it last did; the claim is one server-side apply without force under a field manager
of the cluster's own, so of two clusters that start at once exactly one gets it. Every replica comes to the
same standing from the same objects; only the writer acts on a wish to leave.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from isthmus.agent.chain import OWN, Chain
from isthmus.api import hub, kinds, labels
from isthmus.api.meta import Kind, ObjectKey
from isthmus.errors import Conflict, Forbidden, NotFound
from isthmus.fleet import membership
from isthmus.fleet.heartbeat import LEASE_NAME
from isthmus.fleet.membership import Properties
from isthmus.flow import Writer
from isthmus.kube.client import Client
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.cluster import Phase, Standing

FRESH_SECONDS = 15.0
"""How long a confirmed claim is believed: three heartbeats."""
ASK_SECONDS = 10.0
"""How long a hub that forbids us to claim is left in peace; its administrator may admit us meanwhile."""
LEAVING = "this cluster is leaving the clusterset, its exports are being withdrawn"
LEFT = (
    "this cluster has left the clusterset; to let it join again: "
    f"kubectl annotate clusterproperty {membership.ID_PROPERTY} {labels.LEFT}-"
)
SYSTEM = ObjectKey("", "kube-system")

log = structlog.get_logger()


class Membership:
    """Keeps the row `own` of the chain's `membership` table.

    `hub_read`: whether the hub's objects were read since the start; `may_write`: whether this replica is the
    cluster's writer; `withdrawn`: whether no object of ours is wanted on the hub any more; `leftovers`: how
    many are there all the same, None where that is not known yet. `on_claimed` hears of each claim the hub
    has taken, the first one and those after a doubt.
    """

    def __init__(
        self,
        client: Client,
        chain: Chain,
        clusterset: str,
        writer: Writer[str, Standing],
        *,
        hub_read: Callable[[], bool],
        may_write: Callable[[], bool],
        withdrawn: Callable[[], bool],
        leftovers: Callable[[], int | None],
        on_claimed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._chain = chain
        self._cluster = chain.place.cluster
        self._namespace = hub_namespace(self._cluster)
        self._clusterset = clusterset
        self._writer = writer
        self._hub_read = hub_read
        self._may_write = may_write
        self._withdrawn = withdrawn
        self._leftovers = leftovers
        self._on_claimed = on_claimed
        self._clock = clock
        self._doubtful = False
        """Whether the hub has to take our claim anew: a heartbeat failed. At a start the list that was just
        read says whose the id is, so that a start where nothing has changed writes nothing but the beat."""
        self._confirmed_at = float("-inf")
        self._ask_at = float("-inf")
        self._wake = asyncio.Event()

    @property
    def standing(self) -> Standing:
        return self._chain.standing

    @property
    def speaks(self) -> bool:
        """Whether the hub has lately confirmed that we speak for this cluster."""
        fresh = self._clock() - self._confirmed_at < FRESH_SECONDS
        return fresh and self.standing.phase in (Phase.MEMBER, Phase.LEAVING)

    def doubt(self) -> None:
        """The hub did not answer: before anything is believed again, it is asked."""
        self._doubtful = True

    def confirm(self) -> None:
        """The hub took a heartbeat."""
        self._doubtful = False
        self._confirmed_at = self._clock()

    async def follow(self) -> None:
        """Ends a `sleep` early when something changes that the standing follows from."""
        own = {ObjectKey("", self._cluster)}

        async def wake(changes: Any, of: set[ObjectKey] | None) -> None:
            async for keys in changes:
                if of is None or keys & of or not keys:
                    self._wake.set()

        async with asyncio.TaskGroup() as group:
            for table, of in (
                (self._chain.hub.clusters, own),
                (self._chain.member.namespaces, {SYSTEM}),
                (self._chain.member.properties, None),
            ):
                group.create_task(wake(table.changes(), of), name=f"membership-{table.name}")

    async def sleep(self, seconds: float) -> None:
        """Waits so long, or until something has changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def step(self) -> bool:
        """Finds where the cluster stands and does what is due on the hub; whether a heartbeat may follow.

        Raises KubeError, like the heartbeat itself.
        """
        uid, now = self._uid(), said(self._chain)
        if not uid or not self._chain.member.properties.synced:
            return self._stands(Phase.UNDECIDED, "this cluster's own objects are not read yet")
        if why := membership.misnamed(self._cluster, self._clusterset, now):
            return self._stands(Phase.MISNAMED, why)
        entry = self._chain.hub.clusters.get(ObjectKey("", self._cluster))
        if membership.asked_to_leave(entry, uid, now):
            return await self._leave(entry, uid)
        if not self._hub_read():
            return self._stands(Phase.UNDECIDED, "the hub was not read yet")
        if not membership.may_claim(entry, uid):
            holder = entry.spec.uid if entry is not None else ""
            return self._stands(Phase.TAKEN, membership.taken(self._cluster, uid, holder))
        region = self._chain.place.region
        if self._doubtful or entry is None or (entry.spec.uid, entry.spec.region) != (uid, region):
            return await self._claim(uid, region)
        return self._stands(Phase.MEMBER)

    async def _claim(self, uid: str, region: str, phase: Phase = Phase.MEMBER, reason: str = "") -> bool:
        """Claims the id and makes the cluster known: its Cluster object and its namespace.

        Where the hub's administrator admits clusters, both exist already and at most uid and region are ours
        to write.
        """
        if self._clock() < self._ask_at:
            return False
        try:
            found = await self._client.apply(
                kinds.CLUSTER, self._entry(uid=uid), manager=f"{labels.MANAGER}-{uid}", force=False
            )
            if found.spec.region != region:
                await self._client.apply(kinds.CLUSTER, self._entry(region=region), manager=labels.MANAGER)
        except Conflict:
            return self._stands(Phase.TAKEN, membership.taken(self._cluster, uid, ""))
        except Forbidden as error:
            self._ask_at = self._clock() + ASK_SECONDS
            return self._stands(
                Phase.NOT_ADMITTED,
                f"the hub does not let this cluster register, nothing is exported: its administrator admits "
                f"it with deploy/rbac/hub-agent.yaml and a Cluster object {self._cluster} ({error})",
            )
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        with suppress(Forbidden):  # the lease tells where it is missing
            await self._client.apply(kinds.NAMESPACE, space, manager=labels.MANAGER)
        self._stands(phase, reason)
        self.confirm()
        self._on_claimed()  # what could not be written before can be now
        return True

    async def _leave(self, entry: hub.Cluster | None, uid: str) -> bool:
        """Waits until all that we told is withdrawn, then ends the membership; beats until then.

        Only the writer beats: another's beat would bring back the lease that the writer has just deleted.
        """
        ours = entry is not None and entry.spec.uid == uid
        if entry is not None and not ours:
            return self._stands(Phase.LEFT, LEFT)  # what is on the hub is of who has the id now
        if not self._hub_read():
            return self._stands(Phase.LEAVING, LEAVING)
        if not ours and not self._remains():
            return self._stands(Phase.LEFT, LEFT)
        if ours and self._doubtful:
            return (
                await self._claim(uid, self._chain.place.region, Phase.LEAVING, LEAVING) and self._may_write()
            )
        self._stands(Phase.LEAVING, LEAVING)
        if not ours:
            self.confirm()  # nobody has the id, and what we exported is still there
        if not self._may_write():
            return False  # another replica acts
        if not said(self._chain).left:
            return ours  # the wish is not recorded yet
        if self._remains() or self._leftovers() != 0 or not self._withdrawn():
            return ours
        await self._delete(kinds.LEASE, ObjectKey(self._namespace, LEASE_NAME))
        if entry is not None:
            await self._delete(kinds.CLUSTER, ObjectKey("", self._cluster), entry.metadata.uid)
        return False

    async def _delete(self, kind: Kind[Any], key: ObjectKey, uid: str = "") -> None:
        with suppress(NotFound):
            await self._client.delete(kind, key, uid=uid)

    def _remains(self) -> bool:
        """Whether anything of ours is known to be on the hub still."""
        tables = (self._chain.hub.exported_services, self._chain.hub.exported_endpoints)
        exported = any(key.namespace == self._namespace for table in tables for key in table)
        return exported or bool(self._leftovers())

    def _stands(self, phase: Phase, reason: str = "") -> bool:
        """Writes the standing down; whether the cluster may beat."""
        before, now = self._chain.membership.get(OWN), Standing(phase=phase, reason=reason)
        if before != now:
            tell = log.error if phase in (Phase.TAKEN, Phase.MISNAMED) else log.info
            tell("membership", phase=phase.value, reason=reason)
            self._writer.put(OWN, now)
        return phase is Phase.MEMBER

    def _entry(self, **spec: str) -> dict[str, Any]:
        return {
            "apiVersion": kinds.CLUSTER.api_version,
            "kind": kinds.CLUSTER.kind,
            "metadata": {"name": self._cluster},
            "spec": spec,
        }

    def _uid(self) -> str:
        found = self._chain.member.namespaces.get(SYSTEM)
        return found.metadata.uid if found is not None else ""


def said(chain: Chain) -> Properties:
    """What the cluster's ClusterProperties say."""
    found = chain.member.properties.get
    return membership.properties(
        found(ObjectKey("", membership.ID_PROPERTY)), found(ObjectKey("", membership.SET_PROPERTY))
    )


def named_well(chain: Chain, clusterset: str) -> bool:
    """Whether the cluster is the one we were told it is: only then anything is written to it."""
    return not membership.misnamed(chain.place.cluster, clusterset, said(chain))
