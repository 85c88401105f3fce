"""A server that does not know the newer traffic distributions gets derived Services all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.kube.applier import Applier, ObjectRef
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.kube.raw import raw
from isthmus.mcs import serviceimport
from isthmus.mcs.conflict import merge
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.service import AddressFamily, Export, Port, Protocol, ServiceType

OLDER = "PreferSameTrafficDistribution=false"
EXPORT = Export(
    cluster=ClusterId("eu-1"),
    key=ServiceKey("default", "cart"),
    created=0.0,
    type=ServiceType.CLUSTER_SET_IP,
    ports=(Port(name="http", protocol=Protocol.TCP, port=80, app_protocol=""),),
    ip_families=(AddressFamily.IPV4,),
)
NAME = serviceimport.derived_name(EXPORT.key)


def derived(export: Export) -> dict[str, Any]:
    """Without its owner, which is not there: the garbage collector would take it for left behind."""
    service = merge([export])
    assert service is not None
    wanted = serviceimport.derived_service(service, "u")
    assert wanted is not None
    del wanted["metadata"]["ownerReferences"]
    return wanted


@pytest.mark.realapi
@pytest.mark.parametrize("distribution", ["PreferClose", "PreferSameZone", "PreferSameNode"])
async def test_a_derived_service_asks_an_older_server_for_what_it_knows(
    request: pytest.FixtureRequest, tmp_path: Path, distribution: str
) -> None:
    planes = request.getfixturevalue("control_planes")
    planes.clusters("older", gates=OLDER)
    (tmp_path / "kubeconfig").write_text(planes.kubeconfig("older"))
    desired: Table[ObjectRef, Any] = Table("desired")
    observed: Table[ObjectKey, Any] = Table("observed")
    observed.partition("nobody").replace({})
    ref = ObjectRef(kinds.SERVICE, "default", NAME)
    rows = desired.partition("test")
    rows.replace({ref: derived(replace(EXPORT, traffic_distribution=distribution))})
    async with Client(load_access(tmp_path / "kubeconfig")) as client:
        applier = Applier(
            client,
            "test",
            desired,
            {kinds.SERVICE: observed},
            gate=lambda: True,
            plainer=serviceimport.plainer,
        )
        running = asyncio.create_task(applier.run())
        try:
            async with asyncio.timeout(60):
                while not applier.writes:
                    assert not applier.refused
                    await asyncio.sleep(0.02)
            found = await client.get(raw(kinds.SERVICE), ObjectKey("default", NAME))
            await client.delete(kinds.SERVICE, ObjectKey("default", NAME))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert found["spec"]["trafficDistribution"] == "PreferClose"
    assert found["spec"]["clusterIP"]
