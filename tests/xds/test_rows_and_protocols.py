"""Row keys, proxy classes, and which ports speak HTTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.model.names import ClusterId, ServiceKey, Vantage
from isthmus.model.service import Port, Protocol
from isthmus.xds.appprotocol import AppProtocol, app_protocol
from isthmus.xds.rows import (
    Capture,
    ProxyClass,
    ResourceType,
    Row,
    place_name,
    read_uses,
    resource_name,
    split_listen,
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
PLACES = st.one_of(st.just(""), NAMES)


@given(st.sampled_from(ResourceType), NAMES, NAMES)
def test_a_row_key_reads_back_as_it_was_written(kind: ResourceType, scope: str, name: str) -> None:
    row = Row(kind, scope, name)
    assert Row.parse(str(row)) == row


USES = st.lists(st.tuples(NAMES, st.one_of(NAMES, st.just("*"))), max_size=5)


@given(
    st.builds(Vantage, PLACES, PLACES, st.builds(ClusterId, NAMES)),
    st.sampled_from(["envoy", "grpc"]),
    st.ip_addresses(),
    st.sampled_from(Capture),
    st.booleans(),
    USES,
)
def test_a_proxy_class_reads_back_as_it_was_written(
    vantage: Vantage,
    renderer: str,
    address: object,
    capture: Capture,
    log: bool,
    uses: list[tuple[str, str]],
) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)
    wanted = read_uses(",".join("/".join(use) for use in uses))
    found = ProxyClass(vantage, renderer, f"{host}:15001", capture, log, wanted)
    assert ProxyClass.parse(str(found)) == found
    assert "|" not in str(found)


def test_a_pod_uses_its_own_namespace_and_what_it_names() -> None:
    assert read_uses("") == ()
    assert read_uses("", "shop") == ("shop/*",)
    assert read_uses("pay/web, cart, log/*", "shop") == ("log/*", "pay/web", "shop/*")
    assert read_uses("pay/web,*", "shop") == ()


def test_a_class_is_told_of_what_it_uses() -> None:
    some = ProxyClass(Vantage("", "", ClusterId("eu-1")), uses=read_uses("pay/web", "shop"))
    told = {str(key): some.may_use(key) for key in map(ServiceKey, ("shop", "pay", "pay"), ("a", "web", "b"))}
    assert told == {"shop/a": True, "pay/web": True, "pay/b": False}


@pytest.mark.parametrize(
    "text",
    ["a/b/c", "A/b", "/b", "b", "a/", "*/b", "a|b/*", ",".join(f"a/s{number}" for number in range(65))],
)
def test_what_names_no_services_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_uses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "envoy",
        "envoy@a/b@127.0.0.1:1",
        "envoy@a/b/c@127.0.0.1:0",
        "envoy@a/b c/d@127.0.0.1:1",
        "@a/b/c@1.1.1.1:1",
        "nginx@a/b/c@127.0.0.1:1",
        "envoy@a/b/c@127.0.0.1:1@explicit@@",
        "envoy@a/b/c@127.0.0.1:1@transparent@yes@",
        "envoy@a/b/c@127.0.0.1:1@transparent@@b/*,a/*",
    ],
)
def test_what_is_no_proxy_class_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ProxyClass.parse(text)


@pytest.mark.parametrize("text", ["cds|*", "cds||x", "cds|*|", "abc|*|x", "cds|*|x|y"])
def test_what_is_no_row_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Row.parse(text)


@given(st.text())
def test_a_region_that_could_break_a_key_is_unknown(text: str) -> None:
    assert not set(place_name(text)) & set("|@/ \n")


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", "localhost:80", "::1:80", "[::1]", "127.0.0.1:65536", "127.0.0.1:-1", "1.1.1.1:٣"],
)
def test_what_is_no_listen_address_is_none(text: str) -> None:
    assert split_listen(text) is None


def test_a_resource_is_named_by_service_and_port() -> None:
    assert resource_name(ServiceKey("shop", "cart"), 8080) == "cart.shop.svc.clusterset.local:8080"


@pytest.mark.parametrize(
    ("name", "number", "said", "expected"),
    [
        ("", 80, "", AppProtocol.HTTP),
        ("", 8080, "", AppProtocol.TCP),
        ("http", 8080, "", AppProtocol.HTTP),
        ("http-metrics", 9090, "", AppProtocol.HTTP),
        ("https", 443, "", AppProtocol.TCP),
        ("http2", 80, "", AppProtocol.HTTP2),
        ("grpc", 50051, "", AppProtocol.GRPC),
        ("grpc-admin", 50052, "", AppProtocol.GRPC),
        ("grpcish", 50052, "", AppProtocol.TCP),
        ("redis", 80, "", AppProtocol.TCP),
        ("redis", 6379, "http", AppProtocol.HTTP),
        ("http", 80, "redis", AppProtocol.TCP),
        ("x", 1, "kubernetes.io/h2c", AppProtocol.HTTP2),
        ("x", 1, "kubernetes.io/ws", AppProtocol.HTTP),
        ("x", 1, "kubernetes.io/wss", AppProtocol.TCP),
        ("x", 1, "grpc", AppProtocol.GRPC),
    ],
)
def test_the_app_protocol_decides_and_else_the_name(
    name: str, number: int, said: str, expected: AppProtocol
) -> None:
    port = Port(name=name, protocol=Protocol.TCP, port=number, app_protocol=said)
    assert app_protocol(port) is expected


def test_udp_never_speaks_http() -> None:
    assert app_protocol(Port(name="http", protocol=Protocol.UDP, port=80)) is AppProtocol.TCP
