"""The reflector against scripted answers: pages, cuts, 410, malformed objects, silence, failures."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from isthmus.api import kinds
from isthmus.api.core import Service
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import Client
from isthmus.kube.raw import raw
from isthmus.kube.reflector import Reflector, State, Timing

FAST = Timing(page=2, backoff=Backoff(first=0.001, longest=0.01))


def service(name: str, version: str = "1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": version}, "spec": spec}


def event(type_: str, name: str, version: str, **spec: Any) -> dict[str, Any]:
    return {"type": type_, "object": service(name, version, **spec)}


class Mirror:
    """A reflector of services, its table, and the states it told."""

    def __init__(self, client: Client, timing: Timing = FAST, **more: Any) -> None:
        self.table: Table[ObjectKey, Service] = Table("services")
        self.writer = self.table.partition("test")
        self.states: list[State] = []
        self.now = 1000.0
        self.reflector = Reflector(
            client,
            kinds.SERVICE,
            self.writer,
            timing=timing,
            rng=Random(7),
            wall=lambda: 5_000.0,
            on_state=self.states.append,
            **more,
        )

    @property
    def names(self) -> list[str]:
        return sorted(key.name for key in self.table.keys())  # noqa: SIM118 - a Table is no dict


@pytest.fixture
def mirror(client: Client) -> Mirror:
    return Mirror(client)


async def test_pages_make_one_list_and_the_watch_goes_on_from_it(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    script.lists.append(script.page(service("a"), service("b"), version="10", continue_="more"))
    script.lists.append(script.page(service("c"), version="11"))
    script.watches.append(
        script.stream(
            event("ADDED", "d", "12"), event("DELETED", "a", "13"), event("MODIFIED", "b", "14"), hold=True
        )
    )
    assert mirror.reflector.staleness() == float("inf")
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.names == ["b", "c", "d"])
        await until(lambda: mirror.table.get(ObjectKey("shop", "b")).metadata.resource_version == "14")
    first, second = script.requests("list")
    assert (first.query, second.query) == ({"limit": "2"}, {"limit": "2", "continue": "more"})
    watch = script.requests("watch")[0].query
    assert watch["resourceVersion"] == "10"
    assert 300 <= int(watch["timeoutSeconds"]) <= 600
    assert mirror.table.synced
    assert mirror.reflector.synced
    assert mirror.states[0].live
    assert mirror.reflector.staleness() < 60.0


async def test_nothing_of_an_unfinished_list_is_seen(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    script.lists.append(script.page(service("a"), service("b"), version="10", continue_="more"))
    script.lists.append(script.failure(500, "no"))
    script.lists.append(script.silence())
    async with running(mirror.reflector.run()):
        await until(lambda: len(script.requests("list")) == 3)
        assert mirror.names == []
        assert not mirror.table.synced
        assert "continue" not in script.requests("list")[2].query


async def test_a_stream_that_ends_is_resumed_at_the_last_bookmark(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    script.watches.append(
        script.stream(
            event("ADDED", "a", "5"), {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
        )
    )
    async with running(mirror.reflector.run()):
        await until(lambda: len(script.requests("watch")) == 2)
        assert mirror.names == ["a"]
    assert script.requests("watch")[1].query["resourceVersion"] == "9"
    assert len(script.requests("list")) == 1


@pytest.mark.parametrize("how", ["http", "event"])
async def test_410_lists_again_and_what_vanished_meanwhile_goes(
    script: Any, mirror: Mirror, running: Any, until: Any, how: str
) -> None:
    script.lists.append(script.page(service("a"), service("b"), version="10"))
    script.lists.append(script.page(service("b"), service("c"), version="20"))
    gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
    script.watches.append(
        script.failure(410, "too old") if how == "http" else script.stream({"type": "ERROR", "object": gone})
    )
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.names == ["b", "c"])
        await until(lambda: len(script.requests("watch")) == 2)
    assert script.requests("watch")[1].query["resourceVersion"] == "20"


async def test_a_malformed_object_is_left_out_alone(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    script.lists.append(script.page(service("good"), service("bad", ports="none"), 17, version="10"))
    script.watches.append(
        script.stream(
            event("ADDED", "bad2", "11", ports=[{"port": "eighty"}]),
            {"type": "ADDED", "object": 12},
            event("MODIFIED", "good", "12", ports=7),
            event("ADDED", "other", "13"),
            hold=True,
        )
    )
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.names == ["other"])
    assert mirror.reflector.state.malformed == 5
    assert len(script.requests("watch")) == 1


async def test_a_line_that_is_no_event_breaks_the_stream_and_not_the_mirror(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    script.lists.append(script.page(service("a"), version="10"))
    script.watches.append(script.stream("<html>", hold=True))
    script.watches.append(script.stream(event("ADDED", "b", "11"), hold=True))
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.names == ["a", "b"])


async def test_a_failing_server_makes_the_rows_stale_and_its_return_fresh(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    back = asyncio.Event()
    script.lists.append(script.page(service("a"), version="10"))
    script.watches.append(script.stream(after=back))
    script.watches.extend([script.failure(500, "broken")] * 3)
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.reflector.state.live)
        assert mirror.writer.stale_since is None
        states = len(mirror.states)
        back.set()
        await until(lambda: len(mirror.states) == states + 2)
        assert mirror.names == ["a"]
        assert mirror.writer.stale_since is None
    failing, fresh = mirror.states[-2:]
    assert (failing.live, fresh.live, fresh.error) == (False, True, "")
    assert failing.error.endswith("500 broken")


async def test_rows_stay_and_say_since_when_they_are_old(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    script.lists.append(script.page(service("a"), version="10"))
    script.watches.append(script.failure(403, "not allowed"))
    script.watches.append(script.silence())
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.writer.stale_since is not None)
        assert mirror.writer.stale_since == 5_000.0
        assert mirror.table.stale == {"test": 5_000.0}
        assert mirror.names == ["a"]


async def test_a_peer_that_falls_silent_is_left(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    mirror = Mirror(client, Timing(silence=0.5, backoff=Backoff(first=0.001)))
    script.watches.append(script.stream(event("ADDED", "a", "5"), hold=True))
    async with running(mirror.reflector.run()):
        await until(lambda: len(script.requests("watch")) >= 2)
        assert mirror.names == ["a"]
    assert script.requests("watch")[1].query["resourceVersion"] == "5"


async def test_a_row_that_belongs_to_another_partition_ends_nothing(
    script: Any, mirror: Mirror, running: Any, until: Any
) -> None:
    mirror.table.partition("other").replace({ObjectKey("shop", "a"): Service()})
    script.lists.append(script.page(service("a"), version="10"))
    script.lists.append(script.page(service("b"), version="11"))
    async with running(mirror.reflector.run()):
        await until(lambda: mirror.names == ["a", "b"])


async def test_lists_take_turns_at_the_gate(script: Any, client: Client, running: Any, until: Any) -> None:
    gate = asyncio.Semaphore(1)
    first, second = Mirror(client, gate=gate), Mirror(client, gate=gate)
    script.lists.append(script.silence())
    async with running(first.reflector.run()), running(second.reflector.run()):
        await until(lambda: len(script.requests("list")) == 1)
        assert gate.locked()
        script.closing.set()
        await until(lambda: second.reflector.synced and first.reflector.synced)
    assert not gate.locked()


async def test_selector_and_namespace_are_sent_on_lists_and_watches(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    mirror = Mirror(client, namespace="shop", label_selector="a=b")
    async with running(mirror.reflector.run()):
        await until(lambda: len(script.requests("watch")) == 1)
    for seen in script.seen:
        assert seen.path == "/api/v1/namespaces/shop/services"
        assert seen.query["labelSelector"] == "a=b"


async def test_raw_objects_can_be_mirrored_too(script: Any, client: Client, running: Any, until: Any) -> None:
    table: Table[ObjectKey, dict[str, Any]] = Table("raw")
    script.lists.append(script.page({**service("a"), "status": {"x": 1}}))
    script.watches.append(script.stream(event("ADDED", "b", "5"), hold=True))
    async with running(Reflector(client, raw(kinds.SERVICE), table.partition("test"), timing=FAST).run()):
        await until(lambda: len(table) == 2)
    found = table.get(ObjectKey("shop", "a"))
    assert found is not None
    assert (found["kind"], found["status"]) == ("Service", {"x": 1})
