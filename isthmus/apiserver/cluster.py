"""One cluster: the verbs of the Kubernetes API over its store, without HTTP.

Every verb is synchronous and atomic. Invariants: a write that changes nothing keeps its resourceVersion;
status is written only through the status subresource where there is one; an object with finalizers is only
marked, and goes when the last finalizer goes. Deletion's consequences are left to `deletion.Reaper`.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from isthmus.apiserver import admission, crd, objectmeta, status
from isthmus.apiserver.apply import apply
from isthmus.apiserver.deletion import Backlog, DeleteOptions, mark
from isthmus.apiserver.managedfields import Manager, after_update, diff, dump, load, strip
from isthmus.apiserver.resources import CRDS, NAMESPACES, SERVICES, Registry, Resource
from isthmus.apiserver.schema import default
from isthmus.apiserver.service import ServiceAddresses
from isthmus.apiserver.store import Bucket, BucketId, Entry, Key, Store, decode, encode

Object = dict[str, Any]
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_KEPT_NAMESPACES = ("default", "kube-public", "kube-system")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """How a client writes: who it is, to which subresource, and how strictly it wants to be read."""

    manager: str = "unknown"
    subresource: str = ""
    dry_run: bool = False
    field_validation: str = "Warn"
    force: bool = False


class Written(NamedTuple):
    """Answer to a write: HTTP code, object as JSON, warnings for the client."""

    code: int
    raw: bytes
    warnings: Sequence[str] = ()


class Cluster:
    """State and verbs of one cluster; `clock` gives wall seconds."""

    def __init__(
        self,
        *,
        service_cidrs: Sequence[str] = ("10.96.0.0/16",),
        history_events: int = 1024,
        history_bytes: int = 32 << 20,
        first_revision: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        first = int(clock() * 1000) if first_revision is None else first_revision
        self.store = Store(first, history_events=history_events, history_bytes=history_bytes)
        self.registry = Registry()
        self.backlog = Backlog()
        addresses = ServiceAddresses(service_cidrs)
        self._admission = admission.Admission(addresses)
        system = Write(manager="kube-apiserver")
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create(NAMESPACES, "", {"metadata": {"name": name}}, system)
        ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
        labels = {"component": "apiserver", "provider": "kubernetes"}
        kubernetes = {
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"clusterIP": addresses.ranges[0].first(), "ports": ports},
        }
        self.create(SERVICES, "default", kubernetes, system)

    # Reading

    def bucket(self, resource: Resource) -> Bucket:
        return self.store.bucket(resource.bucket)

    def entry(self, resource: Resource, namespace: str, name: str) -> Entry:
        """The stored object; 404 where there is none."""
        found = self.bucket(resource).entries.get(Key(namespace, name))
        if found is None:
            raise status.not_found(resource.group, resource.plural, name)
        return found

    def get(self, resource: Resource, namespace: str, name: str) -> bytes:
        return present(self.entry(resource, namespace, name), resource)

    # Writing

    def create(self, resource: Resource, namespace: str, body: Any, write: Write) -> Written:
        """POST to a collection."""
        obj = objectmeta.check_envelope(body, resource)
        objectmeta.check_place(obj["metadata"], resource, namespace, "")
        if obj["metadata"].get("resourceVersion"):
            text = "resourceVersion should not be set on objects to be created"
            raise status.StatusError(500, "InternalError", text)
        if resource.status and not resource.keeps_status:
            obj.pop("status", None)
        self._check_namespace(resource, namespace, obj["metadata"].get("name", ""))
        objectmeta.stamp(obj, resource, uid=str(uuid.uuid4()), now=self.now(), suffix=_suffix)
        warnings = self._fill(resource, obj, write)
        spoken = {key: value for key, value in obj.items() if key != "status" or not resource.status}
        self._own_update(resource, {}, spoken, write)
        return self._insert(resource, obj, write, warnings)

    def update(
        self, resource: Resource, namespace: str, name: str, body: Any, write: Write, *, patch: bool = False
    ) -> Written:
        """PUT, or the result of a patch: replace an object, under its resourceVersion where one is given."""
        obj = objectmeta.check_envelope(body, resource)
        objectmeta.check_place(obj["metadata"], resource, namespace, name)
        if resource.put_creates and Key(namespace, name) not in self.bucket(resource).entries:
            return self._put_new(resource, namespace, obj, write)
        entry = self.entry(resource, namespace, name)
        if not patch and not resource.unconditional and not obj["metadata"].get("resourceVersion"):
            cause = status.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise admission.refused(resource, obj, [cause])
        self._check_fresh(resource, entry, obj["metadata"])
        old = decode(present(entry, resource))
        new = _confine(resource, decode(present(entry, resource)), obj, write.subresource)
        objectmeta.carry(old, new)
        warnings = self._fill(resource, new, write)
        self._own_update(resource, old, new, write)
        return self._replace(resource, entry, old, new, write, warnings)

    def _put_new(self, resource: Resource, namespace: str, obj: Object, write: Write) -> Written:
        """A PUT of what is not there, where that creates; not of what was there under another uid."""
        if obj["metadata"].get("uid"):
            why = f"Precondition failed: UID in precondition: {obj['metadata']['uid']}, UID in object meta: "
            raise status.conflict(resource.group, resource.plural, obj["metadata"]["name"], why)
        obj["metadata"].pop("resourceVersion", None)
        return self.create(resource, namespace, obj, write)

    def patch(
        self, resource: Resource, namespace: str, name: str, change: Callable[[Object], Any], write: Write
    ) -> Written:
        """PATCH with a function from the live object to the patched one."""
        live = decode(self.get(resource, namespace, name))
        return self.update(resource, namespace, name, change(live), write, patch=True)

    def apply(self, resource: Resource, namespace: str, name: str, body: Any, write: Write) -> Written:
        """Server-side apply; creates the object where there is none."""
        config = objectmeta.check_envelope(body, resource)
        objectmeta.check_place(config["metadata"], resource, namespace, name)
        if config["metadata"].get("managedFields"):
            raise status.bad_request("metadata.managedFields must be nil")
        entry = self.bucket(resource).entries.get(Key(namespace if resource.namespaced else "", name))
        if entry is None and write.subresource:
            raise status.not_found(resource.group, resource.plural, name)
        if entry is not None:
            self._check_fresh(resource, entry, config["metadata"])
        elif config["metadata"].get("resourceVersion"):
            raise status.modified(resource.group, resource.plural, name)
        for field in ("resourceVersion", "uid", "creationTimestamp", "generation", "deletionTimestamp"):
            config["metadata"].pop(field, None)
        if resource.status and not write.subresource:
            config.pop("status", None)
        elif write.subresource:
            keep = {"name": name, **({"namespace": namespace} if resource.namespaced else {})}
            config = {
                key: keep if key == "metadata" else value
                for key, value in config.items()
                if key in ("apiVersion", "kind", "metadata", "status")
            }
        if entry is None:
            return self._apply_new(resource, namespace, config, write)
        old = decode(present(entry, resource))
        new = self._own_apply(resource, decode(present(entry, resource)), config, write)
        warnings = self._fill(resource, new, write)
        return self._replace(resource, entry, old, new, write, warnings)

    def _apply_new(self, resource: Resource, namespace: str, config: Object, write: Write) -> Written:
        self._check_namespace(resource, namespace, config["metadata"]["name"])
        blank = {"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {}}
        obj = self._own_apply(resource, blank, config, write)
        objectmeta.stamp(obj, resource, uid=str(uuid.uuid4()), now=self.now(), suffix=_suffix)
        warnings = self._fill(resource, obj, write)
        return self._insert(resource, obj, write, warnings)

    def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions) -> Written:
        """DELETE of one object: gone, or marked and waiting for its finalizers."""
        entry = self.entry(resource, namespace, name)
        for field, wanted, found, fate in (
            ("UID", options.uid, entry.uid, "deleted and then recreated"),
            ("ResourceVersion", options.revision, str(entry.revision), "modified"),
        ):
            if wanted and wanted != found:
                why = f"the {field} in the precondition ({wanted}) does not match the {field} in record "
                why += f"({found}). The object might have been {fate}"
                raise status.conflict(resource.group, resource.kind, name, why)
        if resource.bucket == NAMESPACES.bucket and name in _KEPT_NAMESPACES:
            raise status.forbidden(resource.group, resource.plural, name, "this namespace may not be deleted")
        obj = entry.object()
        if options.dry_run:
            return Written(200, deleted_status(resource, obj))
        marked = mark(resource, obj, options, self.now())
        if not marked:
            last = self.remove(resource, obj)
            return Written(200, last.raw if resource.returns_deleted else deleted_status(resource, obj))
        if strip(obj) == strip(entry.object()):
            return Written(200, present(entry, resource))
        return Written(200, present(self.save(resource, entry, obj), resource))

    # Storing, with its consequences

    def save(self, resource: Resource, old: Entry | None, obj: Object) -> Entry:
        """Store a checked object; what follows from it is put on the backlog."""
        bucket = self.bucket(resource)
        obj["apiVersion"] = resource.stored_api_version
        if resource.bucket == CRDS.bucket:
            crd.settle(obj, old.object() if old else None, self.now())
        entry = self.store.put(bucket, obj)
        if resource.bucket == CRDS.bucket:
            served = crd.resources(obj)
            made = BucketId(obj["spec"]["group"], obj["spec"]["names"]["plural"])
            self.store.bucket(made, began=self.store.revision)
            self.registry.replace(made, served)
        if old is None or old.owners != entry.owners:
            for owner in entry.owners:
                if owner not in self.store.by_uid:
                    self.backlog.add("dependent", entry.uid)
        if entry.deleting:
            self.backlog.add("deleting", entry.uid)
        return entry

    def remove(self, resource: Resource, obj: Object) -> Entry:
        """Drop an object; what follows from it is put on the backlog."""
        last = self.store.drop(self.bucket(resource), obj)
        self._admission.release(resource, obj)
        for uid in self.store.dependents.get(last.uid, ()):
            self.backlog.add("dependent", uid)
        for owner in last.owners:
            self.backlog.add("deleting", owner)
        space = self.store.bucket(NAMESPACES.bucket).entries.get(Key("", last.key.namespace))
        if space is not None and space.deleting:
            self.backlog.add("deleting", space.uid)
        definition = self.store.bucket(CRDS.bucket).entries.get(
            Key("", f"{resource.plural}.{resource.group}")
        )
        if definition is not None and definition.deleting:
            self.backlog.add("deleting", definition.uid)
        if resource.bucket == CRDS.bucket:
            gone = BucketId(obj["spec"]["group"], obj["spec"]["names"]["plural"])
            self.registry.replace(gone, ())
            self.store.close(gone)
        return last

    def resource_of(self, bucket: Bucket) -> Resource | None:
        """Any served version of a bucket, for the server's own writes."""
        return next(iter(self.registry.versions(bucket.id)), None)

    # Steps of a write

    def _insert(self, resource: Resource, obj: Object, write: Write, warnings: Sequence[str]) -> Written:
        admission.validate(resource, obj, None)
        meta = obj["metadata"]
        if Key(meta.get("namespace", ""), meta["name"]) in self.bucket(resource).entries:
            raise status.already_exists(resource.group, resource.plural, meta["name"])
        self._admission.allocate(resource, obj, None, dry_run=write.dry_run)
        if write.dry_run:
            return Written(201, encode(obj), warnings)
        return Written(201, present(self.save(resource, None, obj), resource), warnings)

    def _replace(
        self,
        resource: Resource,
        entry: Entry,
        old: Object,
        new: Object,
        write: Write,
        warnings: Sequence[str],
    ) -> Written:
        admission.validate(resource, new, old)
        self._admission.allocate(resource, new, old, dry_run=write.dry_run)
        if resource.generation and _spec_of(resource, new) != _spec_of(resource, old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if strip(new) == strip(old) and _owned(new) == _owned(old):
            return Written(200, present(entry, resource), warnings)
        if write.dry_run:
            return Written(200, encode(new), warnings)
        if finished(resource, new):
            return Written(200, self.remove(resource, new).raw, warnings)
        return Written(200, present(self.save(resource, entry, new), resource), warnings)

    def _fill(self, resource: Resource, obj: Object, write: Write) -> list[str]:
        """Prune and default; unknown fields are refused, reported or ignored, as the client asked."""
        pruned = admission.fill(resource, obj)
        texts = [f'unknown field "{path}"' for path in pruned[:64]]
        if texts and write.field_validation == "Strict":
            text = ", ".join(texts)
            raise status.bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
                f"strict decoding error: {text}"
            )
        return texts if write.field_validation == "Warn" else []

    def _own_update(self, resource: Resource, old: Object, new: Object, write: Write) -> None:
        """Track who changed what in an update or create."""
        asked = new["metadata"].pop("managedFields", None)
        owners = load(old["metadata"].get("managedFields") or ()) if old else {}
        if asked is not None and not any(asked):
            owners = {}
        manager = Manager(write.manager, "Update", resource.api_version, write.subresource)
        after_update(owners, manager, diff(old, new, resource.schema), resource.api_version, self.now())
        if managed := dump(owners):
            new["metadata"]["managedFields"] = managed

    def _own_apply(self, resource: Resource, old: Object, config: Object, write: Write) -> Object:
        """Merge an applied configuration and track who owns what."""
        owners = load(old["metadata"].pop("managedFields", None) or ())
        manager = Manager(write.manager, "Apply", "", write.subresource)
        new = apply(
            old, config, resource.schema, owners, manager,
            api_version=resource.api_version, force=write.force, now=self.now(),
        )  # fmt: skip
        new["metadata"] = dict(new.get("metadata") or {})
        if managed := dump(owners):
            new["metadata"]["managedFields"] = managed
        return new

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        space = self.bucket(NAMESPACES).entries.get(Key("", namespace))
        if space is None:
            raise status.not_found("", "namespaces", namespace)
        if space.deleting:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = status.Cause(
                "NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace"
            )
            raise status.forbidden(resource.group, resource.plural, name, why, [cause])

    def _check_fresh(self, resource: Resource, entry: Entry, meta: Object) -> None:
        asked = meta.get("resourceVersion")
        if asked and asked != str(entry.revision):
            raise status.modified(resource.group, resource.plural, entry.key.name)
        if meta.get("uid") and meta["uid"] != entry.uid:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {entry.uid}"
            raise status.conflict(resource.group, resource.plural, entry.key.name, why)

    def now(self) -> str:
        """The present as metav1.Time: RFC 3339, whole seconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))


def present(entry: Entry, resource: Resource) -> bytes:
    """The stored bytes in the version that was asked for; conversion None: only apiVersion differs."""
    if entry.api_version == resource.api_version:
        return entry.raw
    obj = entry.object()
    obj["apiVersion"] = resource.api_version
    default(obj, resource.schema)
    return encode(obj)


def finished(resource: Resource, obj: Object) -> bool:
    """Whether a marked object has nothing left to wait for."""
    meta = obj["metadata"]
    waits = meta.get("finalizers") or (resource.bucket == NAMESPACES.bucket and obj["spec"].get("finalizers"))
    return "deletionTimestamp" in meta and not waits


def deleted_status(resource: Resource, obj: Object) -> bytes:
    meta = obj["metadata"]
    details = {"name": meta["name"], "group": resource.group, "kind": resource.plural, "uid": meta["uid"]}
    return encode(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {key: value for key, value in details.items() if value},
        }
    )


def _confine(resource: Resource, old: Object, obj: Object, subresource: str) -> Object:
    """The new object as far as this endpoint may write it."""
    if subresource:
        new = {key: value for key, value in old.items() if key != "status"}
        new["metadata"] = dict(old["metadata"])
        if obj.get("status") is not None:
            new["status"] = obj["status"]
        return new
    if resource.status:
        obj.pop("status", None)
        if "status" in old:
            obj["status"] = old["status"]
    return obj


def _spec_of(resource: Resource, obj: Object) -> Object:
    """What generation counts."""
    ignored = (
        ("apiVersion", "kind", "metadata", "status")
        if resource.status
        else ("apiVersion", "kind", "metadata")
    )
    return {key: value for key, value in obj.items() if key not in ignored}


def _owned(obj: Object) -> list[Object]:
    """managedFields without times, for asking whether ownership changed."""
    managed = obj["metadata"].get("managedFields") or ()
    return [{key: value for key, value in each.items() if key != "time"} for each in managed]


def _suffix() -> str:
    return "".join(secrets.choice(_SUFFIX) for _ in range(5))
