"""Bytes that no good server sends: one bad object is left out, one too long answer is asked for in parts."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

import pytest
from aiohttp import web

from isthmus.api import kinds
from isthmus.api.core import Service
from isthmus.api.meta import ObjectKey
from isthmus.flow import Table
from isthmus.kube import client as client_module
from isthmus.kube.backoff import Backoff
from isthmus.kube.client import Client
from isthmus.kube.reflector import Reflector, Timing

FAST = Timing(backoff=Backoff(first=0.001, longest=0.01), page=16)
INVALID = b'"\xff\xfe"'


def body(name: str, extra: bytes = b"") -> bytes:
    labels = b', "labels": {"a": ' + extra + b"}" if extra else b""
    return b'{"metadata": {"namespace": "shop", "resourceVersion": "2", "name": "%b"%b}}' % (
        name.encode(),
        labels,
    )


def page(*items: bytes) -> Any:
    async def handler(_request: web.Request) -> web.StreamResponse:
        text = b'{"metadata": {"resourceVersion": "1"}, "items": [' + b",".join(items) + b"]}"
        return web.Response(body=text, content_type="application/json")

    return handler


def events(*objects: bytes, closing: asyncio.Event) -> Any:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for one in objects:
            await response.write(b'{"type": "ADDED", "object": ' + one + b"}\n")
        await closing.wait()
        return response

    return handler


def mirror(client: Client) -> tuple[Table[ObjectKey, Service], Reflector[Service]]:
    table: Table[ObjectKey, Service] = Table("services")
    return table, Reflector(client, kinds.SERVICE, table.partition("test"), timing=FAST, rng=Random(7))


def names(table: Table[ObjectKey, Service]) -> list[str]:
    return sorted(key.name for key in table)


async def test_an_object_that_is_no_utf8_is_left_out_of_a_list_and_of_a_watch(
    script: Any, client: Client, running: Any, until: Any
) -> None:
    table, reflector = mirror(client)
    script.lists.append(page(body("a"), body("bad", INVALID), body("b")))
    script.watches.append(events(body("worse", INVALID), body("c"), closing=script.closing))
    async with running(reflector.run()):
        await until(lambda: names(table) == ["a", "b", "c"])
        assert reflector.state.malformed == 2
        assert reflector.state.error == ""
        assert reflector.state.lists == 1


@pytest.mark.parametrize("value", [b"1e999", b"[1, 2]", b'{"deep": ' * 400 + b"1" + b"}" * 400])
async def test_a_label_that_is_no_text_leaves_out_its_object(
    script: Any, client: Client, running: Any, until: Any, value: bytes
) -> None:
    table, reflector = mirror(client)
    script.lists.append(page(body("a"), body("bad", value)))
    async with running(reflector.run()):
        await until(lambda: table.synced)
        assert names(table) == ["a"]


@pytest.mark.parametrize("value", [b"[" * 100_000 + b"]" * 100_000, b'"\\ud800"'])
async def test_a_list_that_is_nested_without_end_or_no_json_is_an_error_that_heals(
    script: Any, client: Client, running: Any, until: Any, value: bytes
) -> None:
    """API servers prune and write neither; whoever stands in for one may."""
    table, reflector = mirror(client)
    script.lists += [page(body("bad", value)), page(body("a"))]
    async with running(reflector.run()):
        await until(lambda: names(table) == ["a"])
        assert reflector.state.failures == 1


async def test_an_answer_that_is_too_long_is_asked_for_in_smaller_parts(
    script: Any, client: Client, running: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of many objects, each as large as an object may be."""
    monkeypatch.setattr(client_module, "ANSWER_BYTES", 1_000)
    everything = [body(f"s{number:02}", json.dumps("x" * 60).encode()) for number in range(16)]

    async def some(request: web.Request) -> web.StreamResponse:
        script.lists.append(some)
        start, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        items = everything[start : start + limit]
        rest = f', "continue": "{start + limit}"' if start + limit < len(everything) else ""
        text = f'{{"metadata": {{"resourceVersion": "1"{rest}}}, "items": ['
        return web.Response(body=text.encode() + b",".join(items) + b"]}", content_type="application/json")

    script.lists.append(some)
    table, reflector = mirror(client)
    async with running(reflector.run()):
        await until(lambda: len(table) == 16)
    limits = [int(seen.query["limit"]) for seen in script.requests("list")]
    assert limits[0] == 16
    assert set(limits[1:]) == {2}
