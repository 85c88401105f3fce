"""One Service that an applier keeps as desired, on the embedded API server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from isthmus.api import kinds
from isthmus.api.labels import MANAGED_BY, MANAGER
from isthmus.api.meta import ObjectKey
from isthmus.apiserver import ApiServer
from isthmus.flow import Table
from isthmus.kube.applier import Applier, ObjectRef
from isthmus.kube.client import Client
from isthmus.kube.raw import raw
from isthmus.kube.reflector import Reflector

WEB = ObjectKey("shop", "web")
REF = ObjectRef(kinds.SERVICE, *WEB)
STATUS = ObjectRef(kinds.SERVICE, *WEB, "status")


def web(*ports: int, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "labels": {MANAGED_BY: MANAGER}, **metadata},
        "spec": {"ports": [{"name": f"p{port}", "port": port} for port in ports]},
    }


def status(**reasons: str) -> dict[str, Any]:
    conditions = [{"type": type_, "status": "True", "reason": reason} for type_, reason in reasons.items()]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "status": {"conditions": conditions},
    }


class Site:
    """A cluster with a reflector of all our Services and, when asked, an applier."""

    def __init__(self, server: ApiServer, client: Client, running: Any, until: Any) -> None:
        self.server = server.cluster("eu-1")
        self.client = client
        self.running = running
        self.until = until
        self.open, self.deletes, self.left = True, True, 10.0
        self.asked: Counter[str] = Counter()
        """How often the applier has asked each of its gates."""
        self.observed: Table[ObjectKey, dict[str, Any]] = Table("observed")
        selector = f"{MANAGED_BY}={MANAGER}"
        self.reflector = Reflector(
            client, raw(kinds.SERVICE), self.observed.partition("eu-1"), label_selector=selector
        )
        self.desired: Table[ObjectRef, dict[str, Any]] = Table("desired")
        self.wanted = self.desired.partition("test")

    def applier(self, clock: Callable[[], float] = time.monotonic, **more: Any) -> Applier:
        return Applier(
            self.client,
            "applier",
            self.desired,
            {kinds.SERVICE: self.observed},
            gate=lambda: self._ask("gate", self.open),
            deletes=lambda: self._ask("deletes", self.deletes),
            left=lambda: self.left,
            clock=clock,
            **more,
        )

    def _ask(self, which: str, answer: bool) -> bool:
        self.asked[which] += 1
        return answer

    async def asks_again(self, applier: Applier, which: str) -> None:
        """Waits until the applier has come to a gate once more and stands still there."""
        before = self.asked[which]
        await self.settled(applier, lambda: self.asked[which] > before)

    def types(self) -> list[str]:
        found = (self.observed.get(WEB) or {}).get("status", {}).get("conditions", [])
        return sorted(each["type"] for each in found)

    async def found(self) -> dict[str, Any]:
        return await self.client.get(raw(kinds.SERVICE), WEB)

    async def settled(self, applier: Applier, condition: Callable[[], bool] = lambda: True) -> None:
        await self.until(lambda: self.observed.synced and applier.idle and condition())

    def seen(self, *ports: int) -> bool:
        """Whether the reflector shows exactly these ports."""
        found = self.observed.get(WEB)
        held = [] if found is None else [port["port"] for port in found["spec"]["ports"]]
        return held == list(ports)
