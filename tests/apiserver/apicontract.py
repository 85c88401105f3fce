"""A raw HTTP client and the objects that the contract tests of the API server share."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

DEADLINE = 60.0
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
Object = dict[str, Any]


class Answer(NamedTuple):
    """Status code, decoded body and headers."""

    code: int
    body: Any
    headers: Any

    def fields(self) -> list[str]:
        """Fields a Status complains about."""
        return [cause["field"] for cause in self.body["details"].get("causes", ())]


class Watch:
    """A running watch; `next` waits for the next event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Object:
        async with asyncio.timeout(DEADLINE):
            line = await self.response.content.readline()
        if not line:
            raise EOFError("the watch has ended")
        event: Object = json.loads(line)
        return event

    async def rest(self) -> list[Object]:
        """All events until the watch ends."""
        async with asyncio.timeout(DEADLINE):
            return [json.loads(line) async for line in self.response.content]

    async def names(self, count: int) -> list[tuple[str, str]]:
        """Type and object name of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


class Api:
    """A raw client of one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def call(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **params: str
    ) -> Answer:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        data = io.BytesIO(raw) if body is not None else None
        headers = {"Content-Type": kind} if data is not None else {}
        async with (
            asyncio.timeout(DEADLINE),
            self.session.request(
                method, self.url + path, data=data, headers=headers, params=params
            ) as response,
        ):
            text = await response.text()
            decoded = json.loads(text) if text.startswith("{") else text  # /openapi/v3 says it is plain text
            return Answer(response.status, decoded, response.headers)

    async def get(self, path: str, **params: str) -> Answer:
        return await self.call("GET", path, **params)

    async def post(self, path: str, body: Any, **params: str) -> Answer:
        return await self.call("POST", path, body, **params)

    async def put(self, path: str, body: Any, **params: str) -> Answer:
        return await self.call("PUT", path, body, **params)

    async def delete(self, path: str, body: Any = None, **params: str) -> Answer:
        return await self.call("DELETE", path, body, **params)

    async def merge(self, path: str, body: Any, **params: str) -> Answer:
        return await self.call("PATCH", path, body, kind="application/merge-patch+json", **params)

    async def apply(self, path: str, body: Any, manager: str = "tester", **params: str) -> Answer:
        params["fieldManager"] = manager
        return await self.call("PATCH", path, body, kind="application/apply-patch+yaml", **params)

    @asynccontextmanager
    async def watch(self, path: str, **params: str) -> AsyncIterator[Watch]:
        query = {"watch": "true", **params}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(self.url + path, params=query, timeout=timeout) as response:
            assert response.status == 200, await response.text()
            yield Watch(response)

    async def until(self, path: str, holds: Callable[[Answer], bool]) -> Answer:
        """Read a path until the answer is as wanted."""
        async with asyncio.timeout(DEADLINE):
            while not holds(answer := await self.get(path)):
                await asyncio.sleep(0.01)
        return answer

    async def until_answer(self, method: str, path: str, body: Any, *, code: int, **params: str) -> Answer:
        """Repeat a request until it is answered with this code."""
        async with asyncio.timeout(DEADLINE):
            while (answer := await self.call(method, path, body, **params)).code != code:
                await asyncio.sleep(0.01)
        return answer

    async def until_gone(self, path: str) -> None:
        await self.until(path, lambda answer: answer.code == 404)


def property_schema(**properties: Any) -> Object:
    return {"type": "object", "properties": properties}


def definition(
    group: str, versions: list[Object], *, kind: str = "Route", scope: str = "Namespaced"
) -> Object:
    """A CustomResourceDefinition."""
    plural = kind.lower() + "s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "kind": kind},
            "versions": versions,
        },
    }


STRINGS: Object = {"type": "object", "additionalProperties": {"type": "string"}}
ROUTE_SPEC: Object = {
    "type": "object",
    "required": ["targets"],
    "properties": {
        "strategy": {"type": "string", "enum": ["Locality", "FailOver"], "default": "Locality"},
        "replicas": {"type": "integer", "minimum": 0, "maximum": 10},
        "selector": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "x-kubernetes-map-type": "atomic",
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "aliases": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "hosts": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "string", "pattern": "^[a-z.]+$", "maxLength": 9},
        },
        "port": {"x-kubernetes-int-or-string": True},
        "targets": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["cluster"],
            "items": {
                "type": "object",
                "required": ["cluster"],
                "properties": {
                    "cluster": {"type": "string", "minLength": 1},
                    "weight": {"type": "integer", "default": 1},
                },
            },
        },
    },
}
ROUTE_STATUS = property_schema(
    ready={"type": "boolean"},
    conditions={
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {"type": "object", "required": ["type"], "properties": {
            "type": {"type": "string"}, "status": {"type": "string"},
        }},
    },
)  # fmt: skip


class Routes(NamedTuple):
    """A served custom resource: its definition's path and its collection's path in the test's namespace."""

    definition: str
    path: str
    api_version: str

    def route(self, name: str, **spec: Any) -> Object:
        spec.setdefault("targets", [{"cluster": "eu-1"}])
        return {"apiVersion": self.api_version, "kind": "Route", "metadata": {"name": name}, "spec": spec}
