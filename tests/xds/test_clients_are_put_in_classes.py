"""Whom a client is rendered for follows from its node."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.core.v3 import base_pb2

from isthmus.errors import WireError
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.node import read_node
from isthmus.xds.rows import Capture, ProxyClass

EU = ClusterId("eu-1")


def class_of(metadata: dict[str, Any] | None = None, **node: Any) -> ProxyClass:
    found = base_pb2.Node(id="n", **node)
    found.locality.region, found.locality.zone = "eu", "eu-1a"
    found.metadata.update({f"isthmus.dev/{name}": value for name, value in (metadata or {}).items()})
    return read_node(found, EU).proxy_class


def test_an_envoy_that_says_nothing_listens_explicitly_and_is_told_everything() -> None:
    assert class_of(user_agent_name="envoy") == ProxyClass(Vantage("eu", "eu-1a", EU))


@pytest.mark.parametrize("agent", ["gRPC C-core Linux", "gRPC Go", "gRPC Java", "grpc-node-js"])
def test_a_grpc_library_is_known_by_its_user_agent(agent: str) -> None:
    assert class_of(user_agent_name=agent) == ProxyClass(Vantage("eu", "eu-1a", EU), "grpc")


def test_a_grpc_library_is_known_by_what_it_does_not_do() -> None:
    assert class_of(client_features=["envoy.lb.does_not_support_overprovisioning"]).renderer == "grpc"


def test_the_renderer_that_is_asked_for_wins() -> None:
    assert class_of({"renderer": "grpc"}, user_agent_name="envoy").renderer == "grpc"
    assert class_of({"renderer": "envoy"}, user_agent_name="gRPC Go").renderer == "envoy"


def test_metadata_say_how_calls_are_captured() -> None:
    found = class_of(
        {
            "listen": "[::1]:15001",
            "capture": "transparent",
            "namespace": "shop",
            "uses": "pay/web",
            "access-log": True,
        }
    )
    assert found == ProxyClass(
        Vantage("eu", "eu-1a", EU),
        listen="[::1]:15001",
        capture=Capture.TRANSPARENT,
        access_log=True,
        uses=("pay/web", "shop/*"),
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {"listen": "everywhere"},
        {"listen": 15001},
        {"capture": "magic"},
        {"uses": "a/b/c"},
        {"namespace": "Shop"},
        {"access-log": "yes"},
        {"renderer": "nginx"},
    ],
)
def test_metadata_that_cannot_be_are_named(metadata: dict[str, Any]) -> None:
    with pytest.raises(WireError, match=f"isthmus.dev/{next(iter(metadata))}"):
        class_of(metadata)
