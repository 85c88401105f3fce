"""The hub's judgement of a cluster, from renewals of its lease alone.

Times are the hub's own monotonic clock: what a lease says of the time is compared with nothing, it only has
to change. A hub that has not itself listened for a whole lease duration judges nobody, and one that hears no
leases at all (its own watch is broken) leaves every state as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from isthmus.api import core
from isthmus.model.names import ClusterId

LEASE_DURATION = 20.0
"""Seconds of silence after which a cluster is unknown. Slow on purpose: fast detection is the data path's."""


class State(StrEnum):
    READY = "Ready"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The last renewal seen: what the lease said, and when (monotonic seconds) we saw it change."""

    mark: str
    at: float


class Judgement(NamedTuple):
    """`state` None: no judgement, what was said before stays.

    `ask_again` is in how many seconds time alone can change it, None where only a renewal can.
    """

    state: State | None
    ask_again: float | None = None


def hear(previous: Heard | None, lease: core.Lease | None, now: float) -> Heard | None:
    """What is known of a lease after seeing it as it is now; a lease that is gone keeps its last renewal."""
    if lease is None or not lease.spec.renew_time:
        return previous
    if previous is not None and previous.mark == lease.spec.renew_time:
        return previous
    return Heard(mark=lease.spec.renew_time, at=now)


def hear_all(
    previous: Mapping[ClusterId, Heard], leases: Mapping[ClusterId, core.Lease], now: float
) -> dict[ClusterId, Heard]:
    """`hear` for all leases at once; clusters without a lease keep what was heard of them."""
    heard = dict(previous)
    for cluster, lease in leases.items():
        known = hear(previous.get(cluster), lease, now)
        if known is not None:
            heard[cluster] = known
    return heard


def judge(
    heard: Heard | None, *, listening_since: float | None, now: float, duration: float = LEASE_DURATION
) -> Judgement:
    """What the hub says of a cluster at `now`.

    `listening_since` is when the hub had seen all leases and from when it has heard of changes without a gap;
    None while it does not hear them.
    """
    if listening_since is None:
        return Judgement(None)
    if now < listening_since + duration:
        return Judgement(None, listening_since + duration - now)
    if heard is not None and now < heard.at + duration:
        return Judgement(State.READY, heard.at + duration - now)
    return Judgement(State.UNKNOWN)
