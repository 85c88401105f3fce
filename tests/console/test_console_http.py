"""The console over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from console_tables import sources, table
from prometheus_client import CollectorRegistry, Counter

from isthmus.console.events import Ring
from isthmus.console.http import MOST_ITEMS, MOST_WAIT_SECONDS, application, serve
from isthmus.flow import Table
from loadtests.ports import free_port


@pytest.fixture
def late() -> Table[Any, Any]:
    return table("late", None)


@pytest.fixture
def ring() -> Ring:
    made = Ring("run-1")
    made.add("cluster", 1.5, [("us-1", "is Unknown")])
    return made


@pytest.fixture
async def client(late: Table[Any, Any], ring: Ring) -> AsyncIterator[TestClient]:
    registry = CollectorRegistry()
    Counter("isthmus_console_test", "For this test.", registry=registry).inc(3)
    server = TestServer(application(sources(required=(table("services", {}), late)), registry, ring))
    async with TestClient(server) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/v1/status",
        "/v1/services",
        "/v1/services?limit=1&offset=1",
        "/v1/services/shop/checkout",
        "/v1/plans?service=shop/checkout",
        "/v1/clusters",
        "/v1/health",
        "/v1/health?service=shop/checkout",
        "/v1/health?up=false",
        "/v1/zone?address=10.0.1.1",
        "/v1/explain?service=shop/checkout",
        "/v1/explain?service=shop/checkout&port=http&from=eu-1/a",
        "/v1/events",
        "/v1/events?after=0&wait=1",
    ],
)
async def test_each_path_answers_json(client: TestClient, path: str) -> None:
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert isinstance(await answer.json(), dict)


async def test_ready_only_when_complete(client: TestClient, late: Table[Any, Any]) -> None:
    async with client.get("/readyz") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "notReady": ["late is not complete"]}
    late._writers["test"].replace({})
    async with client.get("/readyz") as answer:
        assert answer.status == 200
        assert await answer.json() == {"ready": True, "notReady": []}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/", 404, "Not Found"),
        ("/v1/services/shop/nobody", 404, "no service shop/nobody"),
        ("/v1/plans", 400, "?service=NAMESPACE/NAME"),
        ("/v1/plans?service=checkout", 400, "NAMESPACE/NAME"),
        ("/v1/plans?service=a/b/c", 400, "NAMESPACE/NAME"),
        ("/v1/services?limit=-1", 400, "limit must be"),
        (f"/v1/services?limit={MOST_ITEMS + 1}", 400, "limit must be"),
        ("/v1/zone", 400, "?address=10.0.0.1"),
        ("/v1/zone?address=here", 400, "?address=10.0.0.1"),
        ("/v1/explain", 400, "?service=NAMESPACE/NAME"),
        ("/v1/explain?service=shop/nobody", 404, "no service shop/nobody"),
        ("/v1/explain?service=shop/checkout&port=81", 400, "no port 81; it has http (TCP/80)"),
        ("/v1/explain?service=shop/checkout&from=eu-9", 400, "the vantages are eu-1, eu-1/a, us-1"),
        (f"/v1/events?wait={MOST_WAIT_SECONDS + 1}", 400, "wait must be"),
        ("/v1/health?up=no", 400, "up must be one of true, false, unknown"),
        ("/v1/health?offset=%D9%A3", 400, "offset must be"),
        ("/v1/health?offset=9999999999999999999999", 400, "offset must be"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    client: TestClient, path: str, status: int, words: str
) -> None:
    async with client.get(path) as answer:
        assert answer.status == status
        assert answer.content_type == "application/json"
        assert words in (await answer.json())["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_written(client: TestClient, method: str) -> None:
    async with client.request(method, "/v1/services") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert (await answer.json())["error"] == "the console is read-only"


async def test_who_asks_for_what_is_next_hears_it_when_it_happens(client: TestClient, ring: Ring) -> None:
    path = "/v1/events?after=1&run=run-1&wait=25"
    waiting = asyncio.create_task(client.get(path).__aenter__())
    async with asyncio.timeout(60):
        while not ring._waiting:
            await asyncio.sleep(0.005)
        ring.add("plan", 2.0, [("shop/checkout", "us-1 0% -> 100%")])
        body = await (await waiting).json()
    assert (body["cluster"], body["run"], body["last"], body["lost"]) == ("eu-1", "run-1", 2, 0)
    (event,) = body["items"]
    assert (event["number"], event["kind"], event["subject"]) == (2, "plan", "shop/checkout")


async def test_metrics_come_from_the_given_registry(client: TestClient) -> None:
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        lines = (await answer.text()).splitlines()
    assert "isthmus_console_test_total 3.0" in lines
    assert not [line for line in lines if line.startswith("python_")]


async def test_it_serves_until_cancelled_and_leaves_the_port_free() -> None:
    port = free_port()
    for _ in range(2):
        task = asyncio.create_task(serve(sources(), CollectorRegistry(), Ring("run"), port=port))
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while True:
                assert not task.done()
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                        assert await answer.json() == {"status": "ok"}
                        break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
