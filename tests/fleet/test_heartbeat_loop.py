"""The heartbeat loop on an injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from structlog.testing import capture_logs

from isthmus.api import core
from isthmus.errors import ConfigError, Unreachable
from isthmus.fleet.heartbeat import HeartbeatOptions, beat, heartbeat_lease
from isthmus.model.names import ClusterId


class Clock:
    """A clock that moves only when somebody sleeps or works; it ends the loop after `beats` sleeps."""

    def __init__(self, beats: int) -> None:
        self.now = 1000.0
        self.beats = beats
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if len(self.pauses) == self.beats:
            raise asyncio.CancelledError


async def run(
    clock: Clock, outcome: Callable[[int], None], options: HeartbeatOptions | None = None
) -> list[float]:
    renewals: list[float] = []

    async def renew() -> None:
        renewals.append(clock.now)
        outcome(len(renewals))

    with pytest.raises(asyncio.CancelledError):
        await beat(renew, clock=clock, sleep=clock.sleep, options=options)
    return renewals


async def test_the_lease_is_renewed_at_once_and_then_on_every_beat() -> None:
    assert await run(Clock(3), lambda _: None) == [1000.0, 1005.0, 1010.0]


async def test_the_time_a_renewal_takes_does_not_delay_the_next_beat() -> None:
    clock = Clock(2)

    def slow(_: int) -> None:
        clock.now += 1.5

    assert await run(clock, slow) == [1000.0, 1005.0]


async def test_a_renewal_that_fails_is_tried_again_sooner_and_told_once() -> None:
    def fails_twice(count: int) -> None:
        if count in (2, 3):
            raise Unreachable("no route")

    with capture_logs() as logs:
        renewals = await run(Clock(5), fails_twice)
    assert renewals == [1000.0, 1005.0, 1007.0, 1009.0, 1014.0]
    assert [entry["event"] for entry in logs] == ["heartbeat lost", "heartbeat restored"]
    assert logs[0]["error"] == "no route"


async def test_a_renewal_that_hangs_is_given_up() -> None:
    clock = Clock(1)

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await beat(hang, clock=clock, sleep=clock.sleep, options=HeartbeatOptions(timeout=0.01))
    assert clock.pauses == [2.0]
    assert logs[0]["error"] == "timeout"


async def test_what_is_not_the_hubs_failure_is_not_swallowed() -> None:
    async def wrong() -> None:
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        await beat(wrong, clock=Clock(1))


async def test_credentials_that_cannot_be_had_yet_do_not_end_the_heartbeat() -> None:
    def fail_first(number: int) -> None:
        if number == 1:
            raise ConfigError("the credential plugin failed")

    assert await run(Clock(2), fail_first) == [1000.0, 1002.0]


def test_the_lease_is_one_that_kubernetes_takes() -> None:
    rendered = heartbeat_lease(cluster=ClusterId("eu-1"), namespace="isthmus-eu-1", wall=1767323045.25)
    lease = msgspec.convert(rendered, core.Lease)
    assert (lease.metadata.namespace, lease.metadata.name) == ("isthmus-eu-1", "heartbeat")
    assert lease.spec.renew_time == "2026-01-02T03:04:05.250000Z"
    assert lease.spec.lease_duration_seconds == 20
    assert lease.spec.holder_identity == "eu-1"
