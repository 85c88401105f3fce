"""Writes docs/xds-rules.md: which of Envoy's own rules are checked before a resource is sent.

With --check, only says whether it is current. The rules are read from the descriptors that resources are
built with; the page lists those of every message that is rendered.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "xds-rules.md"
HEAD = """\
# Rules that are checked before a resource is sent

Written by `tools/xds_rules.py` from the descriptors of the xDS API; do not edit.

Envoy rejects a whole response for one bad resource in it. So what a policy leads to is held against the rules
that Envoy itself enforces (the `validate.rules` of its API) before anything is sent: a policy that breaks one
is not accepted, its status names the field and the rule, its last accepted form stays in force, and nothing
else is held up. These are the rules of all messages that Isthmus renders.

| message | field | must |
|---|---|---|
"""


def page() -> str:
    """The whole text of docs/xds-rules.md."""
    sys.path.insert(0, str(ROOT))
    from isthmus.xds.validation import rules_of

    rows = []
    for kind in sorted(_rendered(), key=lambda kind: str(kind.full_name)):
        for field, words in rules_of(kind):
            told = words.replace("|", "\\|")
            rows.append(f"| {kind.full_name.removeprefix('envoy.')} | {field} | {told} |")
    return HEAD + "\n".join(rows) + "\n"


def _rendered() -> set[Any]:
    """The types of all messages in one resource of each sort, with every setting."""
    from isthmus.model.policy import CircuitBreaker, DoorSettings, Retry, SessionAffinity
    from isthmus.xds import envoy, grpc
    from isthmus.xds.envoy.readable import message_of
    from isthmus.xds.rows import ResourceType
    from isthmus.xds.settings import _PORTS, _SERVICE, samples

    found: set[Any] = set()
    full = {"retry": Retry(per_try_timeout=1.0, asked=True), "timeout": 1.0, "slow_start": 1.0}
    full |= {"circuit_breaker": CircuitBreaker(max_requests=1)}
    for affinity in (SessionAffinity(cookie="c", ttl=1.0), SessionAffinity(header="h")):
        for _client, kind, resource in samples(DoorSettings(affinity=affinity, **full)):
            _collect(message_of(kind, resource), found)
    for listener in (envoy.listener("::1", 1, log=True), grpc.listener("name", _SERVICE, _PORTS[0])):
        _collect(message_of(ResourceType.LDS, listener), found)
    return found


def _collect(message: Any, found: set[Any]) -> None:
    from google.protobuf import symbol_database

    kind = message.DESCRIPTOR
    if kind.full_name == "google.protobuf.Any":
        inner = symbol_database.Default().GetSymbol(message.type_url.rpartition("/")[2])()
        inner.ParseFromString(message.value)
        return _collect(inner, found)
    found.add(kind)
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for one in value if field.is_repeated else (value,):
            _collect(one, found)
    return None


def main() -> int:
    from generated import renew  # found only where this file is run: tests read it from elsewhere

    return renew(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
