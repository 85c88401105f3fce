"""Only members are heard, and of them only what is for this cluster; the Cluster object says who it is."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from fedtables import HERE, Fed, settles

from isthmus.agent.chain import OWN as STANDING
from isthmus.api import hub
from isthmus.api.meta import ObjectKey, ObjectMeta
from isthmus.flow import Graph
from isthmus.mcs.hubobjects import exported_service, hub_namespace
from isthmus.model.cluster import Phase, Standing
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.service import Audience, Export, Port, Protocol, ServiceType

OWN, FAR = ClusterId("eu-1"), ClusterId("us-1")
FAR_ENTRY = ObjectKey("", FAR)
KEY = ServiceKey("shop", "web")
EXPORT = Export(
    cluster=FAR,
    key=KEY,
    created=1_767_323_045.0,
    type=ServiceType.CLUSTER_SET_IP,
    ports=(Port(name="http", protocol=Protocol.TCP, port=80),),
)


class World(Fed):
    """An agent's chain that hears one other cluster."""

    def __init__(self, grace: float = 60.0) -> None:
        super().__init__(replace(HERE, grace=grace))
        self.graph = Graph([self.chain.services, self.chain.endpoints])
        self.clusters, self.exports = self.writers["hub/clusters"], self.writers["hub/exportedservices"]
        self.clusters.replace({FAR_ENTRY: hub.Cluster(metadata=ObjectMeta(name=FAR))})

    def exported(self, audience: Audience | None) -> None:
        body = exported_service(replace(EXPORT, audience=audience))
        key = ObjectKey(hub_namespace(FAR), body["metadata"]["name"])
        self.exports.put(key, msgspec.convert(body, hub.ExportedService))

    def labelled(self, region: str, **own: str) -> None:
        found = hub.Cluster(metadata=ObjectMeta(name=OWN, labels=own), spec=hub.ClusterSpec(region=region))
        self.clusters.put(ObjectKey("", OWN), found)

    @property
    def imported(self) -> bool:
        return KEY in self.chain.services


async def test_an_export_without_an_audience_is_for_everybody() -> None:
    world = World()
    world.exported(None)
    async with world.running():
        await settles(lambda: world.imported)
        assert world.chain.admission.withheld(KEY) == ()


async def test_an_export_appears_and_vanishes_with_its_audience() -> None:
    world = World()
    world.exported(Audience(clusters=(ClusterId("ap-1"),)))
    async with world.running():
        await settles(lambda: world.chain.services.synced)
        assert not world.imported
        assert world.chain.admission.withheld(KEY) == (FAR,)
        world.exported(Audience(clusters=(OWN,)))
        await settles(lambda: world.imported)
        assert world.chain.admission.withheld(KEY) == ()
        world.exported(Audience())
        await settles(lambda: not world.imported)


async def test_a_changed_label_or_region_of_the_own_cluster_counts_at_once() -> None:
    world = World()
    world.exported(Audience(labels=(("region", "ap"), ("tier", "gold"))))
    async with world.running():
        await settles(lambda: world.chain.services.synced)
        assert not world.imported
        world.labelled("eu", tier="gold")
        await settles(lambda: world.imported)
        world.labelled("eu")
        await settles(lambda: not world.imported)
        world.labelled("ap")
        await settles(lambda: world.imported)


async def test_before_the_hub_knows_the_cluster_its_configured_region_counts() -> None:
    world = World()
    world.exported(Audience(labels=(("region", "eu"),)))
    async with world.running():
        await settles(lambda: world.imported)


async def test_a_namespace_without_a_cluster_counts_for_nothing() -> None:
    world = World()
    world.clusters.drop(FAR_ENTRY)
    world.exported(None)
    async with world.running():
        await settles(lambda: world.chain.services.synced)
        assert not world.imported
        world.clusters.put(FAR_ENTRY, hub.Cluster(metadata=ObjectMeta(name=FAR)))
        await settles(lambda: world.imported)


async def test_a_cluster_whose_object_is_deleted_counts_for_a_while() -> None:
    world = World(grace=3600.0)
    world.exported(None)
    async with world.running():
        await settles(lambda: world.imported)
        computed = world.chain.clusters.computed
        world.clusters.drop(FAR_ENTRY)
        await settles(lambda: world.chain.clusters.computed > computed)
        assert FAR in world.chain.clusters
        assert world.imported


async def test_a_cluster_that_does_not_register_again_is_no_member_any_more() -> None:
    world = World(grace=0.05)
    world.exported(None)
    async with world.running():
        await settles(lambda: world.imported)
        world.clusters.drop(FAR_ENTRY)
        await settles(lambda: not world.imported)
        world.clusters.put(FAR_ENTRY, hub.Cluster(metadata=ObjectMeta(name=FAR)))
        await settles(lambda: world.imported)


async def test_a_slip_in_the_region_of_a_member_takes_nothing_from_it() -> None:
    world = World()
    world.exported(None)
    async with world.running():
        await settles(lambda: world.imported)
        computed = world.chain.clusters.computed
        slip = hub.Cluster(metadata=ObjectMeta(name=FAR), spec=hub.ClusterSpec(region="no region!"))
        world.clusters.put(FAR_ENTRY, slip)
        await settles(lambda: world.chain.clusters.computed > computed)
        assert world.imported


async def test_a_cluster_that_has_left_imports_nothing() -> None:
    world = World()
    world.exported(None)
    async with world.running():
        await settles(lambda: world.imported)
        world.membership.put(STANDING, Standing(phase=Phase.LEFT))
        await settles(lambda: not world.imported)
        world.membership.put(STANDING, Standing(phase=Phase.MEMBER))
        await settles(lambda: world.imported)
