"""`isthmus crds`: printed as before, installed without taking anything back."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.api import crds, kinds
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.kube.client import Client
from isthmus.kube.config import load_access
from isthmus.kube.raw import raw

Isthmus = Callable[..., Awaitable[Any]]


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    """Contexts one and two, servers without any definition of ours."""
    async with ApiServer([ClusterConfig(name="one"), ClusterConfig(name="two")]) as server:
        path = tmp_path / "kubeconfig"
        path.write_text(server.kubeconfig())
        yield path


async def test_definitions_are_printed_for_the_server_that_is_named(isthmus: Isthmus) -> None:
    for arguments, wanted in (((), crds.all_crds()), (("--for", "hub"), crds.hub_crds())):
        ran = await isthmus("crds", *arguments)
        assert (ran.code, ran.err) == (0, "")
        assert list(yaml.safe_load_all(ran.out)) == wanted


async def test_definitions_are_installed_in_the_context_that_is_named(
    isthmus: Isthmus, kubeconfig: Path
) -> None:
    there = ("--kubeconfig", str(kubeconfig), "--context", "two")
    ran = await isthmus("crds", "install", "--for", "member", *there)
    assert (ran.code, ran.err) == (0, "")
    header, *lines = ran.out.splitlines()
    assert header.split() == ["DEFINITION", "WHAT", "WHY"]
    assert [line.split() for line in lines] == [
        [crd["metadata"]["name"], "created", "-"] for crd in crds.member_crds()
    ]
    async with Client(load_access(kubeconfig, "two")) as two, Client(load_access(kubeconfig, "one")) as one:
        assert len((await two.list_page(kinds.CRD)).items) == len(crds.member_crds())
        assert (await one.list_page(kinds.CRD)).items == []
    ran = await isthmus("crds", "install", "--for", "member", *there, "-o", "json")
    assert {item["step"] for item in json.loads(ran.out)["items"]} == {"unchanged"}


async def test_a_newer_one_is_kept_and_the_reason_told(isthmus: Isthmus, kubeconfig: Path) -> None:
    newer = copy.deepcopy(crds.member_crds()[0])
    newer["metadata"]["labels"]["multicluster.x-k8s.io/release-version"] = "v9.0.0"
    async with Client(load_access(kubeconfig, "one")) as one:
        await one.apply(raw(kinds.CRD), newer, manager="somebody")
    ran = await isthmus("crds", "install", "--kubeconfig", str(kubeconfig), "--context", "one")
    assert (ran.code, ran.err) == (0, "")
    (line,) = (line for line in ran.out.splitlines() if line.startswith(newer["metadata"]["name"]))
    assert "kept" in line
    assert "its release v9.0.0 is newer than ours" in line


async def test_one_that_cannot_serve_us_fails_the_command(isthmus: Isthmus, kubeconfig: Path) -> None:
    newer = copy.deepcopy(crds.member_crds()[0])
    newer["spec"]["versions"] = [{**newer["spec"]["versions"][1], "name": "v1"}]
    async with Client(load_access(kubeconfig, "one")) as one:
        await one.apply(raw(kinds.CRD), newer, manager="somebody")
    ran = await isthmus("crds", "install", "--kubeconfig", str(kubeconfig), "--context", "one")
    assert ran.code == 1
    assert f"{newer['metadata']['name']} does not serve v1beta1" in ran.err


async def test_wrong_use_is_one_line(isthmus: Isthmus, kubeconfig: Path) -> None:
    ran = await isthmus("crds", "install", "--kubeconfig", str(kubeconfig), "--context", "nowhere")
    assert (ran.code, ran.out) == (2, "")
    assert "nowhere" in ran.err
    ran = await isthmus("crds", "--for", "hub", "install")
    assert ran.code == 2
    assert "isthmus crds install --for hub" in ran.err
