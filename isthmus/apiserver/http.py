"""The HTTP shell of one cluster: requests to verbs, results and refusals to responses.

Nothing is decided here but the wire: media types, query parameters, headers, streaming. JSON is the only
answer, whatever a client accepts; bodies may be JSON or YAML.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import msgspec
import structlog
from aiohttp import web

from isthmus.apiserver import listing, patch, routing, status, watch
from isthmus.apiserver.cluster import Cluster, Write, Written
from isthmus.apiserver.deletion import DeleteOptions
from isthmus.apiserver.faults import Call, Cut, Faults
from isthmus.apiserver.resources import Resource
from isthmus.apiserver.routing import Target
from isthmus.apiserver.status import StatusError
from isthmus.apiserver.store import decode, encode

_JSON = "application/json"
_YAML = "application/yaml"
_APPLY = "application/apply-patch+yaml"
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    _APPLY,
)
_LINGER_NOT = struct.pack("ii", 1, 0)
BODY_LIMIT = 3 << 20
"""Bytes; the real server's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """Timing of watches, and how wrong this server's clock is."""

    bookmark_seconds: float = 60.0
    watch_seconds: float = 1800.0
    clock: Callable[[], float] | None = None
    """Wall clock of the Date header; None for the machine's."""


class Shell:
    """Request handler for one cluster."""

    def __init__(self, cluster: Cluster, faults: Faults, options: WireOptions) -> None:
        self._cluster = cluster
        self._faults = faults
        self._options = options
        self._log = structlog.get_logger()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every refusal is a Status."""
        call = Call(request.method.lower(), request.path)
        try:
            document = routing.document(self._cluster.registry, request.path)
            if document is not None:
                call = Call("get", request.path)
                return await self._document(request, call, document)
            found = routing.target(self._cluster.registry, request.path)
            verb = routing.verb(request.method, found, request.query)
            call = Call(verb, request.path)
            with self._faults.running(call, _abort(request)):
                await self._faults.before(call)
                if verb == "watch":
                    return await self._watch(request, call, found)
                response = await self._answer(request, verb, found)
                await self._faults.hold(call)
                return response
        except StatusError as refusal:
            return self._refuse(refusal)
        except web.HTTPRequestEntityTooLarge:
            text = f"Request entity too large: limit is {BODY_LIMIT}"
            return self._refuse(StatusError(413, "RequestEntityTooLarge", text))
        except Cut:
            _abort(request)()
            return web.Response(status=503)
        except ConnectionError:
            return web.Response(status=499)
        except Exception:  # noqa: BLE001 - a bug must still be answered with a Status
            self._log.exception("request failed", verb=call.verb, path=call.path)
            return self._refuse(StatusError(500, "InternalError", "Internal error occurred"))

    async def _document(
        self, request: web.BaseRequest, call: Call, document: dict[str, Any] | str
    ) -> web.StreamResponse:
        if request.method != "GET":
            raise status.method_not_allowed()
        with self._faults.running(call, _abort(request)):
            await self._faults.before(call)
        if isinstance(document, str):
            return web.Response(text=document)
        return self._json(200, encode(document))

    async def _answer(self, request: web.BaseRequest, verb: str, found: Target) -> web.StreamResponse:
        cluster, resource, params = self._cluster, found.resource, request.query
        match verb:
            case "get":
                return self._json(200, cluster.get(resource, found.namespace, found.name))
            case "list":
                return self._json(
                    200, listing.page(cluster, resource, listing.parse(params, found.namespace))
                )
            case "create":
                write = _write(request, params, "")
                body = await _body(request)
                return self._written(cluster.create(resource, found.namespace, body, write))
            case "update":
                write = _write(request, params, found.subresource)
                body = await _body(request)
                return self._written(cluster.update(resource, found.namespace, found.name, body, write))
            case "patch":
                return self._written(await self._patch(request, found))
            case "delete":
                options = _delete_options(await _body(request, empty=True), params)
                return self._written(cluster.delete(resource, found.namespace, found.name, options))
            case _:
                options = _delete_options(await _body(request, empty=True), params)
                return self._json(200, self._delete_collection(resource, found.namespace, params, options))

    async def _patch(self, request: web.BaseRequest, found: Target) -> Written:
        kind = request.content_type
        resource = found.resource
        if kind not in _PATCHES or (resource.custom and kind.startswith("application/strategic")):
            supported = [each for each in _PATCHES if not (resource.custom and "strategic" in each)]
            raise status.unsupported_media(supported)
        write = _write(request, request.query, found.subresource)
        if kind == _APPLY:
            if not request.query.get("fieldManager"):
                cause = status.required("fieldManager", "is required for apply patch")
                raise status.invalid("meta.k8s.io", "PatchOptions", "", [cause])
            body = await _body(request, yaml=True)
            return self._cluster.apply(resource, found.namespace, found.name, body, write)
        body = await _body(request)

        def change(live: dict[str, Any]) -> Any:
            if kind.startswith("application/json-patch"):
                return patch.json_patch(live, body)
            if not isinstance(body, dict):
                raise status.bad_request("a merge patch must be an object")
            if kind.startswith("application/merge"):
                return patch.merge_patch(live, body)
            return patch.strategic_merge(live, body, resource.schema)

        return self._cluster.patch(resource, found.namespace, found.name, change, write)

    def _delete_collection(
        self, resource: Resource, namespace: str, params: Mapping[str, str], options: DeleteOptions
    ) -> bytes:
        """Delete what the query selects; answers with the list as it was."""
        query = listing.parse(params, namespace)
        before = listing.page(self._cluster, resource, query)
        bucket = self._cluster.bucket(resource)
        for key in list(bucket.keys(namespace)):
            entry = bucket.entries[key]
            if query.selector.matches(key.namespace, key.name, entry.labels):
                self._cluster.delete(resource, key.namespace, key.name, options)
        return before

    async def _watch(self, request: web.BaseRequest, call: Call, found: Target) -> web.StreamResponse:
        query = listing.parse(request.query, found.namespace)
        listing.number(query.revision, "resourceVersion")
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        self._date(response)
        response.enable_chunked_encoding()
        await response.prepare(request)
        events = watch.stream(
            self._cluster,
            found.resource,
            query,
            bookmark_seconds=self._options.bookmark_seconds,
            default_timeout=self._options.watch_seconds,
            check=lambda: self._faults.check(call),
        )
        async with aclosing(events):
            async for chunk in events:
                await self._faults.hold(call)
                await response.write(chunk)
        await response.write_eof()
        return response

    def _written(self, written: Written) -> web.Response:
        response = self._json(written.code, written.raw)
        for text in written.warnings:
            quoted = text.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{quoted}"')
        return response

    def _refuse(self, refusal: StatusError) -> web.Response:
        response = self._json(refusal.code, encode(refusal.object()))
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(refusal.retry_after)
        return response

    def _json(self, code: int, raw: bytes) -> web.Response:
        response = web.Response(status=code, body=raw, headers={"Content-Type": _JSON})
        self._date(response)
        return response

    def _date(self, response: web.StreamResponse) -> None:
        if self._options.clock is not None:
            response.headers["Date"] = formatdate(self._options.clock(), usegmt=True)


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection with RST: unsent data is lost, and the peer sees an error, not an end."""
    if not isinstance(transport, asyncio.WriteTransport):
        return
    if (sock := transport.get_extra_info("socket")) is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def _abort(request: web.BaseRequest) -> Callable[[], None]:
    return lambda: reset(request.transport)


async def _body(request: web.BaseRequest, *, yaml: bool = False, empty: bool = False) -> Any:
    """The decoded body; 400 where it cannot be decoded, 415 for a media type that is not JSON or YAML."""
    raw = await request.read()
    if empty and not raw:
        return {}
    kind = request.content_type
    yaml = yaml or kind == _YAML
    if not (yaml or kind in (_JSON, "application/octet-stream", *_PATCHES)):
        raise status.unsupported_media((_JSON, _YAML))
    try:
        return decode(raw)
    except msgspec.DecodeError as wrong:
        if not yaml:
            raise status.bad_request(f"the body of the request cannot be decoded: {wrong}") from None
    return _from_yaml(raw)


def _from_yaml(raw: bytes) -> Any:
    """YAML as JSON would have it: timestamps stay text."""
    import yaml  # imported late: most processes never need it

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - pyyaml's own class attribute
            first: [row for row in rows if row[0] != "tag:yaml.org,2002:timestamp"]
            for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        return yaml.load(raw, Loader)
    except (yaml.YAMLError, ValueError) as wrong:
        raise status.bad_request(f"the body of the request cannot be decoded: {wrong}") from None


def _write(request: web.BaseRequest, params: Mapping[str, str], subresource: str) -> Write:
    agent = request.headers.get("User-Agent", "").partition("/")[0].strip()
    manager = params.get("fieldManager") or agent or "unknown"
    if len(manager) > 128:
        cause = status.too_long("fieldManager", 128)
        raise status.invalid("meta.k8s.io", "UpdateOptions", "", [cause])
    return Write(
        manager=manager,
        subresource=subresource,
        dry_run=_dry_run(params.get("dryRun")),
        field_validation=params.get("fieldValidation") or "Warn",
        force=listing.flag(params.get("force")),
    )


def _dry_run(value: Any) -> bool:
    if value not in (None, "", "All", [], ["All"]):
        raise status.bad_request(f"dryRun: Unsupported value: {value!r}")
    return bool(value)


class _Preconditions(msgspec.Struct, rename="camel"):
    uid: str | None = None
    resource_version: str | None = None


class _DeleteBody(msgspec.Struct, rename="camel"):
    """metav1.DeleteOptions."""

    preconditions: _Preconditions | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    dry_run: list[str] | None = None


def _delete_options(body: Any, params: Mapping[str, str]) -> DeleteOptions:
    """DeleteOptions of the body, else of the query."""
    try:
        given = msgspec.convert(body, _DeleteBody)
    except msgspec.ValidationError as wrong:
        raise status.bad_request(f"DeleteOptions: {wrong}") from None
    wanted = given.preconditions or _Preconditions()
    policy = given.propagation_policy or params.get("propagationPolicy") or "Background"
    if given.orphan_dependents or listing.flag(params.get("orphanDependents")):
        policy = "Orphan"
    if policy not in ("Background", "Foreground", "Orphan"):
        cause = status.unsupported("propagationPolicy", policy, ("Background", "Foreground", "Orphan"))
        raise status.invalid("meta.k8s.io", "DeleteOptions", "", [cause])
    return DeleteOptions(
        uid=wanted.uid or "",
        revision=wanted.resource_version or "",
        propagation=policy,
        dry_run=_dry_run(given.dry_run or params.get("dryRun")),
    )
