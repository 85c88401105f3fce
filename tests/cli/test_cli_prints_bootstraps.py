"""`isthmus bootstrap`: what it prints is what Envoy and gRPC start from."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.demo.envoy import find_envoy
from isthmus.errors import PlatformError
from isthmus.model.names import ClusterId, Vantage
from isthmus.xds.bootstrap import envoy_bootstrap, grpc_bootstrap

Isthmus = Callable[..., Awaitable[Any]]
PLACE = ("--cluster", "eu-1", "--region", "eu", "--zone", "eu-1a", "--node-id", "caller")
VANTAGE = Vantage("eu", "eu-1a", ClusterId("eu-1"))


async def test_an_envoy_starts_from_what_is_printed(isthmus: Isthmus, tmp_path: Path) -> None:
    try:
        program = find_envoy(None, os.environ, Path.home())
    except PlatformError as missing:
        pytest.skip(str(missing))
    more = ("--capture", "transparent", "--access-log", "--namespace", "shop", "--uses", "pay/web", "--delta")
    ran = await isthmus("bootstrap", "envoy", *PLACE, "--xds", "isthmus.example:18000", *more)
    assert (ran.code, ran.err) == (0, "")
    (tmp_path / "envoy.yaml").write_text(ran.out)
    process = await asyncio.create_subprocess_exec(
        *(str(program), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml"), "-l", "warning"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    metadata = yaml.safe_load(ran.out)["node"]["metadata"]
    assert metadata == {
        "isthmus.dev/listen": "127.0.0.1:15001",
        "isthmus.dev/capture": "transparent",
        "isthmus.dev/access-log": True,
        "isthmus.dev/namespace": "shop",
        "isthmus.dev/uses": "pay/web",
    }


async def test_both_say_where_they_stand_and_where_their_control_plane_is(isthmus: Isthmus) -> None:
    envoy = await isthmus("bootstrap", "envoy", *PLACE, "-o", "json")
    expected = envoy_bootstrap("caller", VANTAGE, "127.0.0.1:18000", "127.0.0.1:15000")
    assert json.loads(envoy.out) == expected
    grpc = await isthmus("bootstrap", "grpc", *PLACE)
    assert json.loads(grpc.out) == grpc_bootstrap("caller", VANTAGE, "127.0.0.1:18000")


async def test_both_show_the_certificate_that_they_are_given(isthmus: Isthmus, tmp_path: Path) -> None:
    files = ("--ca", "/tls/ca.pem", "--cert", "/tls/own.pem", "--key", "/tls/own.key")
    envoy = await isthmus("bootstrap", "envoy", *PLACE, *files, "--xds", "isthmus.example:18000")
    socket = yaml.safe_load(envoy.out)["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
    assert socket["sni"] == "isthmus.example"
    assert socket["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "isthmus.example"}}
    ]
    grpc = await isthmus("bootstrap", "grpc", *PLACE, *files)
    (credentials,) = json.loads(grpc.out)["xds_servers"][0]["channel_creds"]
    assert credentials["type"] == "tls"
    assert credentials["config"]["certificate_file"] == "/tls/own.pem"


async def test_an_envoy_that_follows_its_certificate_gets_files_beside(
    isthmus: Isthmus, tmp_path: Path
) -> None:
    files = ("--ca", "/tls/ca.pem", "--cert", "/tls/own.pem", "--key", "/tls/own.key")
    folder = tmp_path / "new" / "secrets"
    ran = await isthmus("bootstrap", "envoy", *PLACE, *files, "--secrets", str(folder))
    assert (ran.code, ran.err) == (0, "")
    socket = yaml.safe_load(ran.out)["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
    context = socket["common_tls_context"]
    assert "tls_certificates" not in context
    configs = [
        *context["tls_certificate_sds_secret_configs"],
        context["validation_context_sds_secret_config"],
    ]
    for config in configs:
        path = Path(config["sds_config"]["path_config_source"]["path"])
        assert path.parent == folder
        (secret,) = json.loads(await asyncio.to_thread(path.read_text))["resources"]
        assert secret["name"] == config["name"]
    assert "/tls/own.key" not in ran.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("envoy", "--cluster", "EU 1"), "--cluster"),
        (("grpc", "--cluster", "eu-1", "--zone", "a/b"), "--zone"),
        (("envoy", "--cluster", "eu-1", "--listen", "localhost:1"), "listen address"),
        (("envoy", "--cluster", "eu-1", "--uses", "a/b/c"), "a/b/c"),
        (("envoy", "--cluster", "eu-1", "--xds", "nowhere"), "nowhere"),
        (("grpc", "--cluster", "eu-1", "--ca", "ca.pem"), "--cert"),
        (("envoy", "--cluster", "eu-1", "--secrets", "/tmp"), "--secrets"),
    ],
)
async def test_wrong_use_is_named(isthmus: Isthmus, arguments: tuple[str, ...], named: str) -> None:
    ran = await isthmus("bootstrap", *arguments)
    assert ran.code == 2
    assert named in ran.err
    assert "Traceback" not in ran.err
