"""Installs CustomResourceDefinitions, and never replaces a newer one.

A definition is shared by everybody in a cluster, so it is applied only where ours is as new in every respect:
the versions that objects are stored in, the release and revision that its labels tell, the newest version it
has. Every write is bound to the very definition that was looked at. Invariant: what `decide` keeps is not
written. Version order: Kubernetes, "Version priority" of custom resources.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from isthmus.api import kinds
from isthmus.api.labels import RELEASE
from isthmus.api.meta import ObjectKey
from isthmus.errors import Conflict, NotFound, Unreachable
from isthmus.kube.client import MALFORMED, Client
from isthmus.kube.comparison import differs
from isthmus.kube.raw import RawObject, raw

MANAGER = "isthmus-crds"
RELEASES = ("multicluster.x-k8s.io/release-version", RELEASE)
REVISION = "multicluster.x-k8s.io/crd-schema-revision"
ATTEMPTS = 5
LOOK_SECONDS = 0.1

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?", re.ASCII)
_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+.]?([A-Za-z].*))?", re.ASCII)
_CRD = raw(kinds.CRD)


class _Resource(Struct, frozen=True):
    name: str = ""


class _Resources(Struct, frozen=True):
    """An APIResourceList: what a server has of one group and version."""

    resources: list[_Resource] = []

    def names(self, plural: str) -> bool:
        return any(one.name == plural for one in self.resources)


_RESOURCES = msgspec.json.Decoder(_Resources)


class Step(StrEnum):
    """What becomes of a definition."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one definition, and why. `lacks` is the version that we use and it does not serve."""

    name: str
    step: Step
    why: str = ""
    lacks: str = ""


def decide(ours: Mapping[str, Any], installed: Mapping[str, Any] | None) -> Outcome:
    """What is to be done about one definition."""
    name = ours["metadata"]["name"]
    if installed is None:
        return Outcome(name=name, step=Step.CREATED)
    why = _newer(ours, installed)
    if why:
        return Outcome(name=name, step=Step.KEPT, why=why, lacks=_lacking(ours, installed))
    if not differs(ours, installed):
        return Outcome(name=name, step=Step.UNCHANGED)
    before, after = _release(installed), _release(ours)
    told = f"from {before} to {after}" if before and before != after else ""
    return Outcome(name=name, step=Step.UPDATED, why=told)


async def install(
    client: Client, definitions: Iterable[Mapping[str, Any]], *, seconds: float = 30.0
) -> list[Outcome]:
    """Brings each definition into the cluster and waits (`seconds`) until it is served. Raises KubeError."""
    ours = list(definitions)
    outcomes = [await _install(client, one, seconds) for one in ours]
    looks = round(seconds / LOOK_SECONDS)
    for one, outcome in zip(ours, outcomes, strict=True):
        for _ in range(looks):
            # What was updated is Established from before, also while the version that came is not served yet.
            if _established(await _look(client, outcome.name)) and (
                outcome.lacks or await _discovered(client, one)
            ):
                break
            await asyncio.sleep(LOOK_SECONDS)
        else:
            raise Unreachable(f"{outcome.name} is not served after {seconds:g} s; look at its status")
    return outcomes


async def _install(client: Client, ours: Mapping[str, Any], seconds: float) -> Outcome:
    """Looks, decides and writes; looks again where somebody else wrote meanwhile."""
    for attempt in range(ATTEMPTS):
        found = await _settled(client, ours["metadata"]["name"], seconds)
        outcome = decide(ours, found)
        if outcome.step in (Step.KEPT, Step.UNCHANGED):
            return outcome
        metadata = dict(ours["metadata"])
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        body = {**ours, "metadata": metadata}
        try:
            await client.apply(_CRD, body, manager=MANAGER, force=found is not None)
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return outcome
    raise AssertionError("unreachable")


async def _settled(client: Client, name: str, seconds: float) -> RawObject | None:
    """The definition that stays: one that is being deleted goes when its objects have gone."""
    for _ in range(round(seconds / LOOK_SECONDS)):
        found = await _look(client, name)
        if found is None or not found["metadata"].get("deletionTimestamp"):
            return found
        await asyncio.sleep(LOOK_SECONDS)
    raise Unreachable(f"{name} is being deleted and still there after {seconds:g} s; look at its finalizers")


async def _look(client: Client, name: str) -> RawObject | None:
    try:
        return await client.get(_CRD, ObjectKey("", name))
    except NotFound:
        return None


def _newer(ours: Mapping[str, Any], installed: Mapping[str, Any]) -> str:
    """In which respect the installed definition is newer than ours, "" where in none."""
    own, theirs = _versions(ours), _versions(installed)
    stored = installed.get("status", {}).get("storedVersions") or ()
    unknown = [version for version in stored if version not in own]
    if unknown:
        return f"objects are stored as {', '.join(unknown)}, which ours does not have"
    labels, own_labels = installed["metadata"].get("labels") or {}, ours["metadata"].get("labels") or {}
    for label in RELEASES:
        before, after = labels.get(label), own_labels.get(label)
        if before is None or after is None or before == after:
            continue
        order, own_order = _release_order(before), _release_order(after)
        if order is None or own_order is None:
            return f"its release {before} cannot be compared with ours, {after}"
        if order > own_order:
            return f"its release {before} is newer than ours, {after}"
    revision, own_revision = labels.get(REVISION, "0"), own_labels.get(REVISION, "0")
    if not revision.isdecimal():
        return f"its schema revision {revision} is not a number"
    if int(revision) > int(own_revision):
        return f"its schema revision {revision} is newer than ours, {own_revision}"
    newest = max(theirs, key=_version_order, default="")
    if newest and _version_order(newest) > max(map(_version_order, own)):
        return f"it has the version {newest}, which is newer than ours"
    return ""


def _lacking(ours: Mapping[str, Any], installed: Mapping[str, Any]) -> str:
    """The version that we use and the installed definition does not serve, "" where it does."""
    used = _used(ours)
    served = [version["name"] for version in installed["spec"]["versions"] if version.get("served")]
    return "" if used in served else used


async def _discovered(client: Client, ours: Mapping[str, Any]) -> bool:
    """Whether the server names our resource among those of the version that we use."""
    spec = ours["spec"]
    said = await client.get_raw(f"/apis/{spec['group']}/{_used(ours)}")
    if said.status in (401, 403):
        return True  # discovery is closed to this account: Established is all that it can see
    try:
        return said.status == 200 and _RESOURCES.decode(said.body).names(spec["names"]["plural"])
    except MALFORMED:
        return False


def _used(ours: Mapping[str, Any]) -> str:
    (used,) = (version["name"] for version in ours["spec"]["versions"] if version["storage"])
    return str(used)


def _established(found: Mapping[str, Any] | None) -> bool:
    conditions: Sequence[Mapping[str, Any]] = (found or {}).get("status", {}).get("conditions") or ()
    return any((one["type"], one["status"]) == ("Established", "True") for one in conditions)


def _versions(crd: Mapping[str, Any]) -> list[str]:
    return [version["name"] for version in crd["spec"]["versions"]]


def _release(crd: Mapping[str, Any]) -> str:
    labels = crd["metadata"].get("labels") or {}
    return next((str(labels[label]) for label in RELEASES if label in labels), "")


def _release_order(text: str) -> tuple[int, int, int, bool, str] | None:
    """A key that sorts releases (v0.5.2-rc.1 before v0.5.2), None for what is no release."""
    found = _RELEASE.fullmatch(text)
    if found is None:
        return None
    before = found[4] or ""
    return (int(found[1]), int(found[2]), int(found[3]), not before, before)


def _version_order(name: str) -> tuple[int, int, int]:
    """A key that sorts versions: v1alpha1, v1beta1, v1, v2; what has another form is the oldest."""
    found = _VERSION.fullmatch(name)
    if found is None:
        return (-1, 0, 0)
    stage = {"alpha": 0, "beta": 1, None: 2}[found[2]]
    return (stage, int(found[1]), int(found[3] or 0))
