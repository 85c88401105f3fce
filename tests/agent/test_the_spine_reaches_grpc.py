"""The spine's last step to a gRPC client: what it asks for by name leads to the endpoints of the objects."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from spine import EVERYBODY, Spine, both_serve
from spineservers import SECONDS

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
NAME = "web.shop.svc.clusterset.local:80"
TYPES = ("listener.v3.Listener", "route.v3.RouteConfiguration", "cluster.v3.Cluster")
ASSIGNMENT = "endpoint.v3.ClusterLoadAssignment"


async def test_a_grpc_client_is_led_from_a_name_to_the_endpoints_of_both_clusters(spine: Spine) -> None:
    await both_serve(spine)
    agent = spine.agents["eu-1"]
    async with asyncio.timeout(SECONDS), grpc.aio.insecure_channel(f"127.0.0.1:{agent.xds_port}") as channel:
        stream = channel.stream_stream(METHOD)()

        async def ask(kind: str, nonce: str = "", version: str = "") -> None:
            request = discovery_pb2.DiscoveryRequest(
                type_url=f"type.googleapis.com/envoy.config.{kind}",
                resource_names=[NAME],
                response_nonce=nonce,
                version_info=version,
            )
            request.node.id, request.node.user_agent_name = "caller", "gRPC C-core"
            await stream.write(request.SerializeToString())

        async def answer(kind: str) -> Any:
            """The next response with that type, everything accepted."""
            while True:
                found = discovery_pb2.DiscoveryResponse.FromString(await stream.read())
                told = found.type_url.partition("envoy.config.")[2]
                await ask(told, found.nonce, found.version_info)
                if told == kind and found.resources:
                    return found.resources[0].value

        for kind in TYPES:
            await ask(kind)
            assert NAME.encode() in await answer(kind)
        await ask(ASSIGNMENT)
        addresses: set[str] = set()
        while addresses != set(EVERYBODY):
            assignment = endpoint_pb2.ClusterLoadAssignment.FromString(await answer(ASSIGNMENT))
            addresses = {
                endpoint.endpoint.address.socket_address.address
                for place in assignment.endpoints
                for endpoint in place.lb_endpoints
            }
        stream.cancel()
