"""A loop whose clock jumps to the next timer, and a network that lives in it."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from isthmus.flow import Table
from isthmus.model.health import CheckKey, CheckProtocol, CheckTarget, HealthCheck, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes.budget import Budget
from isthmus.probes.memory import Notes
from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome
from isthmus.probes.prober import Prober

SERVICE = ServiceKey("shop", "checkout")


class SimulatedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing is scheduled any more"
            self.loop.now += max(timeout, 0.0)
        return found


def simulate(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(play())


@dataclass
class Network:
    """What each address does: `up`, `refusing`, `silent`. `dead` silences everything."""

    mode: dict[str, str] = field(default_factory=dict)
    rtt: float = 0.02
    dead: bool = False
    turn: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    checks: list[tuple[float, str]] = field(default_factory=list)

    async def check(self, target: CheckTarget) -> Outcome:
        self.checks.append((asyncio.get_running_loop().time(), target.address))
        mode = "silent" if self.dead else self.mode.get(target.address, "up")
        if mode == "alternating":
            self.turn = not self.turn
            mode = "up" if self.turn else "refusing"
        if mode == "by chance":
            mode = "up" if self.chance.random() < 0.5 else "refusing"
        if mode == "refusing":
            return Outcome(False, "refused")
        if mode == "silent":
            await asyncio.sleep(target.check.timeout)
            return TIMEOUT
        if mode == "late":
            await asyncio.sleep(target.check.timeout + 0.3)
            return TIMEOUT
        if mode == "broken here":
            return Outcome(None, "too many open files")
        if mode == "bug":
            raise ZeroDivisionError
        await asyncio.sleep(self.rtt)
        return PASSED


class World:
    """A prober over a simulated network; to be made inside `simulate`."""

    def __init__(
        self,
        network: Network,
        *,
        api_servers: tuple[CheckTarget, ...] = (),
        seed: int = 0,
        registry: CollectorRegistry | None = None,
        budget: Budget | None = None,
        notes: Notes | None = None,
    ) -> None:
        self.network = network
        self.rows: Table[CheckKey, CheckTarget] = Table("checks")
        self.targets = self.rows.partition("test")
        self.targets.replace({})
        self.health: Table[CheckKey, Verdict] = Table("health")
        self.history: list[tuple[float, CheckKey, Verdict | None]] = []
        self.changed = asyncio.Event()
        self.health.observe(self._observe)
        self.health.on_sync(self.changed.set)
        self.prober = Prober(
            self.rows,
            self.health.partition("prober"),
            api_servers=api_servers,
            checks=dict.fromkeys(CheckProtocol, network.check),
            clock=lambda: self.now,
            chance=random.Random(seed).random,
            registry=registry,
            budget=budget,
            notes=notes,
        )
        self.task = asyncio.create_task(self.prober.run())

    def _observe(self, key: CheckKey, _old: Verdict | None, new: Verdict | None) -> None:
        self.history.append((self.now, key, new))
        self.changed.set()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def add(
        self, name: str, *, cluster: str = "far", check: HealthCheck | None = None, **more: Any
    ) -> CheckKey:
        """A target whose address is its name."""
        key = CheckKey(SERVICE, cluster, EndpointId(name), "TCP/80")
        self.targets.put(key, self.target(name, check=check, own_cluster=cluster == "own", **more))
        return key

    def target(self, name: str, *, check: HealthCheck | None = None, **more: Any) -> CheckTarget:
        return CheckTarget(address=name, port=80, check=check or HealthCheck(), **more)

    def at(self, target: CheckTarget, address: str) -> CheckTarget:
        return msgspec.structs.replace(target, address=address)

    def up(self, key: CheckKey) -> bool | None:
        found = self.health.get(key)
        return None if found is None else found.up

    async def until(self, condition: Callable[[], bool], seconds: float = 100.0) -> float:
        """Waits until a change of health makes the condition hold; returns when that was."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()
        return self.now

    async def wait(self, seconds: float) -> None:
        """Lets simulated time pass."""
        await asyncio.sleep(seconds)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        assert {task.get_name() for task in asyncio.all_tasks()} & {"probe"} == set()
        begun = len(self.network.checks)
        await asyncio.sleep(2)
        assert len(self.network.checks) == begun, "nothing begins after the end"
