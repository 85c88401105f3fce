"""How faults happen on given clusters: by what an administrator of them can do at their API servers.

A fault that is not here cannot be made there, and its scenario is refused before anything begins.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from loadtests.load.clusterset import POLL_SECONDS
from loadtests.load.faults.drain import Drain
from loadtests.load.faults.fault import Fault, meanwhile
from loadtests.load.faults.hub import HubLost
from loadtests.load.faults.rolling import RollingRestart
from loadtests.load.faults.weights import WeightShift
from loadtests.load.given.hub import hub_lost
from loadtests.load.marks import Trace

if TYPE_CHECKING:
    from loadtests.load.given.bed import GivenBed  # which asks here

RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""What `kubectl rollout restart` sets."""


def happening(fault: Fault, bed: GivenBed) -> AbstractAsyncContextManager[Trace]:
    """The fault as it happens there."""
    return _HOW[type(fault)](fault, bed)


def cannot(fault: Fault) -> str:
    """Why it cannot be made on given clusters, or ""."""
    if type(fault) in _HOW:
        return ""
    able = ", ".join(sorted(kind.name for kind in _HOW))
    return f"{fault.name} cannot be made through an API server; on given clusters there are {able}"


@asynccontextmanager
async def _rolling_restart(fault: RollingRestart, bed: GivenBed) -> AsyncIterator[Trace]:
    """`kubectl rollout restart` of each service; the new pods stay."""
    trace = Trace()
    old = await _uids(fault, bed)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for service in fault.services:
        template = {"metadata": {"annotations": {RESTARTED: now}}}
        await bed.patch_deployment(fault.cluster, service, {"template": template})
    async with meanwhile(_count_gone(fault, bed, old, trace), name="rolling-restart"):
        yield trace
        if old and trace.counts.get("pods replaced") == len(old):
            services = ", ".join(fault.services)
            trace.saw(f"all {len(old)} pods of {services} in {fault.cluster} replaced")


async def _count_gone(fault: RollingRestart, bed: GivenBed, old: set[str], trace: Trace) -> None:
    gone: set[str] = set()
    while gone < old:
        gone = old - await _uids(fault, bed)
        trace.counts["pods replaced"] = len(gone)
        await asyncio.sleep(POLL_SECONDS)


async def _uids(fault: RollingRestart, bed: GivenBed) -> set[str]:
    """Of all pods of these services that are there."""
    pods = [await bed.pods(fault.cluster, service) for service in fault.services]
    return {pod["metadata"]["uid"] for some in pods for pod in some}


_HOW: dict[type[Fault], Callable[[Any, Any], AbstractAsyncContextManager[Trace]]] = {
    # What these do, they do by the bed's clients alone.
    Drain: Drain.happen,
    WeightShift: WeightShift.happen,
    RollingRestart: _rolling_restart,
    HubLost: hub_lost,
}
