"""List requests: the query, one consistent page, and the token that asks for the next.

A page is taken at the revision of the first page; the history rebuilds that state, and where it no longer
reaches back the answer is 410 and the client starts again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from isthmus.apiserver import selector, status
from isthmus.apiserver.cluster import Cluster, present
from isthmus.apiserver.resources import Resource
from isthmus.apiserver.selector import Selector
from isthmus.apiserver.store import Key, encode


class _Token(msgspec.Struct, array_like=True):
    revision: int
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """metav1.ListOptions."""

    namespace: str = ""
    selector: Selector = selector.EVERYTHING
    limit: int = 0
    token: str = ""
    revision: str = ""
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    send_initial: bool = False
    timeout: float | None = None
    """Seconds a watch lasts; None for the server's own choice."""


def parse(params: Mapping[str, str], namespace: str) -> Query:
    """Query of a list or watch URL; 400 for what cannot be parsed."""
    chosen = selector.parse(params.get("labelSelector", ""), params.get("fieldSelector", ""))
    timeout = params.get("timeoutSeconds", "")
    _check_options(params)
    return Query(
        namespace=namespace,
        selector=chosen,
        limit=number(params.get("limit", ""), "limit"),
        token=params.get("continue", ""),
        revision=params.get("resourceVersion", ""),
        match=params.get("resourceVersionMatch", ""),
        watch=flag(params.get("watch")),
        bookmarks=flag(params.get("allowWatchBookmarks")),
        send_initial=flag(params.get("sendInitialEvents")),
        timeout=number(timeout, "timeoutSeconds") if timeout else None,
    )


def _check_options(params: Mapping[str, str]) -> None:
    """Refuse options that do not go together."""
    match, revision = params.get("resourceVersionMatch", ""), params.get("resourceVersion", "")
    watched, initial = flag(params.get("watch")), "sendInitialEvents" in params
    field, cause = "resourceVersionMatch", None
    if initial and not watched:
        cause = status.forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list")
    elif initial and match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        cause = status.forbidden_field(field, why)
    elif match and watched and not initial:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        cause = status.forbidden_field(field, why)
    elif match and not revision and not watched:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        cause = status.forbidden_field(field, why)
    elif match not in ("", "Exact", "NotOlderThan"):
        cause = status.unsupported(field, match, ("Exact", "NotOlderThan", ""))
    elif match == "Exact" and revision == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        cause = status.forbidden_field(field, why)
    if cause is not None:
        raise status.invalid("meta.k8s.io", "ListOptions", "", [cause])
    if params.get("continue") and revision not in ("", "0"):
        raise status.bad_request("specifying resource version is not allowed when using continue")


def flag(text: str | None) -> bool:
    return text is not None and text.lower() not in ("false", "0", "f")


def number(text: str, name: str) -> int:
    if not text:
        return 0
    if not text.isdecimal():
        raise status.bad_request(f"invalid value for {name}: {text!r}")
    return int(text)


def page(cluster: Cluster, resource: Resource, query: Query) -> bytes:
    """One page of a list, as JSON."""
    bucket = cluster.bucket(resource)
    after: Key | None = None
    revision = cluster.store.revision
    if query.token:
        token = _read(query.token)
        revision, after = token.revision, Key(token.namespace, token.name)
    elif query.revision:
        asked = number(query.revision, "resourceVersion")
        if asked > revision:
            raise status.revision_too_large(asked, revision)
        if query.match == "Exact":
            revision = asked
    entries = bucket.at(revision, query.namespace)
    wanted = (
        entry
        for entry in entries
        if (after is None or entry.key > after)
        and query.selector.matches(entry.key.namespace, entry.key.name, entry.labels)
    )
    limit = (
        0 if query.revision == "0" and not query.token else query.limit
    )  # any state will do: it is at hand
    found = list(islice(wanted, limit)) if limit else list(wanted)
    meta: dict[str, str | int] = {"resourceVersion": str(revision)}
    more = sum(1 for _ in wanted) if limit else 0
    if more:
        last = found[-1].key
        meta["continue"] = _write(_Token(revision, last.namespace, last.name))
        if query.selector.everything:
            meta["remainingItemCount"] = more
    head = encode({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": meta})
    shown = (present(entry, resource) if resource.custom else entry.untyped() for entry in found)
    items = b",".join(shown)
    return b"".join((head[:-1], b',"items":[', items, b"]}"))


def _write(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def _read(text: str) -> _Token:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.encode()), type=_Token)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise status.bad_request("continue key is not valid") from None
