"""What Isthmus' processes asked real API servers for, from their audit logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Request(NamedTuple):
    """What a service account asked for, as the audit log has it."""

    server: str
    user: str
    verb: str
    group: str
    resource: str
    code: int
    message: str
    """What the server said to a request that it refused."""


def asked(server: str, event: Mapping[str, Any]) -> Request:
    about = event.get("objectRef", {})
    resource = "/".join(part for part in (about.get("resource"), about.get("subresource")) if part)
    answer = event.get("responseStatus", {})
    return Request(
        server,
        event["user"]["username"],
        event["verb"],
        about.get("apiGroup", ""),
        resource,
        answer.get("code", 0),
        answer.get("message", ""),
    )
