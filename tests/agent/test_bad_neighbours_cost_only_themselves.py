"""A running agent beside a neighbour that says everything wrong, and a Service that flips."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine, thing
from spineservers import Embedded
from spinewaits import settles

from isthmus.api import kinds
from isthmus.mcs.hubobjects import API_VERSION
from isthmus.mcs.limits import MAX_ENDPOINTS

FORBIDDEN = ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"]


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with Spine(tmp_path, Embedded()) as running:
        yield running


async def view(spine: Spine, path: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{spine.agents['eu-1'].console_port}{path}"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            found: dict[str, Any] = await response.json()
            return found
    except aiohttp.ClientError:
        return {}


def said(kind: str, service: str, suffix: str = "", **spec: Any) -> dict[str, Any]:
    """What eu-2 says of a service."""
    name = {"namespace": "isthmus-eu-2", "name": f"{service}.shop{suffix}"}
    base = {"cluster": "eu-2", "service": {"namespace": "shop", "name": service}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": name, "spec": base | spec}


def export(service: str, **spec: Any) -> dict[str, Any]:
    whole = {
        "exportedAt": "2026-01-01T00:00:00Z",
        "ports": [{"name": "http", "port": 80}],
        "ipFamilies": ["IPv4"],
        "type": "ClusterSetIP",
    }
    return said("ExportedService", service, **(whole | spec))


def chunk(service: str, addresses: list[str], number: int = 0, **spec: Any) -> dict[str, Any]:
    listed = [{"id": f"p-{at}-{number}", "addresses": [address]} for at, address in enumerate(addresses)]
    whole = {"ports": [{"name": "http", "port": 8080}], "endpoints": listed}
    return said("ExportedEndpoints", service, f".0-{number}", **(whole | spec))


async def put(spine: Spine, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        kind = {
            "ExportedService": kinds.EXPORTED_SERVICE,
            "ExportedEndpoints": kinds.EXPORTED_ENDPOINTS,
        }[body["kind"]]
        await spine.apply("hub", kind, body)


async def neighbour(spine: Spine) -> None:
    await spine.start("hub", "eu-1")
    await spine.apply("hub", kinds.CLUSTER, thing(kinds.CLUSTER, "", "eu-2"))
    await spine.apply("hub", kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "isthmus-eu-2"))


async def sees(spine: Spine, service: str, endpoints: int, refusals: dict[str, int]) -> None:
    """Waits until the agent counts so many endpoints of a service and refusals of it by reason."""

    async def look() -> bool:
        found = await view(spine, f"/v1/services/shop/{service}")
        reasons = {row["reason"]: row["count"] for row in found.get("refusals", ())}
        return len(found.get("endpoints", ())) == endpoints and reasons == refusals

    await settles(look, f"{service}: {endpoints} endpoints, refused {refusals}", spine.agents["eu-1"].log)


async def test_whatever_a_neighbour_says_wrong_its_good_services_are_used(spine: Spine) -> None:
    await neighbour(spine)
    ports = [{"name": f"p{number}", "port": number + 1} for number in range(100)]
    await put(
        spine,
        export("good"),
        chunk("good", ["10.65.0.1", *FORBIDDEN, "10.65.0.2"]),
        chunk("good", ["10.66.0.1"], 1, cluster="eu-1"),  # speaks for another
        chunk("lonely", ["10.65.0.3"]),  # its service is not there
        export("twice", ports=[*ports[:2], {"name": "p9", "port": 1}]),
        export("wide", ports=ports),
        export("loud", annotations={"a": "x" * 20_000}),
        export("future", algorithm=9, shiny={"new": True}),
        chunk("future", ["10.65.0.4"], algorithm=9),
        # The same endpoint in two chunks that contradict each other.
        export("torn"),
        chunk("torn", ["10.65.0.5"]),
        said("ExportedEndpoints", "torn", ".0-1", endpoints=[{"id": "p-0-0", "addresses": ["10.65.0.6"]}]),
    )
    await sees(spine, "good", 2, {"ForbiddenAddress": 3, "WrongSpeaker": 1})
    await sees(spine, "twice", 0, {"InvalidPorts": 1})
    await sees(spine, "loud", 0, {"InvalidMetadata": 1})
    await sees(spine, "future", 1, {})
    await sees(spine, "torn", 1, {})
    await sees(spine, "wide", 0, {})
    clusters = await view(spine, "/v1/clusters")
    refused = next(row["refused"] for row in clusters["items"] if row["id"] == "eu-2")
    assert refused == {
        "chunks": {"WrongSpeaker": 1},
        "endpoints": {"ForbiddenAddress": 3},
        "services": {"InvalidMetadata": 1, "InvalidPorts": 1},
    }
    listed = await view(spine, "/v1/services")
    assert {row["name"] for row in listed["items"]} == {"good", "wide", "future", "torn"}
    # What is said right again is heard again.
    await put(spine, export("loud"), chunk("good", ["10.65.0.1"]))
    await sees(spine, "loud", 0, {})
    await sees(spine, "good", 1, {"WrongSpeaker": 1})


async def test_more_endpoints_than_a_service_may_have_are_cut_and_its_sibling_is_whole(spine: Spine) -> None:
    await neighbour(spine)
    many = [f"10.{65 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(1, 100_001)]
    chunks = [chunk("crowd", many[at : at + 500], at // 500) for at in range(0, len(many), 500)]
    await put(spine, export("crowd"), *chunks, export("calm"), chunk("calm", ["10.80.0.1"]))
    await sees(spine, "calm", 1, {})
    await sees(spine, "crowd", MAX_ENDPOINTS, {"TooManyEndpoints": 1})


async def test_a_service_whose_type_flips_ends_as_it_was_last_and_leaves_nothing_behind(spine: Spine) -> None:
    """Its export is valid and not valid in turn; nothing piles up and its sibling goes on."""
    await spine.serve("eu-1", "flip")
    await spine.serve("eu-1", "calm")
    await spine.start("hub", "eu-1")
    await sees(spine, "flip", 2, {})
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    for number in range(40):
        external = {"type": "ExternalName", "externalName": "example.com", "ports": ports}
        internal = {"type": "ClusterIP", "selector": {"app": "flip"}, "ports": ports}
        spec = internal if number % 2 else external
        await spine.apply("eu-1", kinds.SERVICE, thing(kinds.SERVICE, "shop", "flip", spec=spec))
    await sees(spine, "flip", 2, {})
    await sees(spine, "calm", 2, {})

    async def valid() -> bool:
        condition = await spine.condition("eu-1", kinds.SERVICE_EXPORT, "flip", "Valid")
        return condition is not None and condition["status"] == "True"

    async def quiet() -> bool:
        url = f"http://127.0.0.1:{spine.agents['eu-1'].console_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            lines = (await response.text()).splitlines()
        waiting = [line for line in lines if line.startswith("isthmus_kube_queue_keys{")]
        return bool(waiting) and all(line.endswith(" 0.0") for line in waiting)

    log = spine.agents["eu-1"].log
    await settles(valid, "the export is valid", log)
    await settles(quiet, "nothing waits to be written", log)
