"""A Lease held by one of several candidates (coordination.k8s.io/v1), and the heartbeat kind of Lease.

Safety: a holder counts itself as such until `renew_within` after it *sent* its last successful renewal; a
challenger takes over once it has itself watched the same record for a whole `duration` (its own monotonic
clock; the times in the object are for people), and `renew_within < duration`. Writes carry the resource
version seen, so that a late write of a former holder is refused. Hence never two holders, whatever the
delays, while clocks run at the same rate to within (duration - renew_within) / duration.

`Election` is the pure state machine, `LeaseHolder` the I/O around it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog

from isthmus.api.core import Lease
from isthmus.api.kinds import LEASE
from isthmus.api.meta import ObjectKey
from isthmus.errors import ConfigError, Conflict, KubeError, NotFound
from isthmus.kube.client import Client
from isthmus.model.timestamp import format_time

log = structlog.get_logger()


def boot_clock() -> float:
    """Seconds since boot, a suspension of the machine included: a holder that slept must know it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds: how long a silent holder keeps the lease, how long a holder trusts its last renewal, how often
    the lease is looked at. A request takes at most half of `renew_within`."""

    duration: float = 15.0
    renew_within: float = 10.0
    period: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.period < self.renew_within < self.duration:
            raise ConfigError(f"lease terms must satisfy 0 < period < renew_within < duration, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A Lease as the election sees it; `version` "" stands for no object."""

    version: str = ""
    holder: str = ""
    duration: float = 0.0
    transitions: int = 0
    acquired: str = ""
    renewed: str = ""


@dataclass(frozen=True, slots=True)
class Acquire:
    """Write the lease as ours."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Write the lease as still ours."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It is another's for up to so many seconds more."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """It was ours, and is not any more."""


class Election:
    """One candidate. `now` is its monotonic clock in seconds."""

    def __init__(self, identity: str, terms: Terms) -> None:
        self.identity = identity
        self.terms = terms
        self.seen: Observed | None = None
        self._seen_at = 0.0
        self._valid_until = float("-inf")
        self._held = False

    def holds(self, now: float) -> bool:
        """Whether this candidate may act as the holder at this moment."""
        return self._held and now < self._valid_until

    def left(self, now: float) -> float:
        """For how many seconds from now nobody else can hold it, 0 where this candidate does not."""
        if not self.holds(now):
            return 0.0
        return self._valid_until - self.terms.renew_within + self.terms.duration - now

    def observe(self, lease: Observed, now: float) -> None:
        """The lease was read; `now` is the time after the answer came."""
        if lease != self.seen:
            self.seen = lease
            self._seen_at = now

    def written(self, lease: Observed, sent: float) -> None:
        """Our write was accepted and made `lease`; `sent` is the time before the request was sent."""
        self.seen = lease
        self._seen_at = sent
        self._held = True
        self._valid_until = sent + self.terms.renew_within

    def released(self) -> None:
        """We gave it up, or are about to: from now on we do not hold it."""
        self._held = False
        self._valid_until = float("-inf")

    def decide(self, now: float) -> Acquire | Renew | Wait | Lost:
        """What to do after `observe`."""
        seen = self.seen or Observed()
        if self._held:
            if seen.holder != self.identity or not self.holds(now):
                self.released()
                return Lost()
            return Renew()
        if not seen.version or not seen.holder or seen.holder == self.identity:
            # Our own name without our holding it: a former life of ours, so nobody else believes to hold it.
            return Acquire()
        # A recorded duration may be absurd; ours is the least that safety needs.
        left = self._seen_at + max(self.terms.duration, min(seen.duration, 4 * self.terms.duration)) - now
        return Wait(left) if left > 0 else Acquire()


def observed(lease: Lease) -> Observed:
    """What of a Lease matters to the election."""
    spec = lease.spec
    return Observed(
        version=lease.metadata.resource_version,
        holder=spec.holder_identity or "",
        duration=float(spec.lease_duration_seconds or 0),
        transitions=spec.lease_transitions or 0,
        acquired=spec.acquire_time or "",
        renewed=spec.renew_time or "",
    )


def claim(election: Election, key: ObjectKey, wall: float) -> dict[str, Any]:
    """The Lease to write for Acquire or Renew; `wall` is the time of day, seconds since the epoch."""
    seen = election.seen or Observed()
    again = seen.holder == election.identity
    moment = format_time(wall)
    spec = {
        "holderIdentity": election.identity,
        "leaseDurationSeconds": max(1, round(election.terms.duration)),
        "acquireTime": seen.acquired if again and seen.acquired else moment,
        "renewTime": moment,
        "leaseTransitions": seen.transitions if again or not seen.version else seen.transitions + 1,
    }
    return _lease(key, spec, seen.version)


def _lease(key: ObjectKey, spec: dict[str, Any], version: str) -> dict[str, Any]:
    metadata = {"name": key.name, "namespace": key.namespace}
    if version:
        metadata["resourceVersion"] = version
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


class LeaseHolder:
    """Competes for a lease until cancelled, then gives it up.

    `identity` must be unique to this process (host name and a random part). `on_change` hears True and
    False as the lease is won and lost; `holds` is what a writer asks before each write, and turns False by
    the clock alone when renewals hang.
    """

    def __init__(
        self,
        client: Client,
        key: ObjectKey,
        identity: str,
        *,
        terms: Terms = Terms(),
        on_change: Callable[[bool], None] | None = None,
        clock: Callable[[], float] = boot_clock,
        wall: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self.key = key
        self._client = client
        self._terms = terms
        self._election = Election(identity, terms)
        self._on_change = on_change
        self._clock = clock
        self._wall = wall
        self._rng = rng or Random()
        self._told = False
        self._failing = False
        self._log = log.bind(server=client.access.name, lease=str(key), identity=identity)

    @property
    def holds(self) -> bool:
        """True only while the lease is valid."""
        return self._election.holds(self._clock())

    @property
    def left(self) -> float:
        """How many seconds a write may take that begins now: after them another may hold the lease."""
        return self._election.left(self._clock())

    @property
    def holder(self) -> str:
        """Who held the lease when it was last read, "" for nobody."""
        return self._election.seen.holder if self._election.seen is not None else ""

    async def run(self) -> None:
        """Competes until cancelled; no failure of the server ends it."""
        try:
            while True:
                pause = await self._round()
                self._tell()
                # Jitter, so that candidates do not stay in step; a holder must not be late.
                pause = min(pause, self._terms.period) * (1.0 - self._rng.random() / 5.0)
                await self._sleep(pause)
        finally:
            await self._release()

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, and tells when the lease runs out meanwhile."""
        await asyncio.sleep(seconds)
        self._tell()

    async def _round(self) -> float:
        """Reads and, where it is due, writes the lease once; gives the seconds to pause."""
        try:
            async with asyncio.timeout(self._terms.renew_within / 2):
                pause = await self._compete()
        except Conflict:
            return 0.1 * self._terms.period  # another wrote first: look again
        except (KubeError, ConfigError, TimeoutError) as error:
            if not self._failing:
                self._log.warning("lease unreachable", error=str(error) or "timeout")
            self._failing = True
            return self._terms.period
        self._failing = False
        return pause

    async def _compete(self) -> float:
        election = self._election
        try:
            found = observed(await self._client.get(LEASE, self.key))
        except NotFound:
            found = Observed()
        election.observe(found, self._clock())
        match election.decide(self._clock()):
            case Acquire() | Renew():
                sent = self._clock()
                body = claim(election, self.key, self._wall())
                write = self._client.replace if found.version else self._client.create
                election.written(observed(await write(LEASE, body)), sent)
                return self._terms.period
            case Wait(seconds):
                return seconds
            case Lost():
                return 0.0

    def _tell(self) -> None:
        if (holds := self.holds) != self._told:
            self._told = holds
            self._log.info("lease won" if holds else "lease lost", holder=self.holder)
            if self._on_change is not None:
                self._on_change(holds)

    async def _release(self) -> None:
        """Gives the lease up, so that the next need not wait; if that fails, it runs out."""
        seen, held = self._election.seen, self.holds
        self._election.released()
        self._tell()
        if not held or seen is None:
            return
        spec = {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "renewTime": format_time(self._wall()),
            "acquireTime": seen.acquired or None,
            "leaseTransitions": seen.transitions,
        }
        with suppress(KubeError, ConfigError, TimeoutError):
            async with asyncio.timeout(self._terms.period):
                await self._client.replace(LEASE, _lease(self.key, spec, seen.version))


async def renew_heartbeat(
    client: Client, key: ObjectKey, identity: str, *, duration: float, wall: Callable[[], float] = time.time
) -> Lease:
    """Writes a heartbeat once: a Lease that says `identity` was alive now. Any replica may, nobody leads.

    `duration` (seconds) tells the reader after what silence to doubt. Raises KubeError.
    """
    spec = {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(1, round(duration)),
        "renewTime": format_time(wall()),
    }
    try:
        return await client.patch(LEASE, key, {"spec": spec})
    except NotFound:
        try:
            return await client.create(LEASE, _lease(key, spec, ""))
        except Conflict:  # another replica was first; that is as good
            return await client.get(LEASE, key)
