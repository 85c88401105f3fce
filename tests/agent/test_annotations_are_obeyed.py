"""What is spared, made, held and told because of annotations, from tables alone."""

from __future__ import annotations

from typing import Any

from fedtables import HERE, Fed, settles

from isthmus.agent.notices import Notices, event
from isthmus.agent.outputs import Outputs
from isthmus.api import kinds, labels
from isthmus.api.meta import ObjectKey
from isthmus.flow import Graph
from isthmus.kube.applier import ObjectRef
from isthmus.kube.raw import unpack
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.mcs.serviceimport import derived_name
from isthmus.model.names import ServiceKey
from isthmus.model.refusal import Refused

ME = HERE.cluster
WEB, KEY = ObjectKey("shop", "web"), ServiceKey("shop", "web")
DERIVED = derived_name(KEY)
RECORD = ObjectRef(kinds.EXPORTED_SERVICE, hub_namespace(ME), "web.shop")
IMPORT = ObjectRef(kinds.SERVICE_IMPORT, *WEB)


class World(Fed):
    """What an agent reads and wants; objects are put as Kubernetes writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = Outputs(self.chain)
        self.refused = self.feed(self.outputs.member_refused)
        self.notices = Notices(
            self.member, self.chain.services, self.outputs.member_refused, self.outputs.held
        )
        for table in (self.outputs.asked, self.outputs.hub_refused):
            self.feed(table)
        self.graph = Graph([*self.outputs.tables, *self.notices.tables])
        self.put("member", kinds.NAMESPACE, ObjectKey("", "shop"))
        self.put("member", kinds.SERVICE, WEB, spec={"clusterIP": "10.0.0.1", "ports": [{"port": 80}]})

    def export(self, **annotations: str) -> None:
        self.put("member", kinds.SERVICE_EXPORT, WEB, metadata={"annotations": named(annotations)})

    def imported(self, who: str = labels.MANAGER, **annotations: str) -> None:
        meta = {"labels": {labels.MANAGED_BY: who}, "annotations": named(annotations)}
        self.put(
            "member", kinds.SERVICE_IMPORT, WEB, metadata=meta, spec={"type": "ClusterSetIP", "ports": []}
        )

    def told(self) -> dict[str, str]:
        return {reason: notice.message for (_, reason), notice in self.notices.rows.items()}


def named(annotations: dict[str, str]) -> dict[str, str]:
    return {f"isthmus.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}


async def test_what_is_detached_is_spared_until_everything_was_computed_without_it() -> None:
    world = World()
    world.export()
    async with world.running():
        await settles(lambda: RECORD in world.outputs.hub)
        written = {"kind": "ExportedService", **unpack(world.outputs.hub.get(RECORD))}
        assert not world.outputs.let_go.spares_hub(written)
        world.put(
            "hub", kinds.EXPORTED_SERVICE, ObjectKey(RECORD.namespace, RECORD.name), spec=written["spec"]
        )
        world.export(detach="true")
        assert world.outputs.let_go.spares_hub(written), "at once, before anything was computed"
        await settles(lambda: RECORD not in world.outputs.hub)
        world.writers["member/services"].drop(WEB)
        other = ObjectKey("shop", "other")
        world.put("member", kinds.SERVICE, other, spec={"clusterIP": "10.0.0.2", "ports": [{"port": 80}]})
        world.put("member", kinds.SERVICE_EXPORT, other)
        await settles(lambda: ServiceKey(*other) in world.chain.services)
        assert KEY in world.chain.services, "it counts as the hub has it"
        assert list(world.outputs.let_go.objects) == [("ServiceExport", WEB)]
        world.put("member", kinds.SERVICE, WEB, spec={"clusterIP": "10.0.0.1", "ports": [{"port": 80}]})
        world.export()
        assert RECORD not in world.outputs.hub
        assert world.outputs.let_go.spares_hub(written), "it is wanted again, and nobody knows yet"
        await settles(lambda: not world.outputs.let_go.spares_hub(written))
        assert RECORD in world.outputs.hub


async def test_all_that_belongs_to_a_detached_import_is_spared_and_nothing_else() -> None:
    world = World()
    world.export()
    world.imported(detach="true")
    owner = {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceImport",
        "name": "web",
        "uid": "u",
    }
    world.put(
        "member",
        kinds.SERVICE,
        ObjectKey("shop", DERIVED),
        metadata={"labels": {labels.MANAGED_BY: labels.MANAGER}, "ownerReferences": [owner]},
    )
    above = {"apiVersion": "v1", "kind": "Service", "name": DERIVED, "uid": "u"}
    parts: list[dict[str, Any]] = [
        {"kind": "ServiceImport", "metadata": {"name": "web"}},
        {"kind": "Service", "metadata": {"name": DERIVED, "ownerReferences": [owner]}},
        {"kind": "EndpointSlice", "metadata": {"name": "a", "labels": {labels.IMPORT_NAME: "web"}}},
        {"kind": "EndpointSlice", "metadata": {"name": "b", "ownerReferences": [above]}},
    ]
    async with world.running():
        await settles(lambda: world.outputs.member.synced and KEY in world.chain.services)
        for part in parts:
            part["metadata"]["namespace"] = "shop"
            assert world.outputs.let_go.spares_member(part)
            part["metadata"]["namespace"] = "other"
            assert not world.outputs.let_go.spares_member(part)
        assert not [ref for ref in world.outputs.member if ref.kind is not kinds.SERVICE_EXPORT]
        unheard = {"kind": "ServiceImport", "metadata": {"namespace": "shop", "name": "other"}}
        assert not world.outputs.let_go.spares_member(unheard)
        unheard["metadata"]["annotations"] = named({"detach": "true"})
        assert world.outputs.let_go.spares_member(unheard), "who writes may have heard first"


async def test_a_held_import_gets_a_derived_service_and_no_write_of_ours() -> None:
    world = World()
    world.export()
    world.imported("other-mcs")
    async with world.running():
        await settles(lambda: "ImportHeld" in world.told())
        assert "held by other-mcs" in world.told()["ImportHeld"]
        refs = {(ref.kind.kind, ref.name, ref.subresource) for ref in world.outputs.member}
        assert ("Service", DERIVED, "") in refs
        assert ("ServiceImport", "web", "status") not in refs
        world.imported("other-mcs", adopt="true")
        await settles(lambda: "ImportHeld" not in world.told())
        world.imported()
        await settles(lambda: IMPORT._replace(subresource="status") in world.outputs.member)


async def test_a_taken_name_and_wrong_annotations_are_told_as_long_as_they_last() -> None:
    world = World()
    world.export()
    world.imported(detach="maybe", drain="true")
    world.put(
        "member",
        kinds.NAMESPACE,
        ObjectKey("", "shop"),
        metadata={"annotations": named({"auto_export": "1"})},
    )
    world.refused.put(
        ObjectRef(kinds.SERVICE, "shop", DERIVED), Refused(reason="Foreign", message="Service x is not ours")
    )
    async with world.running():
        await settles(lambda: "DerivedServiceTaken" in world.told() and len(world.notices.rows) == 3)
        messages = {(ref.kind.kind, reason): row.message for (ref, reason), row in world.notices.rows.items()}
        told = messages["ServiceImport", "InvalidAnnotation"]
        assert '"maybe"' in told
        assert "isthmus.dev/drain: means nothing on a ServiceImport" in told
        assert messages["Namespace", "InvalidAnnotation"].startswith('isthmus.dev/auto-export: "1" must')
        world.refused.replace({})
        world.imported()
        world.put("member", kinds.NAMESPACE, ObjectKey("", "shop"))
        await settles(lambda: len(world.notices.rows) == 0)


async def test_exports_are_made_where_annotations_ask_and_no_user_has_one() -> None:
    world = World()
    ref = ObjectRef(kinds.SERVICE_EXPORT, *WEB)
    space = ObjectKey("", "shop")
    async with world.running():
        await settles(lambda: world.outputs.exports.synced)
        world.put("member", kinds.NAMESPACE, space, metadata={"annotations": named({"auto_export": "true"})})
        await settles(lambda: ref in world.outputs.exports)
        made = world.outputs.exports.get(ref)
        assert made is not None
        world.put("member", kinds.SERVICE_EXPORT, WEB, metadata=made["metadata"])
        world.put("member", kinds.NAMESPACE, space, metadata={"annotations": named({"auto_export": "yes"})})
        await settles(lambda: "InvalidAnnotation" in world.told())
        assert ref in world.outputs.exports, "unclear: what is there stays"
        world.export()
        await settles(lambda: ref not in world.outputs.exports)
        world.put("member", kinds.NAMESPACE, space, metadata={"annotations": named({"auto_export": "true"})})
        await settles(lambda: "InvalidAnnotation" not in world.told())
        assert ref not in world.outputs.exports, "the user's own"


async def test_the_same_notice_has_the_same_event_and_another_has_another() -> None:
    world = World()
    world.export()
    world.imported("other-mcs")
    async with world.running():
        await settles(lambda: "ImportHeld" in world.told())
        ((ref, _), notice), *_ = world.notices.rows.items()
        first, later = event(ref, notice, 0.0), event(ref, notice, 3600.0)
        assert first["metadata"] == later["metadata"]
        assert first["involvedObject"]["uid"] == notice.uid
        other = type(notice)(uid="new", reason=notice.reason, message=notice.message)
        assert event(ref, other, 0.0)["metadata"]["name"] != first["metadata"]["name"]
        long = type(notice)(uid="u", reason="r", message="x" * 5000)
        assert len(event(ref, long, 0.0)["message"]) == 1024
