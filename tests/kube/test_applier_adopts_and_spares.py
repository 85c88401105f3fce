"""Objects that are handed over, and objects that are let go of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from isthmus.api import kinds
from isthmus.api.labels import MANAGED_BY, MANAGER
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer, ClusterConfig
from isthmus.errors import NotFound
from isthmus.flow import Table
from isthmus.kube.applier import Applier, ObjectRef, managed
from isthmus.kube.client import Client
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files
from isthmus.kube.raw import raw
from isthmus.kube.reflector import Reflector

WEB = ObjectKey("shop", "web")
REF = ObjectRef(kinds.SERVICE, *WEB)


def web(port: int, **metadata: Any) -> dict[str, Any]:
    heading = {"name": "web", "namespace": "shop", **metadata}
    ports = [{"name": f"p{port}", "port": port}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": heading, "spec": {"ports": ports}}


OURS = {"labels": {MANAGED_BY: MANAGER}}


class Site:
    """A cluster, what is desired there, and which annotations are obeyed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.desired: Table[ObjectRef, dict[str, Any]] = Table("desired")
        self.wanted = self.desired.partition("test")
        observed: Table[ObjectKey, dict[str, Any]] = Table("observed")
        self.reflector = Reflector(client, raw(kinds.SERVICE), observed.partition("test"), namespace="shop")
        self.observed = observed
        self.spared = True
        self.asked = 0
        self.applier = self.applier_of(client)

    def applier_of(self, client: Client) -> Applier:
        return Applier(
            client,
            "applier",
            self.desired,
            {kinds.SERVICE: self.observed},
            gate=lambda: True,
            adopts=lambda found: "adopt" in annotations(found),
            spares=self.spares,
        )

    def spares(self, found: Mapping[str, Any]) -> bool:
        self.asked += 1
        return self.spared and "detach" in annotations(found)

    def port(self) -> int:
        found = self.observed.get(WEB)
        return 0 if found is None else int(found["spec"]["ports"][0]["port"])

    def ours(self) -> bool:
        found = self.observed.get(WEB)
        return found is not None and managed(found)

    async def annotate(self, **values: str | None) -> None:
        await self.client.patch(kinds.SERVICE, WEB, {"metadata": {"annotations": values}}, manager="user")


def annotations(found: Mapping[str, Any]) -> Mapping[str, str]:
    told: Mapping[str, str] = found["metadata"].get("annotations") or {}
    return told


@pytest.fixture
async def site(running: Any) -> AsyncIterator[Site]:
    async with ApiServer([ClusterConfig(name="eu-1")]) as server:
        access = Access(name="eu-1", server=server.url("eu-1"), source=Files(where="eu-1", encrypted=False))
        async with Client(access) as client:
            await client.create(kinds.NAMESPACE, {"metadata": {"name": "shop"}})
            made = Site(client)
            async with running(made.reflector.run()):
                yield made


async def test_a_foreign_object_is_taken_over_once_it_is_handed_over(
    site: Site, running: Any, until: Any
) -> None:
    await site.client.apply(raw(kinds.SERVICE), web(1), manager="user")
    site.wanted.replace({REF: web(2, **OURS)})
    async with running(site.applier.run()):
        await until(lambda: REF in site.applier.refused)
        assert site.port() == 1
        await site.annotate(adopt="")
        await until(lambda: site.port() == 2 and site.ours())
        await until(lambda: REF not in site.applier.refused)
        site.wanted.drop(REF)
        await until(lambda: site.observed.get(WEB) is None)


async def test_what_met_our_write_and_is_handed_over_is_ours_like_any_other(
    site: Site, running: Any, until: Any
) -> None:
    """An object that appeared between our look and our write carried our label for a moment."""

    class Racer(Client):
        async def get(self, kind: Any, key: ObjectKey, *, subresource: str = "") -> Any:
            try:
                return await super().get(kind, key, subresource=subresource)
            except NotFound:
                await site.client.create(kinds.SERVICE, web(1), manager="user")
                raise

    site.wanted.replace({REF: web(2, **OURS)})
    async with Racer(site.client.access) as racer:
        applier = site.applier_of(racer)
        async with running(applier.run()):
            await until(lambda: REF in applier.refused and site.port() == 1 and not site.ours())
            await site.annotate(adopt="")
            await until(lambda: site.port() == 2 and REF not in applier.refused)
            await site.annotate(adopt=None)
            site.wanted.drop(REF)
            await until(lambda: site.observed.get(WEB) is None)


async def test_an_object_that_is_handed_over_and_not_wanted_stays(
    site: Site, running: Any, until: Any
) -> None:
    await site.client.apply(raw(kinds.SERVICE), web(1, annotations={"adopt": ""}), manager="user")
    site.wanted.replace({})
    async with running(site.applier.run()):
        await until(lambda: site.port() == 1 and site.applier.idle)
        site.applier.resync()
        await until(lambda: site.applier.idle)
        assert site.applier.writes == 0


async def test_what_is_spared_is_not_changed_although_who_desires_it_does_not_know_yet(
    site: Site, running: Any, until: Any
) -> None:
    site.wanted.replace({REF: web(1, **OURS)})
    async with running(site.applier.run()):
        await until(lambda: site.port() == 1)
        asked = site.asked
        edit = {"metadata": {"annotations": {"detach": ""}}, "spec": web(9)["spec"]}
        await site.client.patch(kinds.SERVICE, WEB, edit, manager="user")
        await until(lambda: site.port() == 9 and site.asked > asked and site.applier.idle)
        site.wanted.put(REF, web(2, **OURS))
        await until(lambda: site.asked > asked + 1 and site.applier.idle)
        assert site.applier.writes == 1
        site.spared = False
        site.applier.retake()
        await until(lambda: site.port() == 2)


async def test_what_is_spared_is_deleted_when_it_is_looked_at_again(
    site: Site, running: Any, until: Any
) -> None:
    site.wanted.replace({REF: web(1, **OURS)})
    async with running(site.applier.run()):
        await until(lambda: site.port() == 1)
        await site.annotate(detach="")
        await until(lambda: "detach" in annotations(site.observed.get(WEB) or {"metadata": {}}))
        site.wanted.drop(REF)
        await until(lambda: site.asked >= 1 and site.applier.idle)
        assert site.applier.writes == 1
        site.spared = False
        site.applier.retake()
        await until(lambda: site.observed.get(WEB) is None)
