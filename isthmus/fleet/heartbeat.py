"""The heartbeat of a cluster: its Lease on the hub, renewed for as long as one agent of it lives.

Any replica renews, there is no leader; what counts is that the lease changes. A renewal that fails is tried
again sooner and never ends the loop: a hub that cannot be reached is an ordinary day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from isthmus.api import labels
from isthmus.errors import ConfigError, KubeError
from isthmus.fleet.states import LEASE_DURATION
from isthmus.model.names import ClusterId
from isthmus.model.timestamp import format_time

LEASE_NAME = "heartbeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatOptions:
    """Seconds: between renewals, until one is given up, and before the next try after a failure."""

    interval: float = 5.0
    timeout: float = 4.0
    retry: float = 2.0


def heartbeat_lease(*, cluster: ClusterId, namespace: str, wall: float) -> dict[str, Any]:
    """The Lease to apply; `wall` is the agent's clock in seconds since the epoch, for people to read."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "namespace": namespace,
            "name": LEASE_NAME,
            "labels": {labels.MANAGED_BY: labels.MANAGER},
        },
        "spec": {
            "holderIdentity": cluster,
            "leaseDurationSeconds": int(LEASE_DURATION),
            "renewTime": format_time(wall),
        },
    }


async def beat(
    renew: Callable[[], Awaitable[object]],
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    options: HeartbeatOptions | None = None,
) -> None:
    """Call `renew` on every beat until cancelled; `clock` is monotonic, in seconds.

    KubeError, credentials that cannot be read (ConfigError) and timeouts are logged once when they begin and
    once when they end.
    """
    options = options or HeartbeatOptions()
    log = structlog.get_logger()
    lost = False
    while True:
        began = clock()
        try:
            async with asyncio.timeout(options.timeout):
                await renew()
        except (KubeError, ConfigError, TimeoutError) as error:
            if not lost:
                log.warning("heartbeat lost", error=str(error) or "timeout")
            lost = True
            pause = options.retry
        else:
            if lost:
                log.info("heartbeat restored")
            lost = False
            pause = options.interval
        await sleep(max(0.0, pause - (clock() - began)))
