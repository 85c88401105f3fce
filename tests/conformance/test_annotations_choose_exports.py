"""Annotations that decide what is exported, and to whom: auto-export, export-to, drain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import AMS, FRA, NYC, Space, clusters_of, pod, stays
from spine import thing

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.kube.raw import RawObject

AUTO, EXPORT_TO = "isthmus.dev/auto-export", "isthmus.dev/export-to"


async def annotate(space: Space, cluster: str, kind: Any, name: str, **values: str | None) -> None:
    """Sets annotations `isthmus.dev/<key>` (None: removes one), as `kubectl annotate` does."""
    key = ObjectKey(space.name if kind.namespaced else "", name)
    named = {f"isthmus.dev/{one.replace('_', '-')}": value for one, value in values.items()}
    body = {"metadata": {"annotations": named}}
    await space.world.clients[cluster].patch(kind, key, body, manager="somebody")


async def made(space: Space, name: str = "web", cluster: str = AMS) -> RawObject:
    """The export that was made for a Service."""

    async def look() -> RawObject | None:
        return await space.get(cluster, kinds.SERVICE_EXPORT, name)

    return await space.settles(look, f"a ServiceExport {name} in {cluster}")


async def warned(space: Space, cluster: str, reason: str, namespace: str = "") -> str:
    """The message of an Event of ours with that reason."""
    events = kinds.EVENT
    where = namespace or space.name

    async def look() -> str | None:
        for found in await space.world.everything(cluster, events):
            about = found["involvedObject"]
            mine = space.name in (about.get("namespace"), about["name"])
            if found["metadata"]["namespace"] == where and found["reason"] == reason and mine:
                assert found["type"] == "Warning"
                return str(found["message"])
        return None

    return await space.settles(look, f"an Event {reason} in {where} of {cluster}")


async def test_services_of_an_annotated_namespace_are_exported_and_withdrawn(space: Space) -> None:
    """Rules: R1, R4. Specs: -."""
    await space.service(AMS)
    await space.endpoints(AMS)
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="true")
    export = await made(space)
    service = await space.read(AMS, kinds.SERVICE)
    (owner,) = export["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Service", service["metadata"]["uid"])
    assert export["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "isthmus"}
    await space.everywhere(lambda one: clusters_of(one) == [AMS])
    await space.told(AMS, "Ready", "True", "Exported")
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="false")
    await space.gone(kinds.SERVICE_IMPORT)
    await space.gone(kinds.SERVICE_EXPORT)


async def test_a_services_own_value_wins_over_its_namespaces(space: Space) -> None:
    """Rules: R1. Specs: -."""
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="true")
    await space.service(AMS, "quiet", metadata={"annotations": {AUTO: "false"}})
    await space.service(AMS, "loud")
    await space.service(FRA, "chosen", metadata={"annotations": {AUTO: "true"}})
    await space.service(FRA, "plain")
    await made(space, "loud")
    await made(space, "chosen", FRA)

    async def others() -> bool:
        quiet = await space.get(AMS, kinds.SERVICE_EXPORT, "quiet")
        plain = await space.get(FRA, kinds.SERVICE_EXPORT, "plain")
        return quiet is None and plain is None

    await stays(others)
    await annotate(space, AMS, kinds.SERVICE, "quiet", auto_export=None)
    await made(space, "quiet")


async def test_an_external_name_and_what_imports_make_are_never_exported(space: Space) -> None:
    """Rules: R2. Specs: -. The derived Service of an import stands in an annotated namespace."""
    await space.offer(FRA)
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="true")
    await space.derived(AMS)
    await space.service(AMS, "outside", ports=(), type="ExternalName", externalName="example.org")
    await space.service(AMS, "last")
    await made(space, "last")

    async def alone() -> bool:
        found = await space.list(AMS, kinds.SERVICE_EXPORT)
        return [one["metadata"]["name"] for one in found] == ["last"]

    await stays(alone)


async def test_a_users_own_export_is_never_touched(space: Space) -> None:
    """Rules: R1. Specs: -. Neither while the annotation asks for one nor when it goes."""
    await space.service(AMS)
    await space.export(AMS)
    before = await space.read(AMS, kinds.SERVICE_EXPORT)
    await space.service(AMS, "other")
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="true")
    await made(space, "other")
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export=None)

    async def withdrawn() -> bool:
        return await space.get(AMS, kinds.SERVICE_EXPORT, "other") is None

    await space.settles(withdrawn, "the export that was made is gone")
    after = await space.read(AMS, kinds.SERVICE_EXPORT)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "labels" not in after["metadata"]


async def test_an_export_that_was_made_goes_with_its_service(space: Space) -> None:
    """Rules: R1, R4. Specs: -."""
    await space.service(AMS, metadata={"annotations": {AUTO: "true"}})
    await made(space)
    await space.everywhere()
    await space.delete(AMS, kinds.SERVICE, "web")
    await space.gone(kinds.SERVICE_EXPORT, clusters=(AMS,))
    await space.gone(kinds.SERVICE_IMPORT)


async def test_a_wrong_value_makes_and_removes_nothing_and_is_named(space: Space) -> None:
    """Rules: -. Specs: -. An Event says which annotation, which value, what is allowed."""
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="true")
    await space.service(AMS)
    first = await made(space)
    await annotate(space, AMS, kinds.NAMESPACE, space.name, auto_export="yes")
    told = await warned(space, AMS, "InvalidAnnotation", "default")
    assert told == f'{AUTO}: "yes" must be "true" or "false"'
    await space.service(AMS, "late")
    await space.service(AMS, "odd", metadata={"annotations": {AUTO: "True"}})
    assert '"True"' in await warned(space, AMS, "InvalidAnnotation")

    async def unchanged() -> bool:
        found = await space.list(AMS, kinds.SERVICE_EXPORT)
        return [one["metadata"]["uid"] for one in found] == [first["metadata"]["uid"]]

    await stays(unchanged)


async def test_an_export_reaches_only_the_clusters_it_names(space: Space) -> None:
    """Rules: R3. Specs: -. The own cluster always imports; who loses the right loses the import."""
    await space.service(AMS)
    await space.endpoints(AMS)
    await space.export(AMS, metadata={"annotations": {EXPORT_TO: NYC}})
    await space.imported(AMS)
    await space.imported(NYC)
    record = await space.world.get("hub", kinds.EXPORTED_SERVICE, f"web.{space.name}", f"isthmus-{AMS}")
    assert record is not None
    assert record["spec"]["exportTo"] == [AMS, NYC]

    async def absent() -> bool:
        return await space.get(FRA, kinds.SERVICE_IMPORT) is None

    await stays(absent)
    assert await space.rcode(FRA, space.host()) == "NXDOMAIN"
    ready = await space.told(AMS, "Ready", "True", "Exported")
    assert NYC in ready["message"]
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", export_to=FRA)
    await space.imported(FRA)
    await space.gone(kinds.SERVICE_IMPORT, clusters=(NYC,))
    await space.slices(NYC, lambda found: not found)
    assert not await space.list(NYC, kinds.ENDPOINT_SLICE)
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", export_to=None)
    await space.everywhere(lambda one: clusters_of(one) == [AMS])


async def test_an_audience_by_label_follows_the_clusters_labels(space: Space) -> None:
    """Rules: R3. Specs: -."""
    label = f"example.com/{space.name}"

    async def labelled(cluster: str, value: str | None) -> None:
        body = {"metadata": {"labels": {label: value}}}
        await space.world.clients["hub"].patch(kinds.CLUSTER, ObjectKey("", cluster), body, manager="admin")

    await space.service(AMS)
    await space.export(AMS, metadata={"annotations": {EXPORT_TO: f"{label}=gold"}})
    await space.imported(AMS)
    await labelled(FRA, "gold")
    await space.imported(FRA)
    await labelled(FRA, "tin")
    await space.gone(kinds.SERVICE_IMPORT, clusters=(FRA, NYC))
    await labelled(FRA, None)


async def test_each_cluster_merges_what_it_may_see(space: Space) -> None:
    """Rules: C1, C2. Specs: -. A withheld export is in no conflict and has no endpoints."""
    await space.offer(FRA)
    await space.service(AMS, headless=True)
    await space.endpoints(AMS)
    await space.export(AMS, metadata={"annotations": {EXPORT_TO: ""}})
    await space.told(AMS, "Conflict", "True", "TypeConflict")
    await space.told(FRA, "Conflict", "False", "NoConflicts")
    for cluster in (FRA, NYC):
        found = await space.imported(cluster)
        assert clusters_of(found) == [FRA]
        slices = await space.slices(cluster)
        assert all(pod(AMS, 1) not in one["endpoints"][0]["addresses"] for one in slices)


async def test_a_wrong_item_is_named_and_the_rest_of_the_export_works_on(space: Space) -> None:
    """Rules: -. Specs: -."""
    await space.service(AMS)
    annotations = {EXPORT_TO: f"FRA,{NYC}", "isthmus.dev/drain": "perhaps", "isthmus.dev/drian": "true"}
    await space.export(AMS, metadata={"annotations": annotations})
    found = await space.told(AMS, "isthmus.dev/AnnotationsAccepted", "False", "InvalidAnnotation")
    for part in (
        '"FRA" must be the name',
        '"perhaps" must be "true" or "false"',
        "isthmus.dev/drian: is unknown",
    ):
        assert part in found["message"]
    await space.imported(NYC)
    await space.told(AMS, "Ready", "True", "Exported")
    assert await space.get(FRA, kinds.SERVICE_IMPORT) is None


async def test_a_drained_export_keeps_its_import_and_gives_its_place_to_others(space: Space) -> None:
    """Rules: R4. Specs: -. Draining takes no slice and no import away; callers go elsewhere."""
    policy = {"strategy": "ActiveActive", "dns": {"answer": "Endpoints"}}
    await space.world.apply(NYC, kinds.POLICY, thing(kinds.POLICY, space.name, "web", spec=policy))
    for cluster in (AMS, FRA):
        await space.offer(cluster)
    both = [pod(cluster, number) for cluster in (AMS, FRA) for number in (1, 2)]
    await space.records(NYC, space.host(), "A", both)
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", drain="true")
    await space.records(NYC, space.host(), "A", [pod(FRA, 1), pod(FRA, 2)])
    for found in await space.everywhere():
        assert clusters_of(found) == [AMS, FRA]
    await space.slices(NYC, lambda found: len(found) == 2)
    await annotate(space, AMS, kinds.SERVICE_EXPORT, "web", drain="false")
    await space.records(NYC, space.host(), "A", both)
