"""What the applier makes of an object that a server would not have, and of one that is new to it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from appliersite import REF, WEB, Site, web

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import Fault
from isthmus.kube.applier import LASTING_SECONDS, MISSING_SECONDS, Applier, ObjectRef
from isthmus.kube.raw import raw
from isthmus.model.refusal import Refused

ADDRESS = "10.96.7.7"


async def test_a_missing_namespace_is_reported_and_nothing_else_waits_for_it(site: Site) -> None:
    nowhere = ObjectRef(kinds.SERVICE, "nowhere", "web")
    lost = {**web(80), "metadata": {**web(80)["metadata"], "namespace": "nowhere"}}
    site.wanted.replace({nowhere: lost, REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80) and nowhere in applier.errors)
        refused = applier.refused.get(nowhere)
        assert refused is not None
        assert refused.reason == "NotFound"
        assert "nowhere" in refused.message


@pytest.mark.parametrize(("code", "reason"), [(403, "Forbidden"), (413, "KubeError"), (500, "KubeError")])
async def test_what_is_refused_is_told_and_written_as_soon_as_it_is_allowed(
    site: Site, code: int, reason: str
) -> None:
    site.server.faults.set(Fault(kind="error", code=code, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.until(lambda: applier.refused.get(REF) is not None)
        refused = applier.refused.get(REF)
        assert refused is not None
        assert refused.reason == reason
        site.server.faults.clear()
        await site.settled(applier, lambda: site.seen(80))
        assert applier.refused.get(REF) is None


async def test_what_a_server_does_not_know_is_said_plainer(site: Site) -> None:
    def saying(distribution: str, wanted: dict[str, Any]) -> dict[str, Any]:
        return {**wanted, "spec": {**wanted["spec"], "trafficDistribution": distribution}}

    site.wanted.replace({REF: saying("OfTomorrow", web(80))})
    applier = site.applier(plainer=lambda wanted: saying("PreferClose", wanted))
    async with site.running(applier.run()):
        for port in (80, 81):
            site.wanted.put(REF, saying("OfTomorrow", web(port)))
            await site.settled(applier, lambda port=port: site.seen(port))
            assert (await site.found())["spec"]["trafficDistribution"] == "PreferClose"
        site.wanted.put(REF, saying("PreferSameNode", web(82)))
        await site.settled(applier, lambda: site.seen(82))
    assert (await site.found())["spec"]["trafficDistribution"] == "PreferSameNode"
    assert applier.writes == 3
    assert not applier.failed
    assert not applier.refused


async def test_what_a_server_would_not_have_for_a_moment_is_written_soon(site: Site) -> None:
    site.server.faults.set(Fault(kind="error", code=422, count=3, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    told: list[Refused | None] = []
    applier.refused.observe(lambda _ref, _old, new: told.append(new))
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80) and not applier.refused)
    assert [one and one.reason for one in told] == ["Invalid", None]
    assert applier.failed["Service"] == 3


def with_address(_ref: ObjectRef, wanted: dict[str, Any]) -> dict[str, Any]:
    return {**wanted, "spec": {**wanted["spec"], "clusterIP": ADDRESS, "clusterIPs": [ADDRESS]}}


def long_after_the_first_refusal(site: Site) -> tuple[Applier, list[Refused | None]]:
    """An applier that asks for the address, and for which refusals last as soon as there is one; and what it
    told of them."""
    told: list[Refused | None] = []
    applier = site.applier(
        clock=lambda: time.monotonic() + (LASTING_SECONDS if told else 0.0), born=with_address
    )
    applier.refused.observe(lambda _ref, _old, new: told.append(new))
    return applier, told


async def test_only_what_is_created_is_told_what_a_new_object_is_told(site: Site) -> None:
    asked: list[ObjectRef] = []

    def born(ref: ObjectRef, wanted: dict[str, Any]) -> dict[str, Any]:
        asked.append(ref)
        return with_address(ref, wanted)

    site.wanted.replace({REF: web(80)})
    applier = site.applier(born=born)
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        assert applier.writes == 1, "what a new object is told makes no difference later"
        asked.clear()
        site.wanted.put(REF, web(81))
        await site.settled(applier, lambda: site.seen(81))
        assert not asked
        await site.client.delete(kinds.SERVICE, WEB)
        await site.settled(applier, lambda: bool(asked) and site.seen(81))
    assert set(asked) == {REF}
    assert (await site.found())["spec"]["clusterIP"] == ADDRESS


async def test_what_a_new_object_is_told_is_asked_for_when_it_is_missing_for_a_moment(site: Site) -> None:
    """Each time that it is missing; one that is told nothing more is made at once."""
    looks: list[float] = []

    def born(ref: ObjectRef, wanted: dict[str, Any]) -> dict[str, Any]:
        looks.append(time.monotonic())
        return with_address(ref, wanted) if address else wanted

    address = True
    site.wanted.replace({REF: web(80)})
    applier = site.applier(born=born)
    async with site.running(applier.run()):
        for _ in range(2):
            await site.settled(applier, lambda: site.seen(80))
            assert looks[-1] - looks[0] >= MISSING_SECONDS
            looks.clear()
            await site.client.delete(kinds.SERVICE, WEB)
            await site.until(lambda: bool(looks))
        await site.settled(applier, lambda: site.seen(80))
        looks.clear()
        address = False
        await site.client.delete(kinds.SERVICE, WEB)
        await site.settled(applier, lambda: bool(looks) and site.seen(80))
    assert len(looks) == 1
    assert not applier.failed
    assert applier.writes == 4


async def test_what_a_new_object_is_told_is_given_up_when_it_is_refused_for_long(site: Site) -> None:
    """The address is another's. What is refused anew after that is asked for anew."""
    other = {**web(80), "metadata": {"name": "other", "namespace": "shop"}}
    await site.client.create(raw(kinds.SERVICE), with_address(REF, other))
    site.wanted.replace({REF: web(80)})
    applier, told = long_after_the_first_refusal(site)
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80) and not applier.refused)
        assert (await site.found())["spec"]["clusterIP"] != ADDRESS
        await site.client.delete(kinds.SERVICE, WEB)
        await site.until(lambda: len(told) == 3)
        await site.client.delete(kinds.SERVICE, ObjectKey("shop", "other"))
        await site.settled(applier, lambda: site.seen(80) and not applier.refused)
    assert (await site.found())["spec"]["clusterIP"] == ADDRESS


async def test_what_a_new_object_is_told_is_not_given_up_for_another_reason(site: Site) -> None:
    site.server.faults.set(Fault(kind="error", code=422, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    applier, _ = long_after_the_first_refusal(site)
    async with site.running(applier.run()):
        await site.until(lambda: applier.failed["Service"] == 2)
        site.server.faults.clear()
        site.wanted.put(REF, web(81))
        await site.settled(applier, lambda: site.seen(81) and not applier.refused)
    assert (await site.found())["spec"]["clusterIP"] == ADDRESS
