"""A client of one API server.

Invariants: one aiohttp session; every request has an end (a time limit, an answer of bounded size); every
failure is one of `errors.KubeError`; an error's text comes from a metav1.Status only, so that no other body
(a proxy's page, a secret) reaches a log.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import aiohttp
import msgspec

from isthmus import __version__
from isthmus.api.meta import Kind, ObjectKey, RawList, Status
from isthmus.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Throttled,
    TooLarge,
    Unreachable,
)
from isthmus.kube import connection
from isthmus.kube.config import Access

T = TypeVar("T")

ANSWER_BYTES = 64 << 20
LINE_BYTES = 8 << 20
LIST_SECONDS = 60.0
CLOCK_TOLERANCE = 5.0

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What bytes can do to a decoder: be no JSON, no UTF-8, or nested without end."""

_LIST = msgspec.json.Decoder(RawList)
_STATUS = msgspec.json.Decoder(Status)
_ERRORS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Throttled,
}


class RawAnswer(NamedTuple):
    """Status code and body, whoever gave them: the server or what it forwards to."""

    status: int
    body: bytes


class Client:
    """Requests to one API server; use it as an async context manager.

    Objects are sent as JSON-able mappings and come back as the kind's type (`raw.raw(kind)` for dicts).
    `timeout` is seconds for a whole request, lists may take longer while bytes arrive. All methods raise
    KubeError.
    """

    def __init__(
        self,
        access: Access,
        *,
        timeout: float = 10.0,
        user_agent: str = f"isthmus/{__version__}",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.access = access
        self.timeout = timeout
        self.clock_offset = 0.0
        """Server's clock minus ours in whole seconds; under 5 s counts as 0."""
        self.clock_measured: float | None = None
        """The same as measured, in seconds; None before the first answer that says a time."""
        self.last_answer: float | None = None
        """When the server last answered anything, on the monotonic clock."""
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """Requests so far by verb, resource and status code; 0: no answer."""
        self._user_agent = user_agent
        self._clock = clock
        self._wall = wall
        self._date = ""
        self._open: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open = aiohttp.ClientSession(
            connector=connection.connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            await self._open.close()
            self._open = None

    async def get(self, kind: Kind[T], key: ObjectKey, *, subresource: str = "") -> T:
        """The object of that key."""
        return self._decode(kind, await self._request("GET", kind.path(key.namespace, key.name, subresource)))

    async def list_page(
        self,
        kind: Kind[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        limit: int = 500,
        continue_: str = "",
    ) -> RawList:
        """One page of a list, its items undecoded; `metadata.continue_` is "" on the last page."""
        params = {"limit": str(limit)}
        if label_selector:
            params["labelSelector"] = label_selector
        if continue_:
            params["continue"] = continue_
        path = kind.path(namespace)
        limits = aiohttp.ClientTimeout(total=max(LIST_SECONDS, self.timeout), sock_read=self.timeout)
        body = await self._request("GET", path, params=params, limits=limits)
        try:
            return _LIST.decode(body)
        except MALFORMED as error:
            raise KubeError(f"GET {path} at {self._who}: the answer is not a list: {error}") from error

    async def list_pages(self, kind: Kind[Any], *, namespace: str = "") -> AsyncIterator[RawList]:
        """Every page of a list, each asked for when the one before it was taken; see `list_page`."""
        continue_ = ""
        while True:
            page = await self.list_page(kind, namespace=namespace, continue_=continue_)
            yield page
            continue_ = page.metadata.continue_
            if not continue_:
                return

    async def get_raw(
        self, path: str, params: Mapping[str, str] | None = None, *, seconds: float | None = None
    ) -> RawAnswer:
        """What is said at that path, errors included, for paths that the server forwards (a pod's proxy).

        `seconds` is the limit of this request, None: the client's own. Raises KubeError without an answer.
        """
        limits = aiohttp.ClientTimeout(total=seconds or self.timeout)
        try:
            response = await self._answer("GET", path, params, None, "", limits, any_status=True)
            async with response:
                return RawAnswer(response.status, await self._body(response, "GET", path))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer("GET", path, error) from error

    async def create(
        self, kind: Kind[T], body: Mapping[str, Any], *, manager: str = "", dry_run: bool = False
    ) -> T:
        """Creates the object (`dry_run`: says how it would be); Conflict when there is one of that name."""
        params = {"fieldManager": manager} if manager else {}
        if dry_run:
            params["dryRun"] = "All"
        path = kind.path(_metadata(body).get("namespace", ""))
        return self._decode(kind, await self._request("POST", path, params=params, body=body))

    async def replace(self, kind: Kind[T], body: Mapping[str, Any], *, subresource: str = "") -> T:
        """Replaces the object; Conflict when `metadata.resourceVersion` is not the current one."""
        return self._decode(kind, await self._request("PUT", _path(kind, body, subresource), body=body))

    async def patch(
        self,
        kind: Kind[T],
        key: ObjectKey,
        body: Mapping[str, Any],
        *,
        subresource: str = "",
        manager: str = "",
    ) -> T:
        """Merges `body` into the object (RFC 7386: None removes a field)."""
        answer = await self._request(
            "PATCH",
            kind.path(key.namespace, key.name, subresource),
            params={"fieldManager": manager} if manager else {},
            body=body,
            content_type="application/merge-patch+json",
        )
        return self._decode(kind, answer)

    async def apply(
        self,
        kind: Kind[T],
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool = True,
        subresource: str = "",
    ) -> T:
        """Server-side apply: the object gets these fields and loses those this manager applied before.

        Without `force`, Conflict when a field has another owner. A `metadata.uid` must be the object's.
        """
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        answer = await self._request(
            "PATCH",
            _path(kind, body, subresource),
            params=params,
            body=body,
            content_type="application/apply-patch+yaml",  # JSON is YAML
        )
        return self._decode(kind, answer)

    async def delete(self, kind: Kind[Any], key: ObjectKey, *, uid: str = "") -> None:
        """Deletes the object, its dependents in the background; Conflict when `uid` is given and differs."""
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._request("DELETE", kind.path(key.namespace, key.name), body=options)

    @asynccontextmanager
    async def watch(
        self,
        kind: Kind[Any],
        *,
        namespace: str = "",
        label_selector: str = "",
        resource_version: str = "",
        seconds: int = 300,
        silence: float = 330.0,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A watch with bookmarks that the server ends after `seconds`; gives its lines.

        `silence` is how long (seconds) nothing may arrive before the server counts as unreachable.
        """
        params = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        if label_selector:
            params["labelSelector"] = label_selector
        if resource_version:
            params["resourceVersion"] = resource_version
        path = kind.path(namespace)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout, sock_read=silence)
        try:
            async with asyncio.timeout(self.timeout):
                response = await self._answer("GET", path, params, None, "", limits)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer("WATCH", path, error) from error
        try:
            yield self._lines(response, path)
        finally:
            response.close()

    async def _lines(self, response: aiohttp.ClientResponse, path: str) -> AsyncIterator[bytes]:
        rest = b""
        try:
            async for chunk in response.content.iter_any():
                self.last_answer = self._clock()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._check_length(line, path)
                    if line:
                        yield line
                self._check_length(rest, path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer("WATCH", path, error) from error

    def _check_length(self, line: bytes, path: str) -> None:
        if len(line) > LINE_BYTES:
            raise KubeError(f"WATCH {path} at {self._who}: an event of over {LINE_BYTES} bytes")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        limits: aiohttp.ClientTimeout | None = None,
    ) -> bytes:
        limits = limits or aiohttp.ClientTimeout(total=self.timeout)
        try:
            data = None if body is None else msgspec.json.encode(body)
            response = await self._answer(method, path, params, data, content_type, limits)
            async with response:
                return await self._body(response, method, path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer(method, path, error) from error

    async def _answer(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
        *,
        any_status: bool = False,
    ) -> aiohttp.ClientResponse:
        """The response of a request that succeeded (or `any_status`); its caller closes it.

        A 401 renews credentials once.
        """
        if self._open is None:
            raise RuntimeError("the client is not open: use it as an async context manager")
        renew = False
        verb = "watch" if params and "watch" in params else method.lower()
        while True:
            credentials = await self.access.source.credentials(renew=renew)
            headers = dict(credentials.headers)
            if data is not None:
                headers["Content-Type"] = content_type
            sent = self._wall()
            try:
                response = await self._open.request(
                    method,
                    self.access.server + path,
                    params=params,
                    data=data,
                    headers=headers,
                    timeout=limits,
                    ssl=credentials.tls or False,
                    server_hostname=self.access.server_name or None,
                    proxy=self.access.proxy or None,
                    allow_redirects=False,  # a redirect could carry our token away
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.requests[verb, resource_of(path), 0] += 1
                raise self._no_answer(method, path, error) from error
            self.requests[verb, resource_of(path), response.status] += 1
            if response.status < 500:  # else it may be a proxy's word, in front of a server that is away
                self._heard(response, sent)
            refused = response.status == 401 and not renew
            if response.status < 300 or (any_status and not refused):
                return response
            async with response:
                if refused:
                    renew = True
                    continue
                raise self._error(method, path, response, await self._body(response, method, path))

    async def _body(self, response: aiohttp.ClientResponse, method: str, path: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > ANSWER_BYTES:
                raise TooLarge(f"{method} {path} at {self._who}: an answer of over {ANSWER_BYTES} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _heard(self, response: aiohttp.ClientResponse, sent: float) -> None:
        self.last_answer = self._clock()
        date = response.headers.get("Date", "")
        if not date or date == self._date:
            return
        self._date = date
        try:
            # The header is cut to whole seconds: half a second is lost on average.
            theirs = parsedate_to_datetime(date).timestamp() + 0.5
        except (ValueError, OverflowError):
            return
        self.clock_measured = theirs - (sent + self._wall()) / 2
        self.clock_offset = significant(self.clock_measured)

    @property
    def _who(self) -> str:
        return f"{self.access.name} ({self.access.server})"

    def _decode(self, kind: Kind[T], body: bytes) -> T:
        try:
            return kind.decode(body)
        except MALFORMED as error:
            raise KubeError(f"{self._who}: the answer is no {kind.kind}: {error}") from error

    def _no_answer(self, method: str, path: str, error: BaseException) -> Unreachable:
        text = str(error) or type(error).__name__
        return Unreachable(f"{method} {path} at {self._who}: no answer: {text}")

    def _error(self, method: str, path: str, response: aiohttp.ClientResponse, body: bytes) -> KubeError:
        return error_of(
            f"{method} {path} at {self._who}", response.status, body, response.headers.get("Retry-After")
        )


def significant(offset: float) -> float:
    """A difference of clocks in whole seconds; under 5 s counts as 0, for Date headers are cut to seconds."""
    return float(round(offset)) if abs(offset) >= CLOCK_TOLERANCE else 0.0


def error_of(what: str, status: int, body: bytes | msgspec.Raw, retry_after: str | None = None) -> KubeError:
    """The error that an HTTP status and a metav1.Status body stand for; status 0 takes the body's code."""
    try:
        answer = _STATUS.decode(body)
    except MALFORMED:
        answer = Status()
    code = status or answer.code
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    if seconds is None and isinstance(asked := answer.details.get("retryAfterSeconds"), int) and asked > 0:
        seconds = float(asked)
    kind = _ERRORS.get(code, KubeError)
    if code == 503 and seconds is not None:
        kind = Throttled
    text = answer.message[:256] or answer.reason[:64]
    return kind(f"{what}: {code} {text}".rstrip(), status=code, retry_after=seconds)


def resource_of(path: str) -> str:
    """The resource that a path leads to, with its subresource: `services`, `serviceexports/status`."""
    parts = path.split("/")[3 if path.startswith("/api/") else 4 :]
    if len(parts) > 2 and parts[0] == "namespaces" and parts[2] != "status":
        parts = parts[2:]
    return f"{parts[0]}/{parts[2]}" if len(parts) > 2 else (parts[0] if parts else "other")


def _metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata: Mapping[str, Any] = body.get("metadata", {})
    return metadata


def _path(kind: Kind[Any], body: Mapping[str, Any], subresource: str) -> str:
    metadata = _metadata(body)
    return kind.path(metadata.get("namespace", ""), metadata["name"], subresource)
