"""The thin line through every floor, with the real processes: objects in, imports, slices and answers out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from isthmus.agent.lastgood import LastGood
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import EVERYBODY, PATIENT, WEB, Spine, answers, both_serve, endpoints, kill, pods, thing
from spineservers import settles
from spinewaits import rests


async def test_an_export_reaches_the_imports_slices_and_answers_of_every_member(spine: Spine) -> None:
    await both_serve(spine)
    for cluster in ("eu-1", "eu-2"):

        async def imported(cluster: str = cluster) -> dict[str, Any] | None:
            ready = await spine.condition(cluster, kinds.SERVICE_IMPORT, "web", "Ready")
            found = await spine.get(cluster, kinds.SERVICE_IMPORT, "web")
            both = len((found or {}).get("status", {}).get("clusters", ())) == 2
            return found if both and ready and ready["status"] == "True" else None

        found = await settles(imported, f"a ready import of both in {cluster}")
        assert found["spec"]["type"] == "ClusterSetIP"
        assert [(port["name"], port["port"]) for port in found["spec"]["ports"]] == [("http", 80)]
        assert [one["cluster"] for one in found["status"]["clusters"]] == ["eu-1", "eu-2"]
        derived = found["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
        service = await spine.get(cluster, kinds.SERVICE, derived)
        assert service is not None
        assert service["spec"]["clusterIPs"] == found["spec"]["ips"]

        async def slices(cluster: str = cluster, derived: str = derived) -> bool:
            every = await spine.everything(cluster, kinds.ENDPOINT_SLICE)
            sources = {
                one["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"]: one["endpoints"]
                for one in every
                if one["metadata"]["labels"].get("multicluster.kubernetes.io/service-name") == "web"
            }
            own = [
                one for one in every if one["metadata"]["labels"].get("kubernetes.io/service-name") == derived
            ]
            return {name: len(found) for name, found in sources.items()} == {"eu-1": 2, "eu-2": 2} and bool(
                own
            )

        await settles(slices, f"one imported slice per source and the derived Service's own in {cluster}")
        for wanted, status in (("Valid", "True"), ("Ready", "True"), ("Conflict", "False")):

            async def told(cluster: str = cluster, wanted: str = wanted, status: str = status) -> bool:
                found = await spine.condition(cluster, kinds.SERVICE_EXPORT, "web", wanted)
                return found is not None and found["status"] == status

            await settles(told, f"{wanted}={status} in {cluster}")


async def test_unexporting_everywhere_removes_imports_slices_and_names(spine: Spine) -> None:
    await both_serve(spine)
    for cluster in ("eu-1", "eu-2"):
        await spine.clients[cluster].delete(kinds.SERVICE_EXPORT, ObjectKey("shop", "web"))
    await answers(spine, "eu-1", [])

    async def clean() -> bool:
        left = [
            one["metadata"]["name"]
            for cluster in ("eu-1", "eu-2")
            for kind in (kinds.SERVICE_IMPORT, kinds.ENDPOINT_SLICE, kinds.SERVICE)
            for one in await spine.everything(cluster, kind)
            if one["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "isthmus"
        ]
        on_hub = await spine.everything("hub", kinds.EXPORTED_SERVICE)
        return not left and not on_hub

    await settles(clean, "no import, slice, derived Service or hub object is left")


async def test_a_changed_endpoint_reaches_the_other_cluster(spine: Spine) -> None:
    await both_serve(spine)
    await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", ["10.65.0.9"]))
    await answers(spine, "eu-1", [*pods("eu-1"), "10.65.0.9"])


async def test_what_cannot_be_exported_says_why_and_stops_nothing_else(spine: Spine) -> None:
    await spine.apply("eu-1", kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, "shop", "nothing"))
    external = {"type": "ExternalName", "externalName": "example.org"}
    await spine.apply("eu-1", kinds.SERVICE, thing(kinds.SERVICE, "shop", "outside", spec=external))
    await spine.apply("eu-1", kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, "shop", "outside"))
    odd = {"annotations": {"isthmus.dev/drain": "perhaps"}}
    await spine.apply(
        "eu-1", kinds.SERVICE, thing(kinds.SERVICE, "shop", "odd", spec={"ports": [{"port": 80}]})
    )
    await spine.apply("eu-1", kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, "shop", "odd", metadata=odd))
    wrong = thing(kinds.POLICY, "shop", "web", spec={"strategy": "FailOver", "overridable": True})
    await spine.apply("eu-2", kinds.POLICY, wrong)
    await both_serve(spine)
    expected = [
        ("eu-1", kinds.SERVICE_EXPORT, "nothing", "Valid", "NoService"),
        ("eu-1", kinds.SERVICE_EXPORT, "outside", "Valid", "InvalidServiceType"),
        ("eu-1", kinds.SERVICE_EXPORT, "odd", "isthmus.dev/AnnotationsAccepted", "InvalidAnnotation"),
    ]
    for cluster, kind, name, condition, reason in expected:

        async def told(
            cluster: str = cluster, kind: Any = kind, name: str = name, condition: str = condition
        ) -> dict[str, Any] | None:
            found = await spine.condition(cluster, kind, name, condition)
            return found if found and found["status"] == "False" else None

        found = await settles(told, f"{condition}=False on {name}")
        assert found["reason"] == reason
        assert found["message"]

    async def refused() -> dict[str, Any] | None:
        return await spine.condition("eu-2", kinds.POLICY, "web", "Accepted")

    found = await settles(refused, "Accepted on a member's policy that is overridable")
    assert found["status"] == "False"
    assert "spec.overridable" in found["message"]


async def test_a_killed_control_process_is_back_and_nobody_went_without_answers(spine: Spine) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]
    before = {name: agent.pid(name) for name in ("control", "dns-0", "xds-0")}
    kill(before["control"])

    async def back() -> bool:
        assert await agent.addresses(WEB, seconds=PATIENT) == EVERYBODY
        return agent.pid("control") != before["control"]

    await settles(back, "control has a new pid, answers stay")
    await spine.apply("eu-2", kinds.ENDPOINT_SLICE, endpoints("eu-2", "web", ["10.65.0.9"]))
    await answers(spine, "eu-1", [*pods("eu-1"), "10.65.0.9"])
    assert {name: agent.pid(name) for name in ("dns-0", "xds-0")} == {
        name: before[name] for name in ("dns-0", "xds-0")
    }


async def test_an_agent_starts_from_last_good_inputs_without_hub_and_api_server(spine: Spine) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]

    async def saved() -> bool:
        async with LastGood(agent.state_dir / "last-good.db") as store:
            services = await store.load("hub/exportedservices", kinds.EXPORTED_SERVICE)
            found = await store.load("hub/exportedendpoints", kinds.EXPORTED_ENDPOINTS)
        return bool(services and found) and (len(services[1]), len(found[1])) == (2, 2)

    await settles(saved, "what both clusters export stands in the last-good store")
    assert await agent.stop() == 0
    for cluster in ("hub", "eu-1"):
        spine.servers.silence(cluster)
    await agent.start()
    await answers(spine, "eu-1", EVERYBODY)


async def test_a_restart_writes_nothing_when_nothing_changed(spine: Spine) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]

    async def versions() -> dict[str, str]:
        found = {}
        for cluster, kind in (
            ("eu-1", kinds.SERVICE_IMPORT),
            ("eu-1", kinds.SERVICE_EXPORT),
            ("eu-1", kinds.SERVICE),
            ("eu-1", kinds.ENDPOINT_SLICE),
            ("hub", kinds.EXPORTED_SERVICE),
            ("hub", kinds.EXPORTED_ENDPOINTS),
            ("hub", kinds.POLICY_REPORT),
            ("eu-1", kinds.POLICY),
        ):
            for one in await spine.everything(cluster, kind):
                metadata = one["metadata"]
                found[f"{kind.kind} {metadata['namespace']}/{metadata['name']}"] = metadata["resourceVersion"]
        return found

    async def recorded() -> bool:
        export = await spine.get("eu-1", kinds.SERVICE_EXPORT, "web")
        return export is not None and "isthmus.dev/exported-at" in export["metadata"].get("annotations", {})

    await settles(recorded, "the export's age in the hub's clock")
    before = await rests(versions, "objects that do not change any more")
    assert await agent.stop() == 0
    await agent.start()
    await answers(spine, "eu-1", EVERYBODY)
    await spine.apply("eu-1", kinds.SERVICE_EXPORT, thing(kinds.SERVICE_EXPORT, "shop", "probe"))

    async def writes_again() -> bool:
        return await spine.condition("eu-1", kinds.SERVICE_EXPORT, "probe", "Valid") is not None

    await settles(writes_again, "the restarted agent writes")
    after = await versions()
    assert after.pop("ServiceExport shop/probe")
    assert after == before
