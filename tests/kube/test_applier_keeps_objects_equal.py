"""The applier on the embedded API server: what is written, what is not, and what is never touched."""

from __future__ import annotations

from typing import Any

import pytest
from appliersite import REF, STATUS, WEB, Site, status, web

from isthmus.api import kinds
from isthmus.api.labels import APPLIED, MANAGED_BY, MANAGER
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import Fault
from isthmus.errors import Conflict, NotFound
from isthmus.flow import Table
from isthmus.kube.applier import Applier
from isthmus.kube.client import Client
from isthmus.kube.raw import raw
from isthmus.kube.reflector import Reflector


async def test_objects_are_created_changed_and_deleted_as_desired(site: Site) -> None:
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        site.wanted.put(REF, web(80, 443))
        await site.settled(applier, lambda: site.seen(80, 443))
        site.wanted.drop(REF)
        await site.settled(applier, lambda: site.seen())
    with pytest.raises(NotFound):
        await site.found()
    assert applier.writes == 3


async def test_a_restart_writes_nothing(site: Site) -> None:
    site.wanted.replace({REF: web(80), STATUS: status(Ready="Fine")})
    first = site.applier()
    async with site.running(first.run()):
        await site.settled(first, lambda: first.writes == 2)
        await site.until(
            lambda: "status" in (site.observed.get(WEB) or {}) and site.observed.get(WEB)["status"]
        )
    before = await site.found()
    second = site.applier()
    async with site.running(second.run()):
        await site.settled(second)
        second.resync()
        await site.settled(second)
    assert second.writes == 0
    assert await site.found() == before


async def test_drift_is_repaired(site: Site) -> None:
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        await site.client.patch(kinds.SERVICE, WEB, {"spec": {"ports": [{"name": "p80", "port": 81}]}})
        await site.until(lambda: applier.writes >= 2)
        await site.settled(applier, lambda: site.seen(80))
        await site.client.delete(kinds.SERVICE, WEB)
        await site.until(lambda: applier.writes >= 3)
        await site.settled(applier, lambda: site.seen(80))


async def test_entries_of_others_in_a_list_of_ours_are_removed(site: Site) -> None:
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        more = {"spec": {"ports": [{"name": "p80", "port": 80}, {"name": "more", "port": 99}]}}
        await site.client.patch(kinds.SERVICE, WEB, more, manager="somebody")
        await site.until(lambda: applier.writes >= 3)
        await site.settled(applier, lambda: site.seen(80))
        # What the repair wrote does not hold on to what goes later.
        site.wanted.put(REF, web(443))
        await site.settled(applier, lambda: site.seen(443))


async def test_fields_of_others_are_left_alone(site: Site) -> None:
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        await site.client.patch(kinds.SERVICE, WEB, {"metadata": {"labels": {"team": "shop"}}})
        site.wanted.put(REF, web(80, 443))
        await site.settled(applier, lambda: site.seen(80, 443))
    assert (await site.found())["metadata"]["labels"] == {MANAGED_BY: MANAGER, "team": "shop"}


async def test_a_field_that_is_not_desired_any_more_goes_even_after_a_restart(site: Site) -> None:
    site.wanted.replace({REF: web(80, annotations={"note": "x"})})
    first = site.applier()
    async with site.running(first.run()):
        await site.settled(first, lambda: site.seen(80))
    site.wanted.replace({REF: web(80)})
    second = site.applier()
    async with site.running(second.run()):
        await site.settled(second, lambda: second.writes == 1)
    assert list((await site.found())["metadata"]["annotations"]) == [APPLIED]


async def test_a_users_object_of_the_same_name_is_never_touched(site: Site) -> None:
    users = web(8080, labels={"app": "theirs"})
    await site.client.create(kinds.SERVICE, users)
    before = await site.found()
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: applier.refused.get(REF) is not None)
        refused = applier.refused.get(REF)
        assert refused is not None
        assert refused.reason == "Foreign"
        site.wanted.drop(REF)
        await site.settled(applier, lambda: applier.refused.get(REF) is None)
    assert await site.found() == before
    assert applier.writes == 0


async def test_a_users_object_makes_room_for_ours_as_soon_as_it_goes(site: Site) -> None:
    """It has no label of ours, so what the applier observes of its own does not show it."""
    everybodys: Table[ObjectKey, dict[str, Any]] = Table("everybody's")
    reflector = Reflector(site.client, raw(kinds.SERVICE), everybodys.partition("eu-1"))
    await site.client.create(kinds.SERVICE, web(8080, labels={"app": "theirs"}))
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    applier.hear(kinds.SERVICE, everybodys)
    async with site.running(reflector.run()), site.running(applier.run()):
        await site.settled(applier, lambda: REF in applier.refused and WEB in everybodys)
        await site.client.delete(kinds.SERVICE, WEB)
        await site.settled(applier, lambda: site.seen(80) and REF not in applier.refused)


@pytest.mark.parametrize("theirs", [80, 8080])
async def test_an_object_that_appears_between_look_and_write_is_left_as_it_was(
    site: Site, theirs: int
) -> None:
    class Racer(Client):
        """Somebody creates the object just after we saw that there is none."""

        async def get(self, kind: Any, key: ObjectKey, *, subresource: str = "") -> Any:
            try:
                return await super().get(kind, key, subresource=subresource)
            except NotFound:
                await site.client.create(kinds.SERVICE, web(theirs, labels={"app": "theirs"}), manager="them")
                raise

    site.wanted.replace({REF: web(80)})
    async with Racer(site.client.access) as racer:
        applier = Applier(racer, "applier", site.desired, {kinds.SERVICE: site.observed}, gate=lambda: True)
        async with site.running(applier.run()):
            await site.settled(applier, lambda: applier.refused.get(REF) is not None)
            refused = applier.refused.get(REF)
            assert refused is not None
            assert refused.reason == "Foreign"
    found = await site.found()
    assert found["metadata"]["labels"] == {"app": "theirs"}
    assert [port["port"] for port in found["spec"]["ports"]] == [theirs]


async def test_ours_goes_when_nobody_desires_it_although_we_were_away(site: Site) -> None:
    await site.client.apply(kinds.SERVICE, web(80), manager=MANAGER)
    site.wanted.replace({})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: applier.writes == 1)
    with pytest.raises(NotFound):
        await site.found()


async def test_nothing_is_deleted_before_it_is_known_what_is_desired(site: Site) -> None:
    await site.client.apply(kinds.SERVICE, web(80), manager=MANAGER)
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        applier.resync()
        await site.settled(applier)
        assert applier.writes == 0
        site.wanted.replace({REF: web(80)})
        await site.settled(applier, lambda: applier.writes == 1)  # the fingerprint was missing
    await site.found()


async def test_nothing_is_written_while_the_gate_is_closed(site: Site) -> None:
    site.open = False
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.asks_again(applier, "gate")
        site.wanted.put(REF, web(81))
        await site.asks_again(applier, "gate")
        assert applier.writes == 0
        assert not applier.overdue
        site.open = True
        assert applier.overdue
        applier.resync()
        assert not applier.overdue
        await site.settled(applier, lambda: site.seen(81))
    assert applier.writes == 1


async def test_nothing_is_deleted_while_deletions_are_not_allowed(site: Site) -> None:
    site.deletes = False
    await site.client.apply(kinds.SERVICE, web(80), manager=MANAGER)
    site.wanted.replace({})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
        assert not applier.overdue
        site.wanted.put(REF, web(81))
        await site.settled(applier, lambda: site.seen(81))  # all else goes on
        site.wanted.drop(REF)
        await site.asks_again(applier, "deletes")
        assert applier.writes == 1
        site.deletes = True
        assert applier.overdue
        applier.resync()
        await site.settled(applier, lambda: site.seen())


async def test_a_condition_keeps_its_time_until_its_status_changes(site: Site) -> None:
    site.wanted.replace({REF: web(80), STATUS: status(Ready="One")})
    applier = site.applier()

    def conditions() -> dict[str, dict[str, str]]:
        found = (site.observed.get(WEB) or {}).get("status", {}).get("conditions", [])
        return {each["type"]: each for each in found}

    async with site.running(applier.run()):
        await site.settled(applier, lambda: "Ready" in conditions())
        past = [
            {"type": "Ready", "status": "True", "reason": "One", "lastTransitionTime": "2020-01-01T00:00:00Z"}
        ]
        await site.client.patch(kinds.SERVICE, WEB, {"status": {"conditions": past}}, subresource="status")
        await site.until(lambda: conditions()["Ready"]["lastTransitionTime"].startswith("2020"))
        site.wanted.put(STATUS, status(Ready="Two", Other="New"))
        await site.settled(applier, lambda: conditions()["Ready"]["reason"] == "Two")
        assert conditions()["Ready"]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
        assert not conditions()["Other"]["lastTransitionTime"].startswith("2020")


async def test_a_condition_that_is_not_desired_any_more_goes(site: Site) -> None:
    site.wanted.replace({REF: web(80), STATUS: status(Ready="One", Other="Two")})
    applier = site.applier()

    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.types() == ["Other", "Ready"])
        site.wanted.put(STATUS, status(Ready="One"))
        await site.settled(applier, lambda: site.types() == ["Ready"])


async def test_a_write_that_fails_is_tried_again(site: Site) -> None:
    site.server.faults.set(Fault(kind="error", code=500, count=2, verbs=frozenset({"patch"})))
    site.wanted.replace({REF: web(80)})
    applier = site.applier()
    async with site.running(applier.run()):
        await site.settled(applier, lambda: site.seen(80))
    assert applier.errors == {}


async def test_a_condition_that_is_not_desired_any_more_goes_although_we_were_away(site: Site) -> None:
    site.wanted.replace({REF: web(80), STATUS: status(Ready="One", Other="Two")})
    before = site.applier()
    async with site.running(before.run()):
        await site.settled(before, lambda: site.types() == ["Other", "Ready"])
    site.wanted.put(STATUS, status(Ready="One"))
    after = site.applier()
    async with site.running(after.run()):
        await site.settled(after, lambda: site.types() == ["Ready"])


async def test_a_decision_about_a_former_object_does_not_hit_its_successor(site: Site) -> None:
    """Every write carries the uid it was decided on."""
    await site.client.apply(kinds.SERVICE, web(80), manager=MANAGER)
    old = await site.found()
    await site.client.delete(kinds.SERVICE, WEB)
    await site.client.create(kinds.SERVICE, web(9090, labels={"app": "theirs"}))
    theirs = await site.found()
    with pytest.raises(Conflict):
        await site.client.delete(kinds.SERVICE, WEB, uid=old["metadata"]["uid"])
    # An applier whose cache still shows the former object.
    frozen: Table[ObjectKey, dict[str, Any]] = Table("frozen")
    frozen.partition("then").replace({WEB: old})
    site.wanted.replace({REF: web(81)})
    applier = Applier(site.client, "applier", site.desired, {kinds.SERVICE: frozen}, gate=lambda: True)
    async with site.running(applier.run()):
        await site.settled(applier, lambda: applier.refused.get(REF) is not None)
    assert await site.found() == theirs


async def test_a_write_in_flight_ends_before_another_may_hold_the_lease(site: Site) -> None:
    site.left = 0.2
    site.wanted.replace({})
    async with site.running((applier := site.applier()).run()):
        await site.settled(applier)
        site.server.faults.set(Fault(kind="silence"))
        site.wanted.put(REF, web(80))
        await site.until(lambda: "no answer in time" in applier.errors.get(REF, ""))
        site.server.faults.clear()
        site.left = 10.0
        await site.until(lambda: site.seen(80))
