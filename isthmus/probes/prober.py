"""The prober: runs the checks of a table of targets and writes verdicts.

Invariants: a target has at most one check at a time, so a slow one holds up only itself; a verdict is written
only when it changes (up, wavering, canary); targets come with an unknown verdict and take theirs with them
when they go; the prober's own trouble (no file descriptors, a late loop, no network) is never held against a
target (see `anchors`). Cost is one timer and one short task for each check.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from itertools import islice
from typing import cast

import structlog
from prometheus_client import CollectorRegistry

from isthmus.flow import Table, Writer
from isthmus.model.health import CheckKey, CheckProtocol, CheckTarget, HealthCheck, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes import anchors, hysteresis, schedule
from isthmus.probes.checks import CHECKS, Check, protocol_of
from isthmus.probes.holddown import NEVER_DOWN, HoldDown
from isthmus.probes.hysteresis import UNKNOWN, Streak
from isthmus.probes.metrics import Metrics
from isthmus.probes.outcome import Outcome

log = structlog.get_logger()

MAX_TARGETS = 20_000
SAME_TROUBLE_SECONDS = 60.0
WITNESSES = 3
"""Other targets asked at once whether the prober still hears anybody."""
_CANDIDATES = 50


def anchor(address: str, port: int) -> CheckTarget:
    """An API server (address, not name) as an anchor: checked like a target, without a verdict."""
    return CheckTarget(address=address, port=port, check=HealthCheck(), own_cluster=True)


class Prober:
    """Checks every row of `targets` and keeps a row of `health` for each.

    `api_servers` are further anchors (see `anchor`). `clock` is the wall clock of `Verdict.since`; everything
    else runs on the loop's clock, and `chance` (in [0, 1)) spreads it.
    """

    def __init__(
        self,
        targets: Table[CheckKey, CheckTarget],
        health: Writer[CheckKey, Verdict],
        *,
        api_servers: Sequence[CheckTarget] = (),
        checks: Mapping[CheckProtocol, Check] = CHECKS,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        registry: CollectorRegistry | None = None,
        max_targets: int = MAX_TARGETS,
    ) -> None:
        self._targets = targets
        self._health = health
        self._checks = checks
        self._clock = clock
        self._chance = chance
        self._metrics = Metrics(registry or CollectorRegistry())
        self._max_targets = max_targets
        self._api_servers = {_anchor_key(target): target for target in api_servers}
        self._runners: dict[CheckKey, _Runner] = {}
        self._passing: dict[CheckKey, _Runner] = {}
        """Those whose last check passed, the one that passed longest ago first."""
        self._surplus: dict[CheckKey, None] = {}
        """Targets beyond the limit; they are not checked, which counts as up."""
        self._anchors = 0
        """Anchors that ever answered."""
        self._proof = anchors.NEVER
        """When the latest check that passed began."""
        self._asked = anchors.NEVER
        self._troubles: dict[str, float] = {}
        """When each kind of this prober's own trouble was last seen."""

    async def run(self) -> None:
        """Probes until cancelled, or until the table of targets is closed."""
        self._health.replace({})  # unknown counts as up: nobody has to wait for the first checks
        try:
            for key, target in self._api_servers.items():
                self._come(key, target)
            rows = cast("AsyncGenerator[frozenset[CheckKey], None]", self._targets.changes())
            async with aclosing(rows) as changes:
                async for keys in changes:
                    for key in keys:
                        self._set(key, self._targets.get(key))
                    self._metrics.targets.set(len(self._runners) - len(self._api_servers))
        finally:
            tasks = [
                task for runner in list(self._runners.values()) if (task := self._go(runner)) is not None
            ]
            await asyncio.gather(*tasks, return_exceptions=True)

    # Targets that come, change and go.

    def _set(self, key: CheckKey, target: CheckTarget | None) -> None:
        runner = self._runners.get(key)
        if target is None:
            self._surplus.pop(key, None)
            if runner is not None:
                self._go(runner)
                self._health.drop(key)
                self._take_surplus()
        elif runner is None:
            if len(self._runners) >= self._max_targets + len(self._api_servers):
                if not self._surplus:
                    log.error("too many probe targets", limit=self._max_targets)
                self._surplus[key] = None
            else:
                self._come(key, target)
        elif _same_place(runner.target, target):
            runner.target = target
            self._write(runner)
        else:
            self._go(runner)
            self._come(key, target)

    def _take_surplus(self) -> None:
        """Gives a free place to the next that waits; some may have gone meanwhile."""
        while self._surplus:
            key = next(iter(self._surplus))
            del self._surplus[key]
            if (target := self._targets.get(key)) is not None:
                self._come(key, target)
                return

    def _come(self, key: CheckKey, target: CheckTarget) -> None:
        runner = self._runners[key] = _Runner(key, target, self._clock())
        self._write(runner)
        loop = asyncio.get_running_loop()
        pause = schedule.first(target.check.interval, self._chance())
        runner.timer = loop.call_later(pause, self._begin, runner)

    def _go(self, runner: _Runner) -> asyncio.Task[None] | None:
        """Forgets a target; returns its check where one is under way, cancelled."""
        del self._runners[runner.key]
        self._passing.pop(runner.key, None)
        if runner.anchors:
            self._anchors -= 1
        if runner.streak.up is False:
            self._metrics.down.dec()
        if runner.timer is not None:
            runner.timer.cancel()
        if runner.task is not None:
            runner.task.cancel()
        return runner.task

    # One check.

    def _begin(self, runner: _Runner) -> None:
        runner.timer = None
        runner.task = asyncio.get_running_loop().create_task(self._check(runner), name="probe")

    async def _check(self, runner: _Runner) -> None:
        loop = asyncio.get_running_loop()
        target, began, proof = runner.target, loop.time(), self._proof
        try:
            outcome = await self._checks[protocol_of(target)](target)
        except Exception:  # a bug in one check must not end the others
            outcome = Outcome(None, "the check raised")
            if self._news(outcome.reason):
                log.exception("check raised", **_names(runner.key))
        ended = loop.time()
        runner.task = None
        check = runner.target.check
        if outcome.ok is None or (
            not outcome.ok and anchors.lagged(elapsed=ended - began, timeout=target.check.timeout)
        ):
            self._void(outcome.reason if outcome.ok is None else "the loop is late")
        elif outcome.ok:
            self._passed(runner, began, ended)
        else:
            self._failed(runner, outcome.reason, began, ended, proof)
        soon = schedule.quick(runner.streak, fall=check.fall)
        when = schedule.next_start(
            began=began, ended=ended, interval=check.interval, soon=soon, chance=self._chance()
        )
        runner.timer = loop.call_at(when, self._begin, runner)

    def _void(self, reason: str) -> None:
        self._metrics.void.inc()
        if self._news(reason):
            log.warning("checks say nothing", reason=reason)

    def _news(self, trouble: str) -> bool:
        """Whether this trouble was not seen in the last minute."""
        now = asyncio.get_running_loop().time()
        known, self._troubles[trouble] = self._troubles.get(trouble, anchors.NEVER), now
        return now - known > SAME_TROUBLE_SECONDS

    # What a result means.

    def _passed(self, runner: _Runner, began: float, ended: float) -> None:
        self._metrics.passed.inc()
        self._proof = max(self._proof, began)
        self._passing.pop(runner.key, None)
        self._passing[runner.key] = runner
        if runner.target.own_cluster and not runner.anchors:
            runner.anchors = True
            self._anchors += 1
        self._step(runner, True, ended, held=ended < runner.holddown.until)

    def _failed(self, runner: _Runner, reason: str, began: float, ended: float, proof: float) -> None:
        self._metrics.failed.inc()
        self._passing.pop(runner.key, None)
        runner.reason = reason
        if runner.streak.ok or not runner.streak.count:
            runner.first_failure, proof = began, self._proof
        believed = anchors.believed(
            anchors=self._anchors, first_failure=runner.first_failure, last_proof=proof
        )
        self._step(runner, False, ended, held=not believed)
        if runner.streak.up and not believed:
            if runner.streak.count >= runner.target.check.fall:
                self._metrics.withheld.inc()
            self._ask(runner, ended)

    def _step(self, runner: _Runner, ok: bool, now: float, *, held: bool) -> None:
        check, before = runner.target.check, runner.streak.up
        runner.streak = hysteresis.step(runner.streak, ok, rise=check.rise, fall=check.fall, held=held)
        if runner.streak.up != before:
            runner.since = self._clock()
            if runner.streak.up:
                runner.reason = ""
                if before is False:
                    self._metrics.down.dec()
                    self._metrics.to_up.inc()
                    log.info("target up", **_names(runner.key))
            else:
                runner.holddown = runner.holddown.down(now)
                self._metrics.down.inc()
                self._metrics.to_down.inc()
                log.info("target down", **_names(runner.key), reason=runner.reason)
        self._write(runner)

    def _ask(self, runner: _Runner, now: float) -> None:
        """Brings forward some checks that should pass, so that a failure need not wait for its proof."""
        if self._proof >= runner.first_failure or now - self._asked < schedule.QUICK:
            return
        self._asked = now
        witnesses = [other for key in self._api_servers if (other := self._runners.get(key)) is not None]
        far: list[_Runner] = []
        near: list[_Runner] = []
        for other in islice(self._passing.values(), _CANDIDATES):
            (near if other.key.cluster == runner.key.cluster else far).append(other)
        for witness in (*witnesses, *far[:WITNESSES], *near[:1]):
            if witness.timer is not None:
                witness.timer.cancel()
                self._begin(witness)

    def _write(self, runner: _Runner) -> None:
        if runner.key in self._api_servers:
            return
        target, streak = runner.target, runner.streak
        wavering = streak.wavering(rise=target.check.rise, fall=target.check.fall)
        written = runner.written
        if written is not None and (written.up, written.wavering, written.canary) == (
            streak.up,
            wavering,
            target.canary,
        ):
            return
        runner.written = Verdict(
            up=streak.up, canary=target.canary, wavering=wavering, since=runner.since, reason=runner.reason
        )
        self._health.put(runner.key, runner.written)


class _Runner:
    """One target and what is known of it. Exactly one of `timer` and `task` is set between two checks."""

    __slots__ = (
        "anchors",
        "first_failure",
        "holddown",
        "key",
        "reason",
        "since",
        "streak",
        "target",
        "task",
        "timer",
        "written",
    )

    def __init__(self, key: CheckKey, target: CheckTarget, since: float) -> None:
        self.key = key
        self.target = target
        self.since = since
        self.streak: Streak = UNKNOWN
        self.holddown: HoldDown = NEVER_DOWN
        self.first_failure = anchors.NEVER
        self.reason = ""
        self.anchors = False
        """Whether it counts as an anchor that has answered."""
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.written: Verdict | None = None


def _same_place(old: CheckTarget, new: CheckTarget) -> bool:
    """Whether what was found of the old target holds for the new one."""

    def place(target: CheckTarget) -> tuple[object, ...]:
        check = target.check
        return (target.address, target.port, check.protocol, check.path, target.own_cluster)

    return place(old) == place(new)


def _anchor_key(target: CheckTarget) -> CheckKey:
    name = EndpointId(f"{target.address} {target.port}")
    return CheckKey(ServiceKey("", ""), "", name, f"TCP/{target.port}")


def _names(key: CheckKey) -> dict[str, str]:
    return {"service": str(key.service), "cluster": key.cluster, "endpoint": key.endpoint, "port": key.port}
