"""Client status discovery: what tools are told of each client's resources."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from ads_client import CDS, EDS, TYPE_URLS, World, node, routes, value
from authority import Authority
from envoy.admin.v3 import config_dump_shared_pb2 as states
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.status.v3 import csds_pb2
from test_the_port_is_secured import secured
from xds_harness import Rows, served

from isthmus.errors import WireError
from isthmus.xds import csds
from isthmus.xds.admission import Rate
from isthmus.xds.refusal import TooManyNames
from isthmus.xds.server import METHOD, Limits


def told(world: World, request: csds_pb2.ClientStatusRequest | None = None) -> dict[tuple[str, str], int]:
    data = csds.answer((request or csds_pb2.ClientStatusRequest()).SerializeToString(), world.ads, _all, 0.0)
    return {
        (one.type_url, one.name): one.client_status
        for config in csds_pb2.ClientStatusResponse.FromString(data).config
        for one in config.generic_xds_configs
    }


def _all(_node: str) -> bool:
    return True


def world() -> World:
    made = World()
    made.apply(cds_a=value("a", 0), eds_a=value("a", 0), rds=routes("a"), lds=b"listener")
    return made


def test_each_resource_is_in_its_state() -> None:
    made = world()
    client = made.connect()
    client.start()
    client.settle()
    client.subscribe(EDS, frozenset({"a", "nothing"}))
    made.apply(cds_bad=value("bad", 9))
    client.settle()
    made.apply(eds_a=value("a", 1))
    assert told(made) == {
        (TYPE_URLS[CDS], "a"): states.ACKED,
        (TYPE_URLS[CDS], "bad"): states.NACKED,
        (TYPE_URLS[EDS], "a"): states.REQUESTED,
        (TYPE_URLS[EDS], "nothing"): states.DOES_NOT_EXIST,
        ("type.googleapis.com/envoy.config.listener.v3.Listener", "explicit"): states.ACKED,
        ("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "explicit"): states.ACKED,
    }


def test_nodes_are_chosen_by_id() -> None:
    made = world()
    made.connect().start()
    for how, text, found in (("exact", "sidecar-1", True), ("prefix", "side", True), ("suffix", "x", False)):
        request = csds_pb2.ClientStatusRequest()
        setattr(request.node_matchers.add().node_id, how, text)
        assert bool(told(made, request)) is found
    request = csds_pb2.ClientStatusRequest()
    request.node_matchers.add().node_id.safe_regex.regex = ".*"
    with pytest.raises(WireError, match="node_id"):
        told(made, request)
    with pytest.raises(WireError, match="not a"):
        csds.answer(b"\xff", made.ads, _all, 0.0)


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    made.connect().start()
    monkeypatch.setattr(csds, "MOST_RESOURCES", 1)
    with pytest.raises(TooManyNames, match="node_matchers"):
        told(made)


async def test_a_certificate_is_told_of_the_nodes_that_it_may_be(tmp_path: Path) -> None:
    async with secured(tmp_path) as (door, authority):
        ours, theirs = (
            _channel(door.address, authority, f"spiffe://example.org/ns/{space}/sa/x")
            for space in ("shop", "bank")
        )
        async with ours, theirs:
            call = ours.stream_stream(METHOD)()
            asked = discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[CDS], node=node())
            asked.node.id = "web-1.shop"
            await call.write(asked.SerializeToString())
            await call.read()
            assert await _nodes(ours) == ["web-1.shop"]
            assert await _nodes(theirs) == []
            stream = ours.stream_stream(csds.STREAM)()
            for _ in range(2):
                await stream.write(b"")
                assert csds_pb2.ClientStatusResponse.FromString(await stream.read()).config
            with pytest.raises(grpc.aio.AioRpcError, match="not a ClientStatusRequest"):
                await ours.unary_unary(csds.FETCH)(b"\xff")
            call.cancel()
            stream.cancel()


async def test_questions_are_slowed_down() -> None:
    async with (
        served(Rows(), limits=Limits(node=Rate(burst=3, per_second=0.001))) as door,
        grpc.aio.insecure_channel(door.address) as channel,
    ):
        for _ in range(3):
            assert await _nodes(channel) == []
        with pytest.raises(grpc.aio.AioRpcError, match="too often"):
            await _nodes(channel)
        assert door.ads.counts.endings["rate"] == 1


def _channel(address: str, authority: Authority, uri: str) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(address, authority.client(authority.sign((uri,))))


async def _nodes(channel: grpc.aio.Channel) -> list[str]:
    data = await channel.unary_unary(csds.FETCH)(b"")
    return [config.node.id for config in csds_pb2.ClientStatusResponse.FromString(data).config]
