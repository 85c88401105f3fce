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
    seen: float
    """When it was last known to be so: wall clock, seconds since the epoch."""

    @property
    def key(self) -> CheckKey:
        service = ServiceKey(self.namespace, self.name)
        return CheckKey(service, self.cluster, EndpointId(self.endpoint), self.port)

    @property
    def verdict(self) -> Verdict:
        return Verdict(up=self.up, canary=self.canary, since=self.since, reason=self.reason)


class _Page(msgspec.Struct, frozen=True):
    notes: list[Note]


Notes = dict[CheckKey, Note]


def place(target: CheckTarget) -> str:
    """What has to stay the same for a verdict to hold."""
    check = target.check.effective.value
    return f"{check} {target.address} {target.port} {target.udp:d} {target.own_cluster:d} {target.check.path}"


def note(key: CheckKey, target: CheckTarget, verdict: Verdict, *, up: bool, seen: float) -> Note:
    service, cluster, endpoint, port = key
    since, reason = verdict.since, verdict.reason
    return Note(*service, cluster, endpoint, port, place(target), up, target.canary, since, reason, seen)


def encode(notes: list[Note]) -> bytes:
    """A page of all notes. One by one: a thread that encodes all at once lets no other have its turn."""
    encoder = msgspec.json.Encoder()
    return b'{"notes":[' + b",".join([encoder.encode(note) for note in notes]) + b"]}"


def decode(page: bytes, now: float) -> Notes:
    """The notes of a page but those that are too old or from the future; none where it is not a page."""
    try:
        found = msgspec.json.decode(page, type=_Page)
    except msgspec.MsgspecError:
        return {}
    return {one.key: one for one in found.notes if 0.0 <= now - one.seen <= OLD_SECONDS}


def verdicts(notes: Notes) -> dict[CheckKey, Verdict]:
    """The verdicts that hold until the first checks."""
    return {key: one.verdict for key, one in notes.items() if one.namespace}
