"""mTLS on the xDS port: who may come, as which node, and certificates that are renewed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from ads_client import CDS, CLASS, TYPE_URLS, node
from authority import Authority
from envoy.service.discovery.v3 import discovery_pb2
from http_load import HttpBackend, until
from hypothesis import given
from hypothesis import strategies as st
from xds_harness import Door, Rows, Shares, plan_of, served, sidecar

from isthmus.errors import ConfigError
from isthmus.tls import Certificates
from isthmus.xds.identity import Identity
from isthmus.xds.proxies import described
from isthmus.xds.rows import EVERYBODY, EXPLICIT, ResourceType, Row
from isthmus.xds.server import METHOD
from loadtests.ports import free_port

SPIFFE = "spiffe://example.org/ns/shop/sa/web"
SERVER = (("localhost",), ("localhost", "127.0.0.1"))


@asynccontextmanager
async def secured(folder: Path, **more: Any) -> AsyncIterator[tuple[Door, Authority]]:
    authority = Authority(folder)
    rows = Rows()
    rows.writer.put(str(Row(ResourceType.CDS, EVERYBODY, "a")), b"a")
    rows.writer.put(str(Row(ResourceType.LDS, str(CLASS), EXPLICIT)), b"listener")
    files = authority.files("server", authority.sign(names=("localhost",)))
    async with served(rows, "localhost:0", tls=files, **more) as door:
        yield door, authority


async def asked(address: str, credentials: Any, name: str) -> grpc.StatusCode:
    """What a client with that node id is told: OK for resources."""
    request = discovery_pb2.DiscoveryRequest(type_url=TYPE_URLS[CDS], node=node())
    request.node.id = name
    channel = (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials)
    )
    async with channel:
        call = channel.stream_stream(METHOD)(timeout=60)
        try:
            await call.write(request.SerializeToString())
            if await call.read() is not grpc.aio.EOF:
                return grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            return error.code()
        finally:
            call.cancel()
        return await call.code()


async def test_only_a_certificate_of_the_authority_comes_in(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with secured(tmp_path) as (door, authority):
        stranger = Authority(tmp_path / "other", "stranger").sign((SPIFFE,))
        assert await asked(door.address, authority.client(authority.sign((SPIFFE,))), "web-1.shop") is (
            grpc.StatusCode.OK
        )
        for pair in (None, stranger):
            found = await asked(door.address, authority.client(pair), "web-1.shop")
            assert found is grpc.StatusCode.UNAVAILABLE
        assert await asked(door.address, None, "web-1.shop") is grpc.StatusCode.UNAVAILABLE


async def test_a_node_of_another_namespace_is_refused_and_counted(tmp_path: Path) -> None:
    async with secured(tmp_path) as (door, authority):
        credentials = authority.client(authority.sign((SPIFFE,)))
        assert await asked(door.address, credentials, "db-1.bank") is grpc.StatusCode.PERMISSION_DENIED
        assert door.ads.counts.endings["identity"] == 1
        assert len(door.rows.wants) == 0


async def test_another_trust_domain_is_refused_where_one_is_named(tmp_path: Path) -> None:
    async with secured(tmp_path, trust_domain="isthmus.dev") as (door, authority):
        theirs = authority.client(authority.sign((SPIFFE,)))
        ours = authority.client(authority.sign(("spiffe://isthmus.dev/ns/shop/sa/web",)))
        assert await asked(door.address, theirs, "web-1.shop") is grpc.StatusCode.PERMISSION_DENIED
        assert await asked(door.address, ours, "web-1.shop") is grpc.StatusCode.OK


async def test_a_renewed_certificate_counts_for_the_next_connection(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    async with secured(tmp_path) as (door, authority):
        client = authority.client(authority.sign((SPIFFE,)))
        assert await asked(door.address, client, "web-1.shop") is grpc.StatusCode.OK
        authority.files("server", (b"rubbish", b"rubbish"))

        async def told() -> bool:
            assert await asked(door.address, client, "web-1.shop") is grpc.StatusCode.OK
            return any(entry["event"] == "certificate not renewed" for entry in logs)

        await until(told, "the broken certificate is told")
        new = Authority(tmp_path, "new authority")
        new.files("server", new.sign(names=("localhost",)))
        renewed = new.client(new.sign((SPIFFE,)))

        async def taken() -> bool:
            return await asked(door.address, renewed, "web-1.shop") is grpc.StatusCode.OK

        await until(taken, "the new certificate and the new authority")
        assert await asked(door.address, client, "web-1.shop") is grpc.StatusCode.UNAVAILABLE


@pytest.mark.envoy
@pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])
async def test_a_real_envoy_comes_in_with_its_certificate(
    envoy_binary: str, tmp_path: Path, api: str
) -> None:
    authority, backend, rows = Authority(tmp_path), HttpBackend("eu-1"), Rows()
    await backend.start()
    server = authority.files("server", authority.sign(names=("localhost",)))
    client = authority.files("client", authority.sign(names=("test-sidecar",)))
    listen = f"127.0.0.1:{free_port()}"
    rows.listen(listen)
    rows.service()
    rows.plan(plan_of(Shares({"eu-1/eu/a": (10_000, [backend])})))
    try:
        async with (
            served(rows, tls=server) as door,
            sidecar(envoy_binary, tmp_path, door.address, listen, api=api, tls=client) as proxy,
        ):
            await proxy.serving()
            assert [told["identity"] for told in described(door.ads, 0.0)] == ["test-sidecar"]
    finally:
        await backend.stop()


@pytest.mark.parametrize(
    ("uris", "names", "node_id", "allowed"),
    [
        ((SPIFFE,), (), "web-1.shop", True),
        ((SPIFFE,), (), "web.v2-1.shop", True),
        ((SPIFFE,), (), "web-1.shop.bank", False),
        ((SPIFFE,), (), "shop", False),
        ((SPIFFE,), (), ".shop", False),
        ((SPIFFE + "/more",), (), "web-1.shop", False),
        (("spiffe://example.org/router",), (), "spiffe://example.org/router", True),
        (("spiffe://example.org/router",), (), "router", False),
        ((), ("web-1.shop",), "web-1.shop", True),
        ((), ("web-1.shop",), "web-2.shop", False),
        ((), ("*.shop",), "web-2.shop", True),
        ((), ("*.shop",), "web-2.bank", False),
        ((), ("*",), "web-2.bank", False),
        ((), (), "web-1.shop", False),
    ],
)
def test_a_certificate_allows_nodes_of_its_namespace_or_name(
    uris: tuple[str, ...], names: tuple[str, ...], node_id: str, allowed: bool
) -> None:
    assert Identity(uris=uris, names=names).allows(node_id) is allowed


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_node_of_another_namespace_is_allowed(name: str, namespace: str) -> None:
    if namespace != "shop":
        assert not Identity(uris=(SPIFFE,)).allows(f"{name}.{namespace}") or namespace.endswith(".shop")


def test_files_of_no_use_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.files("server", authority.sign())
    assert Certificates(files).current().number == 1
    cases = {
        files.certificate: (b"", authority.sign(days=-1)[0]),
        files.key: (b"", authority.sign()[1]),
        files.authorities: (b"",),
    }
    for path, contents in cases.items():
        good = path.read_bytes()
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(ConfigError, match=r"server\.|ca\."):
                Certificates(files)
        path.write_bytes(good)
    expired = authority.files("server", authority.sign(days=-1))
    with pytest.raises(ConfigError, match="expired"):
        Certificates(expired)
    files.key.unlink()
    with pytest.raises(ConfigError, match=r"server\.key: No such file"):
        Certificates(files)


def test_a_pair_that_does_not_fit_is_not_handed_out(
    tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    authority, now = Authority(tmp_path), 0.0
    files = authority.files("server", authority.sign())
    found = Certificates(files, clock=lambda: now)
    first, second = found.current(), authority.sign()
    files.certificate.write_bytes(second[0])
    now += 2
    assert found.current() is first
    now += 2
    assert found.current() is first
    assert len([entry for entry in logs if entry["event"] == "certificate not renewed"]) == 1
    files.key.write_bytes(second[1])
    now += 2
    assert (found.current().number, found.current().certificate) == (2, second[0])


async def test_garbage_on_the_port_is_counted_and_others_are_served(tmp_path: Path) -> None:
    async with secured(tmp_path) as (door, authority):
        host, _, port = door.address.rpartition(":")
        for piece in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(512), bytes(100_000)) * 3:
            _reader, writer = await asyncio.open_connection(host, int(port))
            with suppress(OSError):
                writer.write(piece)
                await writer.drain()
            writer.transport.abort()

        async def all_counted() -> bool:
            return door.ads.counts.handshakes >= 9

        await until(all_counted, "handshakes are counted")
        assert await asked(door.address, authority.client(authority.sign((SPIFFE,))), "web-1.shop") is (
            grpc.StatusCode.OK
        )
