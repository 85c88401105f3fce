"""What an agent that starts takes for a hub that has lost something, from what it read last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from isthmus.agent import continuity
from isthmus.agent.continuity import CLUSTERS, broken, lost
from isthmus.agent.lastgood import LastGood
from isthmus.api import crds, hub, kinds
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig, Fault
from isthmus.flow import Table
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files

EU_1, EU_2 = ObjectKey("", "eu-1"), ObjectKey("", "eu-2")


def cluster(name: str, uid: str, version: str = "7") -> hub.Cluster:
    metadata = {"name": name, "uid": uid, "resourceVersion": version}
    return msgspec.convert({"metadata": metadata}, hub.Cluster)


KNOWN = {EU_1: cluster("eu-1", "a"), EU_2: cluster("eu-2", "b")}


@pytest.mark.parametrize(
    ("uids", "version", "why"),
    [
        pytest.param({EU_1: "a", EU_2: "b"}, "100", "", id="as it was"),
        pytest.param({EU_1: "a", EU_2: "b", ObjectKey("", "new"): "c"}, "101", "", id="a joiner"),
        pytest.param({EU_1: "a", EU_2: "b"}, "opaque", "", id="versions that are no numbers"),
        pytest.param({}, "3", "not registered any more", id="empty"),
        pytest.param({EU_1: "a"}, "101", "eu-2 is not registered any more", id="a member is missing"),
        pytest.param({EU_1: "a", EU_2: "z"}, "101", "eu-2 was registered anew", id="another object"),
        pytest.param({EU_1: "a", EU_2: "b"}, "99", "version 99 lies before 100", id="an old backup"),
    ],
)
def test_a_hub_has_lost_something_where_members_or_versions_are_not_what_they_were(
    uids: dict[ObjectKey, str], version: str, why: str
) -> None:
    assert why in (found := lost(KNOWN, 100, uids, version))
    assert bool(found) is bool(why)


async def write(store: LastGood, rows: dict[ObjectKey, hub.Cluster]) -> None:
    """What an agent keeps that has read these Cluster objects."""
    table: Table[ObjectKey, hub.Cluster] = Table(CLUSTERS)
    table.partition("test").replace(rows)
    task = asyncio.create_task(store.follow(CLUSTERS, table))
    async with asyncio.timeout(60):
        while await store.load(CLUSTERS, kinds.CLUSTER) is None:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])


async def test_a_start_asks_the_hub_before_it_believes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuity, "ANSWER_SECONDS", 60.0)
    async with ApiServer([ClusterConfig(name="hub")]) as server:
        access = Access(name="hub", server=server.url("hub"), source=Files(where="hub", encrypted=False))
        async with Client(access) as client:
            for crd in crds.hub_crds():
                await client.create(kinds.CRD, crd)
            body = {"apiVersion": kinds.CLUSTER.api_version, "kind": "Cluster", "metadata": {"name": "eu-1"}}
            now = await client.create(kinds.CLUSTER, body)
            cases = {
                "as it was": (now, False),
                "another object": (cluster("eu-1", "before"), True),
                "newer then": (cluster("eu-1", now.metadata.uid, version=str(10**18)), True),
            }
            for name, (row, doubtful) in cases.items():
                async with LastGood(tmp_path / name) as store:
                    await write(store, {EU_1: row})
                    assert await broken(client, store) is doubtful, name
            server.cluster("hub").faults.set(Fault(kind="error"))
            async with LastGood(tmp_path / "as it was") as store:
                assert await broken(client, store), "nobody says that it is what it was"


async def test_an_agent_that_has_read_no_hub_before_doubts_none(tmp_path: Path) -> None:
    access = Access(name="hub", server="http://127.0.0.1:1", source=Files(where="hub", encrypted=False))
    async with Client(access) as client, LastGood(tmp_path / "last-good.db") as store:
        assert not await broken(client, store)
