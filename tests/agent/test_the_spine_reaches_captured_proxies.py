"""The spine reaches a proxy that calls are redirected to: chains by clusterset IP, only for what it uses."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine, both_serve
from spineservers import SECONDS

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
WEB = "web.shop.svc.clusterset.local:80"
CLUSTER, LISTENER, ROUTES = "cluster.v3.Cluster", "listener.v3.Listener", "route.v3.RouteConfiguration"


class Proxy:
    """One stream of a captured proxy of a namespace; accepts whatever it is sent."""

    def __init__(self, channel: grpc.aio.Channel, namespace: str) -> None:
        self._stream = channel.stream_stream(METHOD)()
        self._namespace = namespace

    async def ask(self, kind: str, *names: str, nonce: str = "", version: str = "") -> None:
        request = discovery_pb2.DiscoveryRequest(
            type_url=f"type.googleapis.com/envoy.config.{kind}",
            resource_names=names,
            response_nonce=nonce,
            version_info=version,
        )
        request.node.id = f"pod-of-{self._namespace}"
        request.node.metadata.update(
            {"isthmus.dev/capture": "transparent", "isthmus.dev/namespace": self._namespace}
        )
        await self._stream.write(request.SerializeToString())

    async def answer(self, kind: str, *names: str) -> list[bytes]:
        """The resources of the next response of that type, which is accepted."""
        while True:
            found = discovery_pb2.DiscoveryResponse.FromString(await self._stream.read())
            told = found.type_url.partition("envoy.config.")[2]
            await self.ask(told, *names, nonce=found.nonce, version=found.version_info)
            if told == kind:
                return [resource.value for resource in found.resources]

    def close(self) -> None:
        self._stream.cancel()


async def test_a_captured_proxy_gets_chains_by_address_and_only_what_it_uses(spine: Spine) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]
    async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{agent.xds_port}") as channel:
        shop, other = Proxy(channel, "shop"), Proxy(channel, "elsewhere")
        await shop.ask(CLUSTER)
        names = {cluster_pb2.Cluster.FromString(one).name for one in await shop.answer(CLUSTER)}
        assert WEB in names
        assert all(".shop." in name for name in names)
        await shop.ask(LISTENER)
        chains: dict[str, list[str]] = {}
        while WEB not in chains:
            (listener,) = map(listener_pb2.Listener.FromString, await shop.answer(LISTENER))
            assert [one.name for one in listener.listener_filters] == ["envoy.filters.listener.original_dst"]
            chains = {
                chain.name: [one.address_prefix for one in chain.filter_chain_match.prefix_ranges]
                for chain in listener.filter_chains
            }
        assert chains[WEB], "a chain without an address would take every connection"
        await shop.ask(ROUTES, WEB)
        (routes,) = map(route_pb2.RouteConfiguration.FromString, await shop.answer(ROUTES, WEB))
        assert list(routes.virtual_hosts[0].domains) == ["*"]
        await other.ask(CLUSTER)
        assert await other.answer(CLUSTER) == []
        for proxy in (shop, other):
            proxy.close()
