"""What follows from a deletion: garbage collection, namespaces and definitions that empty themselves.

The work is a set of uids to look at again, so it is bounded by the objects there are; each look is level-
triggered and may be repeated. The Reaper yields to the event loop between looks. Follows the garbage
collector and namespace controller of Kubernetes: background, foreground and orphan propagation, finalizers
always respected.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from isthmus.apiserver.crd import CLEANUP
from isthmus.apiserver.resources import CRDS, NAMESPACES, Resource
from isthmus.apiserver.store import Bucket, BucketId, Entry

if TYPE_CHECKING:
    from isthmus.apiserver.cluster import Cluster

Object = dict[str, Any]
Look = Literal["dependent", "deleting"]
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """metav1.DeleteOptions, as far as they are honoured."""

    uid: str = ""
    revision: str = ""
    propagation: str = "Background"
    dry_run: bool = False


def mark(resource: Resource, obj: Object, options: DeleteOptions, now: str) -> bool:
    """Mark an object for deletion, in place; False when nothing holds it and it can go at once."""
    meta = obj["metadata"]
    finalizers: list[str] = meta.get("finalizers") or []
    wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.propagation)
    if wanted and wanted not in finalizers:
        finalizers = [*finalizers, wanted]
        meta["finalizers"] = finalizers
    space = resource.bucket == NAMESPACES.bucket
    if not finalizers and not (space and obj["spec"].get("finalizers")):
        return False
    if "deletionTimestamp" not in meta:
        meta["deletionTimestamp"] = now
        meta["deletionGracePeriodSeconds"] = 0
        if resource.generation:
            meta["generation"] = meta.get("generation", 0) + 1
    if space:
        obj.setdefault("status", {})["phase"] = "Terminating"
    return True


class Backlog:
    """Uids to look at again, in order, each at most once per kind of look."""

    def __init__(self) -> None:
        self._looks: dict[tuple[Look, str], None] = {}
        self._some = asyncio.Event()

    def add(self, look: Look, uid: str) -> None:
        self._looks[look, uid] = None
        self._some.set()

    async def next(self) -> tuple[Look, str]:
        """The oldest look; waits for one."""
        await self._some.wait()
        look = next(iter(self._looks))
        del self._looks[look]
        if not self._looks:
            self._some.clear()
        return look


class Reaper:
    """Works off one cluster's backlog."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def run(self) -> None:
        """Look at everything on the backlog, for ever; one look per turn of the event loop."""
        while True:
            look, uid = await self._cluster.backlog.next()
            place = self._cluster.store.by_uid.get(uid)
            resource = self._cluster.resource_of(place[0]) if place else None
            if place is not None and resource is not None:
                bucket, key = place
                if look == "dependent":
                    self._check_owners(resource, bucket.entries[key])
                else:
                    await self._check_deleting(resource, bucket, bucket.entries[key])
            await asyncio.sleep(0)

    def _check_owners(self, resource: Resource, entry: Entry) -> None:
        """Delete an object whose owners are all gone; drop references to those that are gone."""
        alive = [uid for uid in entry.owners if uid in self._cluster.store.by_uid]
        if len(alive) == len(entry.owners):
            return
        if not alive:
            self._delete(resource, entry)
            return
        obj = entry.object()
        references = obj["metadata"]["ownerReferences"]
        obj["metadata"]["ownerReferences"] = [each for each in references if each["uid"] in alive]
        self._cluster.save(resource, entry, obj)

    async def _check_deleting(self, resource: Resource, bucket: Bucket, entry: Entry) -> None:
        if not entry.deleting:
            return
        obj = entry.object()
        finalizers = obj["metadata"].get("finalizers") or []
        if ORPHAN in finalizers:
            for uid in list(self._cluster.store.dependents.get(entry.uid, ())):
                self._orphan(uid, entry.uid)
            self._release(resource, bucket, entry, ORPHAN)
        elif FOREGROUND in finalizers:
            if not await self._delete_dependents(entry.uid):
                self._release(resource, bucket, entry, FOREGROUND)
        elif bucket.id == NAMESPACES.bucket and obj["spec"].get("finalizers"):
            if not await self._empty(namespace=entry.key.name):
                self._release(resource, bucket, entry, "")
        elif bucket.id == CRDS.bucket and CLEANUP in finalizers:
            made = BucketId(obj["spec"]["group"], obj["spec"]["names"]["plural"])
            if not await self._empty(bucket=made):
                self._release(resource, bucket, entry, CLEANUP)

    async def _empty(self, *, namespace: str = "", bucket: BucketId | None = None) -> int:
        """Delete the content of a namespace or of a bucket; returns how many objects still wait."""
        registry = self._cluster.registry
        left = 0
        for id_ in [bucket] if bucket else registry.buckets(namespaced=True):
            resource = next(iter(registry.versions(id_)), None)
            if resource is None:
                continue
            entries = self._cluster.store.bucket(id_).entries
            for key in list(self._cluster.store.bucket(id_).keys(namespace)):
                if (entry := entries.get(key)) is not None and not entry.deleting:
                    self._delete(resource, entry)
                    await asyncio.sleep(0)
                left += key in entries
        return left

    async def _delete_dependents(self, owner: str) -> int:
        """Delete what an owner owns, foremost first; returns how many blocking dependents are left."""
        left = 0
        for uid in list(self._cluster.store.dependents.get(owner, ())):
            place = self._cluster.store.by_uid.get(uid)
            resource = self._cluster.resource_of(place[0]) if place else None
            if place is None or resource is None:
                continue
            entry = place[0].entries[place[1]]
            if len(entry.owners) == 1 and not entry.deleting:
                self._delete(resource, entry, propagation="Foreground")
                await asyncio.sleep(0)
            still = place[0].entries.get(place[1])
            if still is not None and still.uid == uid and len(still.owners) == 1:
                left += _blocks(still, owner)
        return left

    def _orphan(self, uid: str, owner: str) -> None:
        place = self._cluster.store.by_uid.get(uid)
        resource = self._cluster.resource_of(place[0]) if place else None
        if place is None or resource is None:
            return
        entry = place[0].entries[place[1]]
        obj = entry.object()
        left = [each for each in obj["metadata"]["ownerReferences"] if each["uid"] != owner]
        obj["metadata"]["ownerReferences"] = left
        if not left:
            del obj["metadata"]["ownerReferences"]
        self._cluster.save(resource, entry, obj)

    def _delete(self, resource: Resource, entry: Entry, *, propagation: str = "Background") -> None:
        options = DeleteOptions(uid=entry.uid, propagation=propagation)
        self._cluster.delete(resource, entry.key.namespace, entry.key.name, options)

    def _release(self, resource: Resource, bucket: Bucket, entry: Entry, finalizer: str) -> None:
        """Take away what held an object ("" for a namespace's own finalizers); gone if that was the last."""
        current = bucket.entries.get(entry.key)
        if current is None or current.uid != entry.uid:
            return
        obj = current.object()
        if finalizer:
            obj["metadata"]["finalizers"] = [
                each for each in obj["metadata"]["finalizers"] if each != finalizer
            ]
        else:
            obj["spec"]["finalizers"] = []
        holds = obj["metadata"].get("finalizers") or (
            bucket.id == NAMESPACES.bucket and obj["spec"].get("finalizers")
        )
        if holds:
            self._cluster.save(resource, current, obj)
        else:
            self._cluster.remove(resource, obj)


def _blocks(entry: Entry, owner: str) -> bool:
    references = entry.object()["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == owner and each.get("blockOwnerDeletion") for each in references)
