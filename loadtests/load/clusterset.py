"""What every bed is to a scenario: clusters by name, their callers, their policies, and faults that happen.

The demo's clusterset is one (`bed.py`), clusters of a file are another (`given/`). What a fault does with no
more than this happens on every bed alike.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo.processes import Processes
from isthmus.errors import PlatformError
from isthmus.kube.client import Client
from loadtests.load.crowd import Crowd
from loadtests.load.marks import Trace
from loadtests.load.samples import Death, Samples

if TYPE_CHECKING:
    from loadtests.load.faults.fault import Fault  # which knows the bed of the demo

CALLER_GRACE = 1.0
"""Seconds that callers of a returned cluster have to find their feet before they count."""
HUB = "hub"
POLL_SECONDS = 0.25


class Clusterset(ABC):
    """A running clusterset and its callers.

    `clients` are API servers by cluster, and `HUB`; `policies` those that the bed starts with. `samples` grow
    while the load runs; `deaths` say whose callers were dead when. `processes` are the bed's own.
    `consoles` are where the agent of each cluster tells of itself, and the hub where it does.
    """

    def __init__(
        self,
        *,
        clusters: Sequence[str],
        namespace: str,
        clients: Mapping[str, Client],
        policies: Sequence[dict[str, Any]],
        processes: Processes,
        crowd: Crowd,
        consoles: Mapping[str, tuple[str, int]],
    ) -> None:
        self.clusters = tuple(clusters)
        self.namespace = namespace
        self.clients = clients
        self.policies = policies
        self.processes = processes
        self.crowd = crowd
        self.consoles = consoles
        self.deaths: list[Death] = []
        self._dying: dict[str, float] = {}

    @abstractmethod
    def happens(self, fault: Fault) -> AbstractAsyncContextManager[Trace]:
        """Entering makes the fault happen on this bed, leaving undoes it."""

    @property
    def samples(self) -> Samples:
        return self.crowd.samples

    @property
    def hub(self) -> Client:
        return self.clients[HUB]

    async def until(self, what: str, holds: Callable[[], Awaitable[str]], seconds: float = 120.0) -> None:
        """Wait until `holds` returns ""; PlatformError with what it last complained of."""
        deadline = time.monotonic() + seconds
        while complaint := await holds():
            if time.monotonic() > deadline:
                raise PlatformError(f"not within {seconds:g} s: {what}: {complaint}")
            await asyncio.sleep(POLL_SECONDS)

    # -- callers

    def callers_die(self, cluster: str) -> None:
        """From now on the callers of this cluster are dead and not counted."""
        self._dying[cluster] = time.monotonic()
        self.crowd.mute(self._dying)

    def callers_return(self, cluster: str) -> None:
        """They live again; what they see counts after CALLER_GRACE seconds."""
        began = self._dying.pop(cluster)
        self.deaths.append(Death(cluster=cluster, began=began, ended=time.monotonic() + CALLER_GRACE))
        self.crowd.mute(self._dying)

    # -- policies

    async def change_policy(self, service: str, spec: dict[str, Any]) -> None:
        """Merge this into the spec of the service's policy in every cluster, as people would patch it."""
        key = ObjectKey(self.namespace, service)
        for cluster in self.clusters:
            await self.clients[cluster].patch(kinds.POLICY, key, {"spec": spec})

    def policy_of(self, service: str) -> dict[str, Any]:
        """The spec that the bed starts with."""
        return next(p["spec"] for p in self.policies if p["metadata"]["name"] == service)
