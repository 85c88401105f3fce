"""CustomResourceDefinitions are brought up to date and never taken back, on servers of either sort."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from isthmus.api import kinds
from isthmus.api.crds import all_crds
from isthmus.api.labels import RELEASE
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.apiserver.faults import Fault
from isthmus.errors import Conflict, NotFound, Unreachable
from isthmus.kube.client import Client
from isthmus.kube.config import Access, load_access
from isthmus.kube.credentials import Files
from isthmus.kube.definition import MANAGER, RELEASES, REVISION, Step, decide, install
from isthmus.kube.raw import raw

MCS_RELEASE = RELEASES[0]
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in all_crds()}
EXPORT = CRDS["ServiceExport"]


def like(crd: dict[str, Any], stored: tuple[str, ...] = ("v1beta1",), **labels: str | None) -> dict[str, Any]:
    """The definition as a server holds it, with other labels (None: without it)."""
    made = copy.deepcopy(crd)
    names = {"release": MCS_RELEASE, "revision": REVISION, "ours": RELEASE}
    for name, value in labels.items():
        made["metadata"]["labels"].pop(names[name], None)
        if value is not None:
            made["metadata"]["labels"][names[name]] = value
    made["status"] = {"storedVersions": list(stored)}
    return made


def versions(crd: dict[str, Any], *names: str) -> dict[str, Any]:
    """The definition with copies of its first version under these names, the last one stored."""
    made = copy.deepcopy(crd)
    first = made["spec"]["versions"][0]
    made["spec"]["versions"] = [{**first, "name": name, "storage": name == names[-1]} for name in names]
    return made


def test_what_is_missing_is_created_and_what_is_equal_is_left() -> None:
    for crd in CRDS.values():
        stored = tuple(version["name"] for version in crd["spec"]["versions"] if version["storage"])
        assert decide(crd, None).step is Step.CREATED
        assert decide(crd, like(crd, stored)).step is Step.UNCHANGED


@pytest.mark.parametrize(
    ("installed", "why"),
    [
        (like(EXPORT, release="v0.6.0"), "its release v0.6.0 is newer than ours, v0.5.2"),
        (like(EXPORT, release="v0.5.10"), "its release v0.5.10 is newer than ours, v0.5.2"),
        (like(EXPORT, release="v1.0.0-rc.1"), "its release v1.0.0-rc.1 is newer than ours, v0.5.2"),
        (like(EXPORT, release="main"), "its release main cannot be compared with ours, v0.5.2"),
        (like(EXPORT, revision="1"), "its schema revision 1 is newer than ours, 0"),
        (like(EXPORT, release="v0.4.1", revision="1"), "its schema revision 1 is newer than ours, 0"),
        (like(EXPORT, revision="new"), "its schema revision new is not a number"),
        (
            like(EXPORT, ("v1beta1", "v1"), release=None, revision=None),
            "objects are stored as v1, which ours does not have",
        ),
        (
            like(versions(EXPORT, "v1beta1", "v1"), ("v1beta1",), release=None),
            "it has the version v1, which is newer than ours",
        ),
        (
            like(versions(EXPORT, "v1beta2"), ("v1beta1",)),
            "it has the version v1beta2, which is newer than ours",
        ),
        (like(CRDS["Cluster"], ("v1alpha1",), ours="v99.0.0"), "its release v99.0.0 is newer than ours, "),
    ],
)
def test_what_is_newer_in_any_respect_is_kept_and_why(installed: dict[str, Any], why: str) -> None:
    ours = CRDS[installed["spec"]["names"]["kind"]]
    outcome = decide(ours, installed)
    assert outcome.step is Step.KEPT
    assert outcome.why.startswith(why)


@pytest.mark.parametrize(
    ("installed", "why"),
    [
        (like(EXPORT, release="v0.5.0"), "from v0.5.0 to v0.5.2"),
        (like(EXPORT, release="v0.5.2-rc.1"), "from v0.5.2-rc.1 to v0.5.2"),
        (like(EXPORT, release="v0.4.1", revision=None), "from v0.4.1 to v0.5.2"),
        (like(versions(EXPORT, "v1alpha1"), ("v1alpha1",), release=None, revision=None), ""),
        (like(versions(EXPORT, "oddity", "v1alpha1"), ("v1alpha1",)), ""),
        (like(CRDS["Cluster"], ("v1alpha1",), ours="v0.0.1"), "from v0.0.1 to v"),
        (like(CRDS["Cluster"], ("v1alpha1",), ours=None), ""),
    ],
)
def test_what_is_older_is_updated(installed: dict[str, Any], why: str) -> None:
    outcome = decide(CRDS[installed["spec"]["names"]["kind"]], installed)
    assert outcome.step is Step.UPDATED
    assert outcome.why.startswith(why)


def test_a_kept_definition_that_does_not_serve_our_version_is_told() -> None:
    newer = like(versions(EXPORT, "v1"), ("v1",))
    assert decide(EXPORT, newer).lacks == "v1beta1"
    assert decide(EXPORT, like(EXPORT, release="v9.0.0")).lacks == ""


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.realapi)])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    """A server without any of our definitions."""
    if request.param == "embedded":
        async with ApiServer([ClusterConfig(name="one")]) as server:
            access = Access(name="one", server=server.url("one"), source=Files(where="one", encrypted=False))
            async with Client(access) as made:
                yield made
        return
    planes = request.getfixturevalue("control_planes")
    planes.clusters("definitions")
    (tmp_path / "kubeconfig").write_text(planes.kubeconfig("definitions"))
    async with Client(load_access(tmp_path / "kubeconfig")) as made:
        for crd in CRDS.values():
            try:
                await made.delete(kinds.CRD, ObjectKey("", crd["metadata"]["name"]))
            except NotFound:
                continue
            while await held(made, crd):
                await asyncio.sleep(0.02)
        yield made


async def held(client: Client, crd: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return await client.get(raw(kinds.CRD), ObjectKey("", crd["metadata"]["name"]))
    except NotFound:
        return None


async def test_everything_is_created_once_and_served_when_the_call_ends(client: Client) -> None:
    made = await install(client, CRDS.values())
    assert {outcome.step for outcome in made} == {Step.CREATED}
    for kind in (kinds.SERVICE_EXPORT, kinds.CLUSTER_PROPERTY, kinds.POLICY, kinds.POLICY_REPORT):
        assert (await client.list_page(kind)).items == []
    before = {name: await held(client, crd) for name, crd in CRDS.items()}
    again = await install(client, CRDS.values())
    assert {outcome.step for outcome in again} == {Step.UNCHANGED}
    assert {name: await held(client, crd) for name, crd in CRDS.items()} == before


async def test_an_older_definition_is_updated_and_its_objects_stay(client: Client) -> None:
    alpha = versions(EXPORT, "v1alpha1")
    alpha["metadata"]["labels"] = {MCS_RELEASE: "v0.4.1"}
    await install(client, [alpha])
    with suppress(Conflict):
        await client.create(kinds.NAMESPACE, {"metadata": {"name": "definitions"}})
    body = {
        "apiVersion": "multicluster.x-k8s.io/v1alpha1",
        "kind": "ServiceExport",
        "metadata": {"name": "web", "namespace": "definitions"},
    }
    old = type(kinds.SERVICE_EXPORT)(
        "multicluster.x-k8s.io", "v1alpha1", "ServiceExport", "serviceexports", True, dict
    )
    await client.create(raw(old), body)
    (outcome,) = await install(client, [EXPORT])
    assert (outcome.step, outcome.why) == (Step.UPDATED, "from v0.4.1 to v0.5.2")
    found = await client.get(kinds.SERVICE_EXPORT, ObjectKey("definitions", "web"))
    assert found.metadata.name == "web"


async def test_an_update_ends_when_the_version_that_came_is_served() -> None:
    async with ApiServer([ClusterConfig(name="one")]) as server:
        access = Access(name="one", server=server.url("one"), source=Files(where="one", encrypted=False))
        faults = server.cluster("one").faults
        discovery = f"*/apis/{EXPORT['spec']['group']}/v1beta1"
        async with Client(access) as client:
            await install(client, [versions(EXPORT, "v1alpha1")])
            faults.set(Fault(kind="error", code=404, paths=(discovery,)))
            with pytest.raises(Unreachable, match=f"{EXPORT['metadata']['name']} is not served after"):
                await install(client, [EXPORT], seconds=0.3)
            faults.set(Fault(kind="error", code=404, paths=(discovery,), count=2))
            (outcome,) = await install(client, [EXPORT])
            assert outcome.step is Step.UNCHANGED
            faults.set(Fault(kind="error", code=403, paths=(discovery,)))
            (outcome,) = await install(client, [EXPORT])
            assert outcome.step is Step.UNCHANGED


async def test_a_definition_that_is_being_deleted_is_installed_when_it_has_gone(client: Client) -> None:
    key = ObjectKey("", EXPORT["metadata"]["name"])
    await install(client, [EXPORT])
    await client.patch(kinds.CRD, key, {"metadata": {"finalizers": ["isthmus.dev/test"]}})
    before = (await client.get(kinds.CRD, key)).metadata.uid
    await client.delete(kinds.CRD, key)
    with pytest.raises(Unreachable, match="is being deleted"):
        await install(client, [EXPORT], seconds=0.2)
    again = asyncio.create_task(install(client, [EXPORT]))
    await client.patch(kinds.CRD, key, {"metadata": {"finalizers": None}})
    assert [outcome.step for outcome in await again] == [Step.CREATED]
    assert (await client.get(kinds.CRD, key)).metadata.uid != before


async def test_a_kept_definition_is_not_waited_for_where_it_lacks_our_version(client: Client) -> None:
    newer = versions(EXPORT, "v1")
    await client.apply(raw(kinds.CRD), newer, manager="somebody")
    (outcome,) = await install(client, [EXPORT])
    assert (outcome.step, outcome.lacks) == (Step.KEPT, "v1beta1")


async def test_a_newer_definition_stays_as_it_is(client: Client) -> None:
    newer = copy.deepcopy(EXPORT)
    newer["metadata"]["labels"][MCS_RELEASE] = "v0.9.0"
    newer["spec"]["names"]["shortNames"] = ["other"]
    await client.apply(raw(kinds.CRD), newer, manager="somebody")
    before = await held(client, EXPORT)
    assert before is not None
    (outcome,) = await install(client, [EXPORT])
    assert (outcome.step, outcome.lacks) == (Step.KEPT, "")
    after = await held(client, EXPORT)
    assert after is not None
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])


class Raced(Client):
    """A client whose first write comes just after somebody else's."""

    first: dict[str, Any] | None = None

    async def apply(self, kind: Any, body: Any, **options: Any) -> Any:
        first, self.first = self.first, None
        if first is not None:
            await super().apply(kind, first, manager="somebody")
        return await super().apply(kind, body, **options)


@pytest.mark.parametrize("before", [None, "v0.5.0"])
async def test_a_newer_one_that_appears_between_look_and_write_is_kept(
    client: Client, before: str | None
) -> None:
    if before is not None:
        older = copy.deepcopy(EXPORT)
        older["metadata"]["labels"][MCS_RELEASE] = before
        await client.apply(raw(kinds.CRD), older, manager="somebody")
    async with Raced(client.access) as raced:
        raced.first = copy.deepcopy(EXPORT)
        raced.first["metadata"]["labels"][MCS_RELEASE] = "v0.9.0"
        (outcome,) = await install(raced, [EXPORT])
    assert outcome.step is Step.KEPT
    found = await held(client, EXPORT)
    assert found is not None
    assert found["metadata"]["labels"][MCS_RELEASE] == "v0.9.0"


async def test_a_definition_of_others_is_brought_up_to_date_whoever_applied_it(client: Client) -> None:
    older = copy.deepcopy(EXPORT)
    older["metadata"]["labels"][MCS_RELEASE] = "v0.5.0"
    older["spec"]["versions"][1]["additionalPrinterColumns"] = []
    await client.apply(raw(kinds.CRD), older, manager="somebody")
    (outcome,) = await install(client, [EXPORT])
    assert outcome.step is Step.UPDATED
    found = await client.get(raw(kinds.CRD, managed_fields=True), ObjectKey("", EXPORT["metadata"]["name"]))
    assert found["spec"]["versions"][1]["additionalPrinterColumns"]
    assert MANAGER in {entry["manager"] for entry in found["metadata"]["managedFields"]}
