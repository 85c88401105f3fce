"""Verdicts that outlive the prober: what is written down, and what a later prober believes of it.

Without them a restart in the middle of an outage would call everything dead unknown, which counts as up, as
long as it stays dead. Invariants: a verdict is taken over only for the same target (its key, address, port,
protocol and path), once, and only from a note that is at most OLD_SECONDS old; checks correct it at once.
"""

from __future__ import annotations

import msgspec

from isthmus.model.health import CheckKey, CheckTarget, Verdict
from isthmus.model.names import EndpointId, ServiceKey

OLD_SECONDS = 600.0


class Note(msgspec.Struct, frozen=True, array_like=True):
    """One target that was Up or Down. `namespace` "": an anchor, which has no verdict."""

    namespace: str
    name: str
    cluster: str
    endpoint: str
    port: str
    place: str
    up: bool
    canary: bool
    since: float
    reason: str

    @property
    def key(self) -> CheckKey:
        service = ServiceKey(self.namespace, self.name)
        return CheckKey(service, self.cluster, EndpointId(self.endpoint), self.port)

    @property
    def verdict(self) -> Verdict:
        return Verdict(up=self.up, canary=self.canary, since=self.since, reason=self.reason)


class _Page(msgspec.Struct, frozen=True):
    saved: float
    """Wall clock, seconds since the epoch."""
    notes: list[Note]


Notes = dict[CheckKey, Note]


def place(target: CheckTarget) -> str:
    """What has to stay the same for a verdict to hold."""
    check = target.check.effective.value
    return f"{check} {target.address} {target.port} {target.udp:d} {target.own_cluster:d} {target.check.path}"


def note(key: CheckKey, target: CheckTarget, verdict: Verdict, *, up: bool) -> Note:
    service, cluster, endpoint, port = key
    return Note(
        *service, cluster, endpoint, port, place(target), up, target.canary, verdict.since, verdict.reason
    )


def encode(notes: list[Note], now: float) -> bytes:
    return msgspec.json.encode(_Page(saved=now, notes=notes))


def decode(page: bytes, now: float) -> Notes:
    """The notes of a page, none where it is too old, from the future or not a page."""
    try:
        found = msgspec.json.decode(page, type=_Page)
    except msgspec.MsgspecError:
        return {}
    if not 0.0 <= now - found.saved <= OLD_SECONDS:
        return {}
    return {one.key: one for one in found.notes}


def verdicts(notes: Notes) -> dict[CheckKey, Verdict]:
    """The verdicts that hold until the first checks."""
    return {key: one.verdict for key, one in notes.items() if one.namespace}
