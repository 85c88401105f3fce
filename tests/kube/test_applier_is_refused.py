"""What the applier makes of an object that a server would not have, and of one that is new to it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from appliersite import REF, WEB, Site, web

from isthmus.api import kinds
from isthmus.apiserver import Fault
from isthmus.kube.applier import LASTING_SECONDS, ObjectRef
from isthmus.model.refusal import Refused


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


async def test_what_a_server_would_not_have_for_a_moment_is_written_soon(site: Site) -> None:
    site.server.faults.set(Fault(kind="error", code=422, count=3, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    told: list[Refused | None] = []
    applier.refused.observe(lambda _ref, _old, new: told.append(new))
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80) and not applier.refused)
    assert [(one.reason, one.lasting) for one in told if one] == [("Invalid", False)]
    assert applier.failed["Service"] == 3


async def test_a_refusal_that_stays_is_told_as_lasting_and_counted_anew_after_it_ended(site: Site) -> None:
    site.server.faults.set(Fault(kind="error", code=422, count=2, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    told: list[bool | None] = []
    applier = site.applier(clock=lambda: time.monotonic() + (LASTING_SECONDS if told else 0.0))
    applier.refused.observe(lambda _ref, _old, new: told.append(new and new.lasting))
    async with site.running(applier.run()):
        await site.until(lambda: told == [False, True])
        site.wanted.put(REF, web(81))
        await site.settled(applier, lambda: site.seen(81) and not applier.refused)
        site.wanted.drop(REF)
        await site.settled(applier, lambda: WEB not in site.observed)
        site.server.faults.set(Fault(kind="error", code=422, count=1, verbs=frozenset({"patch"})))
        site.wanted.put(REF, web(82))
        await site.settled(applier, lambda: site.seen(82) and not applier.refused)
    assert told == [False, True, None, False, None]


async def test_what_is_refused_for_good_is_asked_for_otherwise_soon(site: Site) -> None:
    site.server.faults.set(Fault(kind="error", code=422, count=2, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    told: list[bool] = []
    asked: list[bool] = []

    def born(ref: ObjectRef, wanted: dict[str, Any]) -> dict[str, Any]:
        asked.append((refused := applier.refused.get(ref)) is not None and refused.lasting)
        return wanted

    applier = site.applier(clock=lambda: time.monotonic() + (LASTING_SECONDS if told else 0.0), born=born)
    applier.refused.observe(lambda _ref, _old, new: told.append(new is not None))
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
    assert asked == [False, False, True]


async def test_only_what_is_created_is_told_what_a_new_object_is_told(site: Site) -> None:
    asked: list[ObjectRef] = []

    def born(ref: ObjectRef, wanted: dict[str, Any]) -> dict[str, Any]:
        asked.append(ref)
        return {**wanted, "spec": {**wanted["spec"], "clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"]}}

    site.wanted.replace({REF: web(80)})
    applier = site.applier(born=born)
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        assert applier.writes == 1, "what a new object is told makes no difference later"
        site.wanted.put(REF, web(81))
        await site.settled(applier, lambda: site.seen(81))
        assert asked == [REF]
        await site.client.delete(kinds.SERVICE, WEB)
        await site.settled(applier, lambda: len(asked) == 2 and site.seen(81))
    assert (await site.found())["spec"]["clusterIP"] == "10.96.7.7"
