"""What the client sends and how it names what goes wrong."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from isthmus import errors
from isthmus.api import kinds
from isthmus.api.core import Service
from isthmus.api.meta import ObjectKey
from isthmus.kube import client as client_module
from isthmus.kube.client import Client, error_of
from isthmus.kube.config import Access
from isthmus.kube.credentials import Files, User
from isthmus.kube.raw import raw, status_only

KEY = ObjectKey("shop", "web")
WEB = {
    "metadata": {"name": "web", "namespace": "shop", "managedFields": [{"manager": "x"}]},
    "spec": {"type": "X"},
}


async def test_objects_come_back_as_the_kinds_type(script: Any, client: Client) -> None:
    script.answers.append(script.answer(WEB))
    found = await client.get(kinds.SERVICE, KEY)
    assert isinstance(found, Service)
    assert found.metadata.key == KEY
    assert script.seen[0].path == "/api/v1/namespaces/shop/services/web"
    assert script.seen[0].headers["User-Agent"].startswith("isthmus/")


async def test_raw_objects_name_their_kind_and_have_no_managed_fields(script: Any, client: Client) -> None:
    script.answers.append(script.answer(WEB))
    found = await client.get(raw(kinds.SERVICE), KEY)
    assert found == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "X"},
    }
    assert status_only(found) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
    }


async def test_writes_say_what_the_server_needs_to_know(script: Any, client: Client) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}}
    for _ in range(5):
        script.answers.append(script.answer(WEB))
    await client.create(kinds.SERVICE, body)
    await client.replace(kinds.SERVICE, body, subresource="status")
    await client.patch(kinds.SERVICE, KEY, {"spec": None})
    await client.apply(kinds.SERVICE, body, manager="isthmus", force=False)
    await client.delete(kinds.SERVICE, KEY, uid="u-1")
    create, replace, patch, apply, delete = script.seen
    collection = "/api/v1/namespaces/shop/services"
    assert (create.method, create.path, create.body) == ("POST", collection, body)
    assert (replace.method, replace.path) == ("PUT", f"{collection}/web/status")
    assert patch.headers["Content-Type"] == "application/merge-patch+json"
    assert patch.body == {"spec": None}
    assert apply.headers["Content-Type"] == "application/apply-patch+yaml"
    assert apply.query == {"fieldManager": "isthmus", "force": "false"}
    assert delete.body["preconditions"] == {"uid": "u-1"}
    assert delete.body["propagationPolicy"] == "Background"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (422, errors.Invalid),
        (429, errors.Throttled),
        (500, errors.KubeError),
        (503, errors.KubeError),
    ],
)
async def test_every_status_has_its_error(
    script: Any, client: Client, code: int, kind: type[errors.KubeError]
) -> None:
    script.answers.extend([script.failure(code, "the reason")] * 2)
    with pytest.raises(errors.KubeError, match="GET /api/v1/namespaces/shop/services/web at test") as caught:
        await client.get(kinds.SERVICE, KEY)
    assert type(caught.value) is kind
    assert caught.value.status == code
    assert str(caught.value).endswith(f"{code} the reason")


async def test_the_server_can_ask_for_time(script: Any, client: Client) -> None:
    script.answers.append(script.failure(503, "starting", headers={"Retry-After": "7"}))
    with pytest.raises(errors.Throttled) as caught:
        await client.get(kinds.SERVICE, KEY)
    assert caught.value.retry_after == 7.0
    script.answers.append(script.failure(429, "slow down", details={"retryAfterSeconds": 3}))
    with pytest.raises(errors.Throttled) as caught:
        await client.get(kinds.SERVICE, KEY)
    assert caught.value.retry_after == 3.0


async def test_only_a_status_lends_its_text_to_an_error(script: Any, client: Client) -> None:
    script.answers.append(script.answer("<html>password=hunter2</html>", status=502))
    with pytest.raises(errors.KubeError) as caught:
        await client.get(kinds.SERVICE, KEY)
    assert "hunter2" not in str(caught.value)
    assert len(str(error_of("x", 500, b'{"message": "%s"}' % (b"m" * 5000)))) < 300


async def test_a_raw_answer_is_whatever_was_said_there(script: Any, client: Client) -> None:
    script.answers.append(script.answer({"error": "no such service"}, status=404))
    answer = await client.get_raw("/api/v1/namespaces/a/pods/b:9470/proxy/v1/status", {"x": "a/b"})
    assert (answer.status, answer.body) == (404, b'{"error": "no such service"}')
    assert script.seen[-1].path.endswith("/pods/b:9470/proxy/v1/status")
    assert script.seen[-1].query == {"x": "a/b"}
    script.answers.append(script.silence())
    with pytest.raises(errors.Unreachable):
        await client.get_raw("/", seconds=0.05)


async def test_no_answer_is_unreachable_and_in_time(script: Any) -> None:
    script.answers.append(script.silence())
    access = Access(name="test", server=script.url, source=Files(where="test", encrypted=False))
    async with Client(access, timeout=0.05) as client:
        with pytest.raises(errors.Unreachable, match="no answer"):
            await client.get(kinds.SERVICE, KEY)
    nobody = Access(name="test", server="http://127.0.0.1:1", source=Files(where="test", encrypted=False))
    async with Client(nobody) as client:
        with pytest.raises(errors.Unreachable):
            await client.get(kinds.SERVICE, KEY)
        with pytest.raises(errors.Unreachable):
            async with client.watch(kinds.SERVICE):
                pass


async def test_an_answer_of_the_wrong_shape_is_an_error_of_that_server(script: Any, client: Client) -> None:
    script.answers.append(script.answer("[]"))
    with pytest.raises(errors.KubeError, match="is no Service"):
        await client.get(kinds.SERVICE, KEY)
    script.lists.append(script.answer("{broken"))
    with pytest.raises(errors.KubeError, match="not a list"):
        await client.list_page(kinds.SERVICE)


async def test_an_endless_answer_is_cut(script: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_BYTES", 1000)
    script.answers.append(script.answer({"metadata": {"name": "x" * 2000}}))
    with pytest.raises(errors.KubeError, match="over 1000 bytes"):
        await client.get(kinds.SERVICE, KEY)


@pytest.mark.parametrize("tail", ["", "\n{}"])
async def test_an_endless_event_is_cut(
    script: Any, client: Client, monkeypatch: pytest.MonkeyPatch, tail: str
) -> None:
    monkeypatch.setattr(client_module, "LINE_BYTES", 1000)
    script.watches.append(script.stream("{}", "y" * 3000 + tail, hold=True))
    async with client.watch(kinds.SERVICE) as lines:
        assert await anext(lines) == b"{}"
        with pytest.raises(errors.KubeError, match="over 1000 bytes"):
            await anext(lines)


async def test_a_redirect_is_not_followed_with_our_token(script: Any, client: Client) -> None:
    script.answers.append(script.answer({}, status=302, headers={"Location": f"{script.url}/elsewhere"}))
    with pytest.raises(errors.KubeError, match="302"):
        await client.get(kinds.SERVICE, KEY)
    assert len(script.seen) == 1


async def test_a_rotated_token_is_read_again_after_a_401(script: Any, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    source = Files(where="test", encrypted=False, user=User(token_file=token))
    async with Client(Access(name="test", server=script.url, source=source)) as client:
        script.answers.extend([script.answer(WEB), script.failure(401), script.answer(WEB)])
        await client.get(kinds.SERVICE, KEY)
        token.write_text("new\n")
        await client.get(kinds.SERVICE, KEY)
    assert [seen.headers["Authorization"] for seen in script.seen] == [
        "Bearer old",
        "Bearer old",
        "Bearer new",
    ]


@pytest.mark.parametrize(("ahead", "offset"), [(0, 0.0), (-4, 0.0), (4, 0.0), (90, 90.0), (-3600, -3600.0)])
async def test_the_servers_clock_is_measured_and_small_offsets_count_as_none(
    script: Any, ahead: float, offset: float
) -> None:
    now = 1_700_000_000.5
    headers = {"Date": formatdate(now + ahead, usegmt=True)}
    script.answers.append(script.answer(WEB, headers=headers))
    async with Client(
        Access(name="test", server=script.url, source=Files(where="test", encrypted=False)),
        wall=lambda: now,
        clock=lambda: 42.0,
    ) as client:
        assert client.last_answer is None
        await client.get(kinds.SERVICE, KEY)
        assert client.clock_offset == offset
        assert client.last_answer == 42.0


async def test_requests_run_beside_open_watches(script: Any, client: Client) -> None:
    script.watches.append(script.stream("{}", hold=True))
    script.answers.append(script.answer(WEB))
    async with client.watch(kinds.SERVICE, seconds=77, resource_version="9") as lines:
        assert await anext(lines) == b"{}"
        async with asyncio.timeout(20):
            await client.get(kinds.SERVICE, KEY)
    query = script.requests("watch")[0].query
    assert query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "77",
        "resourceVersion": "9",
    }


async def broken_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=500, headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def test_an_error_that_breaks_off_is_no_answer(script: Any, client: Client) -> None:
    script.answers.append(broken_off)
    with pytest.raises(errors.Unreachable):
        await client.get(kinds.SERVICE, KEY)
    script.watches.append(broken_off)
    with pytest.raises(errors.Unreachable):
        await client.watch(kinds.SERVICE).__aenter__()


async def test_only_what_a_server_says_itself_counts_as_its_answer(script: Any, client: Client) -> None:
    late = {"Date": formatdate(1_000_000_000, usegmt=True)}
    script.answers += [script.failure(503, headers=late), script.failure(404, headers=late)]
    with pytest.raises(errors.KubeError):
        await client.get(kinds.SERVICE, KEY)
    assert (client.last_answer, client.clock_offset) == (None, 0.0)
    with pytest.raises(errors.NotFound):
        await client.get(kinds.SERVICE, KEY)
    assert client.last_answer is not None
    assert client.clock_offset < 0


async def test_an_impossible_date_is_passed_over(script: Any, client: Client) -> None:
    script.answers.append(script.answer(WEB, headers={"Date": f"Thu, 01 Jan {'9' * 30} 00:00:00 GMT"}))
    await client.get(kinds.SERVICE, KEY)
    assert client.clock_offset == 0.0
