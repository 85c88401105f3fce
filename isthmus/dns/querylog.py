"""A sample of the queries, in the log: at most so many a second, however many come.

Whatever comes first after a pause is taken, so that a busy name shows up as often as it is asked for. Names
come from callers: they are written in presentation form (RFC 1035, 5.1), where only printable ASCII is left.
"""

from __future__ import annotations

from typing import Final, Literal

import structlog

from isthmus.dns import wire
from isthmus.dns.metrics import OUTCOMES, TYPES, Transport
from isthmus.dns.question import name_end

log = structlog.get_logger()

Path = Literal["fast", "python"]

_ESCAPED: Final = frozenset(b'."\\()@$;')


class QueryLog:
    """Writes at most `per_second` queries of those that Python sees; 0 writes none."""

    def __init__(self, per_second: float) -> None:
        self.pause = 1 / per_second if per_second > 0 else float("inf")
        self._next = 0.0 if per_second > 0 else float("inf")

    def due(self, now: float) -> bool:
        """Whether the query of this moment (in seconds) is to be written; if so, the next pause begins."""
        if now < self._next:
            return False
        self._next = now + self.pause
        return True

    def write(self, query: bytes, client: str, transport: Transport, outcome: int, path: Path) -> None:
        """Write one query; `outcome` is a place among `metrics.OUTCOMES`."""
        name, rtype = _asked(query)
        log.info(
            "dns query",
            name=name,
            type=rtype,
            client=client,
            transport=transport,
            outcome=OUTCOMES[outcome],
            path=path,
        )


def _asked(query: bytes) -> tuple[str, str]:
    end = name_end(query, wire.HEADER_SIZE)
    if end is None or len(query) < end + 2:
        return "", ""
    number = int.from_bytes(query[end : end + 2], "big")
    return text(query[wire.HEADER_SIZE : end]), TYPES.get(number, f"TYPE{number}")


def text(name: bytes) -> str:
    """A well-formed wire name in presentation form."""
    labels, at = [], 0
    while name[at]:
        labels.append("".join(map(_letter, name[at + 1 : at + 1 + name[at]])))
        at += 1 + name[at]
    return ".".join(labels) + "."


def _letter(byte: int) -> str:
    if byte in _ESCAPED:
        return f"\\{byte:c}"
    return chr(byte) if 0x21 <= byte <= 0x7E else f"\\{byte:03d}"
