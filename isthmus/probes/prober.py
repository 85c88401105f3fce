"""The prober: runs the checks of a table of targets and writes verdicts.

Invariants: a target has at most one check at a time, so a slow one holds up only itself; a verdict is written
only when it changes (up, wavering, canary); targets come with an unknown verdict and take theirs with them
when they go; the prober's own trouble (no file descriptors, a late loop, no network) is never held against a
target (see `anchors`, `lag`); what all checks together may cost is bounded (see `budget`). Cost is one timer
and one short task for each check.
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
from isthmus.probes import anchors, hysteresis, lag, memory, schedule
from isthmus.probes.budget import Budget, Canaries, Hosts, Places, Turns, affordable
from isthmus.probes.checks import CHECKS, Check
from isthmus.probes.holddown import NEVER_DOWN, HoldDown
from isthmus.probes.hysteresis import UNKNOWN, Streak
from isthmus.probes.memory import Note
from isthmus.probes.metrics import Metrics
from isthmus.probes.outcome import TIMEOUT, Outcome

log = structlog.get_logger()

SAME_TROUBLE_SECONDS = 60.0
YIELD_EVERY = 200
"""Targets come by thousands at a start: so many, then the loop has its turn."""
WITNESSES = 3
"""Other targets asked at once whether the prober still hears anybody."""
_CANDIDATES = 50


def anchor(address: str, port: int) -> CheckTarget:
    """An API server (address, not name) as an anchor: checked like a target, without a verdict."""
    return CheckTarget(address=address, port=port, check=HealthCheck(), own_cluster=True)


class Prober:
    """Checks every row of `targets` and keeps a row of `health` for each.

    `api_servers` are further anchors (see `anchor`). `clock` is the wall clock of `Verdict.since`; everything
    else runs on the loop's clock, and `chance` (in [0, 1)) spreads it. `notes` are what an earlier
    prober knew.
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
        budget: Budget | None = None,
        notes: Mapping[CheckKey, Note] | None = None,
    ) -> None:
        self._targets = targets
        self._health = health
        self._checks = checks
        self._clock = clock
        self._chance = chance
        self._metrics = Metrics(registry or CollectorRegistry())
        budget = affordable(budget or Budget())
        self._turns: Turns[_Runner] = Turns(budget)
        self._canaries: Canaries[_Runner] = Canaries(budget)
        self._hosts = Hosts(budget)
        self._places = Places(budget)
        self._notes = dict(notes or {})
        """What was known of targets that have not come yet."""
        self._lag = lag.Lag()
        self._turn_timer: asyncio.TimerHandle | None = None
        self._canary_timer: asyncio.TimerHandle | None = None
        self._api_servers = {_anchor_key(target): target for target in api_servers}
        self._runners: dict[CheckKey, _Runner] = {}
        self._passing: dict[CheckKey, _Runner] = {}
        """Those whose last check passed, the one that passed longest ago first."""
        self._anchors = 0
        """Anchors that ever answered."""
        self._proof = anchors.NEVER
        """When the latest check that passed began."""
        self._asked = anchors.NEVER
        self._troubles: dict[str, float] = {}
        """When each kind of this prober's own trouble was last seen."""

    async def run(self) -> None:
        """Probes until cancelled, or until the table of targets is closed."""
        # Unknown counts as up: nobody has to wait for the first checks.
        self._health.replace(memory.verdicts(self._notes))
        self._lag.start()
        try:
            for key, target in self._api_servers.items():
                self._come(key, target)
            rows = cast("AsyncGenerator[frozenset[CheckKey], None]", self._targets.changes())
            async with aclosing(rows) as changes:
                async for keys in changes:
                    for taken, key in enumerate(keys, 1):
                        self._set(key, self._targets.get(key))
                        if taken % YIELD_EVERY == 0:
                            await asyncio.sleep(0)
                    self._forget()
                    self._metrics.targets.set(len(self._runners) - len(self._api_servers))
                    self._metrics.unchecked.set(self._places.waiting)
        finally:
            self._lag.stop()
            for timer in (self._turn_timer, self._canary_timer):
                if timer is not None:
                    timer.cancel()
            tasks = [
                task for runner in list(self._runners.values()) if (task := self._go(runner)) is not None
            ]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def known(self) -> list[Note]:
        """What a later prober may want to know; what has not come yet is as old as it was."""
        now = self._clock()
        found = list(self._notes.values())
        for taken, runner in enumerate(list(self._runners.values()), 1):
            if (up := runner.streak.up) is not None:
                found.append(memory.note(runner.key, runner.target, runner.verdict(), up=up, seen=now))
            if taken % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return found

    # Targets that come, change and go.

    def _set(self, key: CheckKey, target: CheckTarget | None) -> None:
        runner = self._runners.get(key)
        if target is None:
            if runner is not None:
                self._leave(runner)
            self._inherit(key)
        elif runner is not None and memory.place(runner.target) == memory.place(target):
            runner.target = target
            self._write(runner)
        elif runner is not None:
            self._go(runner)
            self._come(key, target)
        elif not self._places.waits(key):
            loser = self._places.come(key)
            if loser is not None and self._news("too many targets"):
                log.error("too many probe targets", limit=self._places.limit)
            if loser is not None and (evicted := self._runners.get(loser)) is not None:
                self._leave(evicted)
            if loser != key:
                self._come(key, target)

    def _forget(self) -> None:
        """Drops the verdicts of targets that are no more; called once all that there are have come."""
        for key in self._notes:
            if key not in self._runners:
                self._health.drop(key)
        self._notes.clear()

    def _leave(self, runner: _Runner) -> None:
        self._go(runner)
        self._health.drop(runner.key)

    def _inherit(self, key: CheckKey) -> None:
        """Gives the place of `key` to the next that waits; some of those may have gone meanwhile."""
        heir = self._places.go(key)
        while heir is not None:
            if (target := self._targets.get(heir)) is not None:
                self._come(heir, target)
                return
            heir = self._places.go(heir)

    def _come(self, key: CheckKey, target: CheckTarget) -> None:
        runner = self._runners[key] = _Runner(key, target, self._clock(), witness=key in self._api_servers)
        self._remember(runner)
        self._write(runner)
        loop = asyncio.get_running_loop()
        pause = schedule.first(target.check.interval, self._chance())
        runner.timer = loop.call_later(pause, self._due, runner)

    def _remember(self, runner: _Runner) -> None:
        """Goes on from what an earlier prober knew of the very same target."""
        known = self._notes.pop(runner.key, None)
        if known is None or known.place != memory.place(runner.target):
            return
        runner.streak = Streak(up=known.up)
        runner.since, runner.reason = known.since, known.reason
        if not known.up:
            self._metrics.down.inc()
        elif runner.target.own_cluster:
            runner.anchors = True
            self._anchors += 1

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
            if not runner.witness:
                self._end_turn(runner)
        return runner.task

    # One check.

    def _due(self, runner: _Runner) -> None:
        """Begins a check as soon as the budget allows; anchors need no permission."""
        loop = asyncio.get_running_loop()
        runner.timer = None
        if runner.witness:
            self._begin(runner)
            return
        now = loop.time()
        begins = self._hosts.book(runner.target.address, now)
        if begins > now:
            self._metrics.delayed_by_host.inc()
            runner.timer = loop.call_at(begins, self._ask_turn, runner)
        else:
            self._ask_turn(runner)

    def _ask_turn(self, runner: _Runner) -> None:
        """A canary waits for the turn of canaries first, unless its last result is against its verdict."""
        runner.timer = None
        cluster, now = runner.key.cluster, asyncio.get_running_loop().time()
        if not runner.target.canary or runner.doubtful or self._canaries.ask(cluster, runner, now):
            self._go_ahead(runner)
        else:
            self._metrics.delayed_by_agent.inc()
            self._wait_for_canaries()

    def _wait_for_canaries(self) -> None:
        loop = asyncio.get_running_loop()
        if self._canary_timer is None and (again := self._canaries.again(loop.time())) is not None:
            self._canary_timer = loop.call_at(again, self._take_canaries)

    def _take_canaries(self) -> None:
        self._canary_timer = None
        self._go_ahead_all(self._canaries.ready(asyncio.get_running_loop().time()))
        self._wait_for_canaries()

    def _hurry(self, cluster: str) -> None:
        """Something there has changed its mind: its canaries do not wait for the others."""
        self._go_ahead_all(self._canaries.hurry(cluster, asyncio.get_running_loop().time()))

    def _go_ahead_all(self, runners: list[_Runner]) -> None:
        for runner in runners:
            if self._runners.get(runner.key) is runner:  # else it has gone while it waited
                self._go_ahead(runner)
        self._metrics.waiting.set(self._turns.waiting + self._canaries.waiting)

    def _go_ahead(self, runner: _Runner) -> None:
        if self._turns.ask(runner.key.cluster, runner, asyncio.get_running_loop().time()):
            self._begin(runner)
        else:
            self._metrics.delayed_by_agent.inc()
            self._take_turns()

    def _take_turns(self) -> None:
        """Begins the checks whose turn has come, and comes back when there are more."""
        loop = asyncio.get_running_loop()
        while ready := self._turns.ready(loop.time()):
            for runner in ready:
                if self._runners.get(runner.key) is runner:
                    self._begin(runner)
                else:  # it has gone while it waited
                    self._turns.unused(runner.key.cluster)
        self._metrics.waiting.set(self._turns.waiting + self._canaries.waiting)
        if self._turn_timer is not None:
            self._turn_timer.cancel()
        again = self._turns.again(loop.time())
        self._turn_timer = None if again is None else loop.call_at(again, self._take_turns)

    def _end_turn(self, runner: _Runner) -> None:
        self._turns.done(runner.key.cluster)
        if self._turns.waiting:
            self._take_turns()

    def _begin(self, runner: _Runner) -> None:
        runner.task = asyncio.get_running_loop().create_task(self._check(runner), name="probe")

    async def _check(self, runner: _Runner) -> None:
        loop = asyncio.get_running_loop()
        target, began, proof = runner.target, loop.time(), self._proof
        lost = self._lag.lost(began)
        try:
            outcome = await self._checks[target.check.effective](target)
        except Exception:  # a bug in one check must not end the others
            outcome = Outcome(None, "the check raised")
            if self._news(outcome.reason):
                log.exception("check raised", **_names(runner.key))
        ended = loop.time()
        runner.task = None
        if not runner.witness:
            self._end_turn(runner)
        check = runner.target.check
        late = max(self._lag.lost(ended) - lost, ended - began - target.check.timeout)
        if outcome == TIMEOUT and lag.excuses(late=late, timeout=target.check.timeout):
            outcome = Outcome(None, "the loop is late")
        if outcome.ok is None:
            self._void(outcome.reason)
        elif outcome.ok:
            self._passed(runner, began, ended)
        else:
            self._failed(runner, outcome.reason, began, ended, proof)
        if runner.doubtful and runner.streak.count == 1:
            self._hurry(runner.key.cluster)
        soon = schedule.quick(runner.streak, fall=check.fall)
        when = schedule.next_start(
            began=began, ended=ended, interval=check.interval, soon=soon, chance=self._chance()
        )
        runner.timer = loop.call_at(when, self._due, runner)

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
        streak, fall = runner.streak, runner.target.check.fall
        first = streak.ok or not streak.count
        if first:
            runner.first_failure, proof = began, self._proof
        if not streak.faults:
            runner.first_fault = began
        # A run of failures is judged by what passed since it began, scattered ones by what passed among them.
        believed = self._believed(runner.first_failure, proof)
        in_a_row = (1 if first else streak.count + 1) >= fall
        held = not (believed if in_a_row else self._believed(runner.first_fault, proof))
        self._step(runner, False, ended, held=held)
        if runner.streak.up and not believed:
            if in_a_row:
                self._metrics.withheld.inc()
            self._ask(runner, ended)

    def _believed(self, first_failure: float, proof: float) -> bool:
        return anchors.believed(anchors=self._anchors, first_failure=first_failure, last_proof=proof)

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
                witness.timer = None
                if witness.witness:
                    self._begin(witness)
                else:
                    self._go_ahead(witness)

    def _write(self, runner: _Runner) -> None:
        if runner.witness:
            return
        verdict, written = runner.verdict(), runner.written
        if written is not None and (written.up, written.wavering, written.canary) == (
            verdict.up,
            verdict.wavering,
            verdict.canary,
        ):
            return
        runner.written = verdict
        self._health.put(runner.key, verdict)


class _Runner:
    """One target and what is known of it.

    It has a `timer` between two checks, a `task` during one, and neither while it waits for its turn.
    """

    __slots__ = (
        "anchors",
        "first_failure",
        "first_fault",
        "holddown",
        "key",
        "reason",
        "since",
        "streak",
        "target",
        "task",
        "timer",
        "witness",
        "written",
    )

    def __init__(self, key: CheckKey, target: CheckTarget, since: float, *, witness: bool) -> None:
        self.key = key
        self.target = target
        self.since = since
        self.streak: Streak = UNKNOWN
        self.holddown: HoldDown = NEVER_DOWN
        self.first_failure = anchors.NEVER
        """When the present run of failures began."""
        self.first_fault = anchors.NEVER
        """When the first failure began that is not forgiven yet."""
        self.reason = ""
        self.anchors = False
        """Whether it counts as an anchor that has answered."""
        self.witness = witness
        """An API server: an anchor without a verdict, outside the budget."""
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.written: Verdict | None = None

    @property
    def doubtful(self) -> bool:
        """Whether its latest results are against its verdict and may soon change it."""
        streak, check = self.streak, self.target.check
        if streak.up is None or streak.ok is streak.up:
            return False
        return streak.count <= (check.fall if streak.up else check.rise) + schedule.PATIENCE

    def verdict(self) -> Verdict:
        check, streak = self.target.check, self.streak
        wavering = streak.wavering(rise=check.rise, fall=check.fall)
        return Verdict(
            up=streak.up,
            canary=self.target.canary,
            wavering=wavering,
            since=self.since,
            reason=self.reason,
        )


def _anchor_key(target: CheckTarget) -> CheckKey:
    name = EndpointId(f"{target.address} {target.port}")
    return CheckKey(ServiceKey("", ""), "", name, f"TCP/{target.port}")


def _names(key: CheckKey) -> dict[str, str]:
    return {"service": str(key.service), "cluster": key.cluster, "endpoint": key.endpoint, "port": key.port}
