"""A running agent tells monitoring about all of its parts, and a large world does not add series."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine, thing
from spineservers import Embedded
from spinewaits import settles

from isthmus.agent import workerstats
from isthmus.agent.metrics import METRICS
from isthmus.api import kinds
from isthmus.mcs.hubobjects import exported_endpoints, exported_service
from isthmus.model.names import ClusterId, EndpointId, ServiceKey
from isthmus.model.service import Endpoint, EndpointPort, Export, Port, Protocol, ServiceType

Numbers = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
MANY = 1_000
ABSENT_AT_FIRST = {"isthmus_mcs_refused"}
"""Families that have series only while something is wrong."""


@pytest.fixture
async def spine(tmp_path: Path) -> AsyncIterator[Spine]:
    async with Spine(tmp_path, Embedded()) as running:
        yield running


async def scrape(spine: Spine) -> Numbers:
    url = f"http://127.0.0.1:{spine.agents['eu-1'].console_port}/metrics"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            text = await response.text()
    except aiohttp.ClientError:
        return {}
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith("isthmus_")
    }


async def shows(spine: Spine, wanted: Mapping[str, float], **labels: str) -> Numbers:
    """Waits until these metrics with these labels have these values."""

    async def look() -> Numbers | None:
        found = await scrape(spine)
        key = tuple(sorted(labels.items()))
        return found if all(found.get((name, key)) == value for name, value in wanted.items()) else None

    return await settles(look, f"{dict(wanted)} of {labels}", spine.agents["eu-1"].log)


def offer(number: int, addresses: int = 1) -> list[tuple[Any, dict[str, Any]]]:
    """What eu-2 would write on the hub for one service."""
    cluster, key = ClusterId("eu-2"), ServiceKey("shop", f"many-{number}")
    http = Port(name="http", protocol=Protocol.TCP, port=80)
    export = Export(cluster=cluster, key=key, created=1.7e9, type=ServiceType.CLUSTER_SET_IP, ports=(http,))
    target = EndpointPort(name="http", protocol=Protocol.TCP, port=8080)
    endpoints = [
        Endpoint(
            id=EndpointId(f"p{at}"),
            cluster=cluster,
            region="eu",
            zone="",
            addresses=(f"10.65.{number % 250}.{at + 1}",),
            ports=(target,),
        )
        for at in range(addresses)
    ]
    chunks = exported_endpoints(key, cluster, endpoints).values()
    return [
        (kinds.EXPORTED_SERVICE, exported_service(export)),
        *((kinds.EXPORTED_ENDPOINTS, chunk) for chunk in chunks),
    ]


async def put(spine: Spine, *numbers: int) -> None:
    for number in numbers:
        for kind, body in offer(number):
            await spine.apply("hub", kind, body)


async def test_every_part_of_an_agent_is_measured(spine: Spine) -> None:
    await spine.serve("eu-1", "web")
    await spine.start("hub", "eu-1")
    found = await shows(spine, {"isthmus_mcs_services": 1, "isthmus_kube_lease_held": 1})
    found = await shows(
        spine, {"isthmus_kube_writes_total": 1}, writer="hub", kind="ExportedService", result="accepted"
    )
    for process in ("dns-0", "xds-0"):
        found = await shows(spine, {"isthmus_flow_replica_ready": 1}, process=process)
    names = {name for name, _ in found}
    families = (*METRICS, *workerstats.METRICS)
    missing = {
        family.name
        for family in families
        if not any(name.startswith(family.name) for name in names) and family.name not in ABSENT_AT_FIRST
    }
    assert not missing
    for process in ("control", "dns-0", "xds-0"):
        key = (("process", process),)
        assert found["isthmus_process_resident_bytes", key] > 1 << 20
        assert found["isthmus_process_cpu_seconds_total", key] > 0
        assert ("isthmus_process_loop_lag_seconds_count", key) in found
    by_table = {
        dict(labels)["table"]: value
        for (name, labels), value in found.items()
        if name == "isthmus_kube_lists_total"
    }
    assert {"member/services", "hub/exportedservices"} <= by_table.keys()
    assert found["isthmus_doors_workers", ()] == found["isthmus_doors_workers_expected", ()] == 2
    assert found["isthmus_mcs_exports", (("state", "offered"),)] == 1


async def test_what_is_wrong_with_a_neighbour_shows_by_cluster_and_reason(spine: Spine) -> None:
    await spine.serve("eu-1", "web")
    await spine.start("hub", "eu-1")
    await shows(spine, {"isthmus_mcs_services": 1})
    await spine.apply("hub", kinds.CLUSTER, thing(kinds.CLUSTER, "", "eu-2"))
    await spine.apply("hub", kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "isthmus-eu-2"))
    for kind, body in offer(1, addresses=2):
        if kind is kinds.EXPORTED_ENDPOINTS:
            body["spec"]["endpoints"][1]["addresses"] = ["127.0.0.1"]
        await spine.apply("hub", kind, body)
    labels = {"cluster": "eu-2", "what": "endpoints", "reason": "ForbiddenAddress"}
    await shows(spine, {"isthmus_mcs_refused": 1}, **labels)
    await put(spine, 1)
    key = ("isthmus_mcs_refused", tuple(sorted(labels.items())))

    async def gone() -> bool:
        return key not in await scrape(spine)

    await settles(gone, "nothing is refused any more", spine.agents["eu-1"].log)


async def test_a_thousand_services_add_no_series(spine: Spine) -> None:
    """What may grow is the requests' table, by verbs and codes, and it does not name a service."""
    await spine.start("hub", "eu-1")
    await shows(spine, {"isthmus_kube_lease_held": 1, "isthmus_mcs_services": 0})
    await spine.apply("hub", kinds.CLUSTER, thing(kinds.CLUSTER, "", "eu-2"))
    await spine.apply("hub", kinds.NAMESPACE, thing(kinds.NAMESPACE, "", "isthmus-eu-2"))
    await put(spine, 0)
    await shows(spine, {"isthmus_mcs_services": 1})
    for process in ("dns-0", "xds-0"):  # a worker's numbers come once a second
        before = await shows(spine, {"isthmus_flow_replica_ready": 1}, process=process)
    await put(spine, *range(1, MANY))
    after = await shows(spine, {"isthmus_mcs_services": MANY})
    added = {name for name, _ in after.keys() - before.keys()}
    assert added <= {"isthmus_kube_requests_total"}
    assert len(after) - len(before) < 50
    assert not any("many-" in value for _, labels in after for _, value in labels)
