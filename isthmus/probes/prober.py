"""The prober: runs the checks of a table of targets and writes verdicts.

Invariants: a target has at most one check at a time, so a slow one holds up only itself; a verdict is written
only when it changes (up, wavering, canary); targets come with an unknown verdict and take theirs with them
when they go; the prober's own trouble (no file descriptors, a late loop, no network) is never held against a
target (see `anchors`, `lag`); what all checks together may cost is bounded (see `budget`, `canaries`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import cast

import structlog
from prometheus_client import CollectorRegistry

from isthmus.flow import Table, Writer
from isthmus.model.health import CheckKey, CheckProtocol, CheckTarget, HealthCheck, Verdict
from isthmus.model.names import EndpointId, ServiceKey
from isthmus.probes import anchors, hysteresis, lag, memory, schedule
from isthmus.probes.agenda import Agenda
from isthmus.probes.budget import Budget, Hosts, Places, Turns, affordable
from isthmus.probes.canaries import Canaries
from isthmus.probes.checks import CHECKS, Check, Checks
from isthmus.probes.hysteresis import Streak
from isthmus.probes.memory import Note
from isthmus.probes.metrics import Metrics
from isthmus.probes.outcome import TIMEOUT, Outcome
from isthmus.probes.runner import Runner

log = structlog.get_logger()

SAME_TROUBLE_SECONDS = 60.0
WITNESSES = 3
"""Other targets asked at once whether the prober still hears anybody."""
_CANDIDATES = 50
_KEYS_PER_TURN = 100
"""Targets come by thousands at a start: so many, then the loop has its turn."""


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
        self._checks = Checks(checks)
        self._clock = clock
        self._chance = chance
        self._metrics = Metrics(registry or CollectorRegistry())
        budget = affordable(budget or Budget())
        self._turns: Turns[Runner] = Turns(budget)
        self._hosts = Hosts(budget)
        self._places = Places(budget)
        self._canaries = Canaries(budget)
        self._rate = budget.rate
        self._agenda: Agenda[Runner] = Agenda(self._due, early=schedule.EARLY)
        self._stopped = False
        self.followed = False
        """Whether all targets that there were at the start have come."""
        self._now: Callable[[], float] = time.monotonic
        """The running loop's clock."""
        self._notes = dict(notes or {})
        """What was known of targets that have not come yet."""
        self._lag = lag.Lag()
        self._turn_timer: asyncio.TimerHandle | None = None
        self._api_servers = {_anchor_key(target): target for target in api_servers}
        self._runners: dict[CheckKey, Runner] = {}
        self._passing: dict[CheckKey, Runner] = {}
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
        self._now = asyncio.get_running_loop().time
        self._lag.start()
        try:
            async with self._checks:
                for key, target in self._api_servers.items():
                    self._begin_soon(self._come(key, target))
                rows = cast("AsyncGenerator[frozenset[CheckKey], None]", self._targets.changes())
                try:
                    async with aclosing(rows) as changes:
                        async for keys in changes:
                            await self._follow(keys)
                            del keys  # the first are all, and it may be long until the next
                finally:
                    self._stop()
        finally:
            self._lag.stop()

    def _stop(self) -> None:
        """From now on no check begins, and what those under way find is not heard."""
        self._stopped = True
        self._agenda.close()
        if self._turn_timer is not None:
            self._turn_timer.cancel()

    async def _follow(self, keys: frozenset[CheckKey]) -> None:
        new: list[Runner] = []
        # Who was checked before goes first: when there are too many, the same ones are.
        noted = keys & self._notes.keys()
        for index, key in enumerate((*noted, *(keys - noted)), 1):
            if (runner := self._set(key, self._targets.get(key))) is not None:
                new.append(runner)
            if not index % _KEYS_PER_TURN:
                await asyncio.sleep(0)
        # Only now, because how often canaries are checked follows from how many there are.
        for runner in new:
            if self._runners.get(runner.key) is runner:
                self._begin_soon(runner)
        self._forget()
        self.followed = True
        self._metrics.targets.set(len(self._runners) - len(self._api_servers))
        self._metrics.unchecked.set(self._places.waiting)
        self._metrics.canary_interval.set(self._canaries.longest)

    async def known(self) -> list[Note]:
        """What a later prober may want to know; what has not come yet is as old as it was."""
        now = self._clock()
        found = list(self._notes.values())
        for index, runner in enumerate(tuple(self._runners.values()), 1):
            if (up := runner.streak.up) is not None:
                found.append(memory.note(runner.key, runner.target, runner.verdict(), up=up, seen=now))
            if not index % _KEYS_PER_TURN:
                await asyncio.sleep(0)
        return found

    # Targets that come, change and go.

    def _set(self, key: CheckKey, target: CheckTarget | None) -> Runner | None:
        """Follows one row; returns a target whose checks are to begin."""
        runner = self._runners.get(key)
        if target is None:
            if runner is not None:
                self._leave(runner)
            return self._inherit(key)
        if runner is not None and memory.place(runner.target) == memory.place(target):
            return self._alter(runner, target)
        if runner is not None:
            self._go(runner)
            return self._come(key, target)
        if self._places.waits(key):
            return None
        loser = self._places.come(key)
        if loser is not None and self._news("too many targets"):
            log.error("too many probe targets", limit=self._places.limit)
        if loser is not None and (evicted := self._runners.get(loser)) is not None:
            self._leave(evicted)
        return self._come(key, target) if loser != key else None

    def _alter(self, runner: Runner, target: CheckTarget) -> Runner | None:
        """The same target, checked otherwise from now on."""
        before, runner.target = runner.target, target
        if before.canary is not target.canary:
            (self._canaries.come if target.canary else self._canaries.go)(runner.key)
        self._write(runner)
        sooner = before.canary is not target.canary or before.check.interval > target.check.interval
        if not sooner or runner.entry is None:
            return None
        self._agenda.cancel(runner.entry)
        return runner

    def _forget(self) -> None:
        """Drops the verdicts of targets that are no more; called once all that there are have come."""
        for key in self._notes:
            if key not in self._runners:
                self._health.drop(key)
        self._notes.clear()

    def _leave(self, runner: Runner) -> None:
        self._go(runner)
        self._health.drop(runner.key)

    def _inherit(self, key: CheckKey) -> Runner | None:
        """Gives the place of `key` to the next that waits; some of those may have gone meanwhile."""
        heir = self._places.go(key)
        while heir is not None:
            if (target := self._targets.get(heir)) is not None:
                return self._come(heir, target)
            heir = self._places.go(heir)
        return None

    def _come(self, key: CheckKey, target: CheckTarget) -> Runner:
        runner = self._runners[key] = Runner(key, target, self._clock(), witness=key in self._api_servers)
        if target.canary:
            self._canaries.come(key)
        self._remember(runner)
        self._write(runner)
        return runner

    def _begin_soon(self, runner: Runner) -> None:
        """Somewhere in the next interval, so that those that come together part."""
        pause = schedule.first(self._interval(runner), self._chance())
        runner.entry = self._agenda.add(self._now() + pause, runner)

    def _remember(self, runner: Runner) -> None:
        """Goes on from what an earlier prober knew of the very same target."""
        known = self._notes.pop(runner.key, None)
        if known is None or known.place != memory.place(runner.target):
            return
        runner.streak = Streak(up=known.up, ok=known.up)
        runner.since, runner.reason = known.since, known.reason
        if not known.up:
            self._metrics.down.inc()
        elif runner.target.own_cluster:
            runner.anchors = True
            self._anchors += 1

    def _go(self, runner: Runner) -> None:
        """Forgets a target."""
        del self._runners[runner.key]
        self._passing.pop(runner.key, None)
        self._canaries.go(runner.key)
        if runner.anchors:
            self._anchors -= 1
        if runner.streak.up is False:
            self._metrics.down.dec()
        if runner.entry is not None:
            self._agenda.cancel(runner.entry)
        if runner.stop is not None:
            runner.stop()
            if not runner.witness:
                self._end_turn(runner)

    # One check.

    def _due(self, runner: Runner) -> None:
        """Begins a check as soon as the budget allows; anchors need no permission."""
        runner.entry = None
        if runner.witness:
            self._begin(runner)
            return
        now = self._now()
        if not runner.booked:
            begins = self._hosts.book(runner.target.address, now)
            if begins > now:
                self._metrics.delayed_by_host.inc()
                runner.booked = True
                runner.entry = self._agenda.add(begins, runner)
                return
        runner.booked = False
        self._ask_turn(runner, now)

    def _ask_turn(self, runner: Runner, now: float) -> None:
        if self._turns.ask(runner.key.cluster, runner, now):
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
        self._metrics.waiting.set(self._turns.waiting)
        if self._turn_timer is not None:
            self._turn_timer.cancel()
        again = self._turns.again(loop.time())
        self._turn_timer = None if again is None else loop.call_at(again, self._take_turns)

    def _end_turn(self, runner: Runner) -> None:
        self._turns.done(runner.key.cluster)
        if self._turns.waiting:
            self._take_turns()

    def _begin(self, runner: Runner) -> None:
        now, target = self._now(), runner.target
        runner.began, runner.lost = now, self._lag.lost(now)
        runner.proof, runner.timeout = self._proof, target.check.timeout
        runner.stop = self._checks.begin(target, partial(self._ended, runner))

    def _ended(self, runner: Runner, outcome: Outcome) -> None:
        """A check of the target has ended."""
        if self._stopped:
            return
        began, ended = runner.began, self._now()
        runner.stop = None
        if not runner.witness:
            self._end_turn(runner)
        if outcome == TIMEOUT:
            late = max(self._lag.lost(ended) - runner.lost, ended - began - runner.timeout)
            if lag.excuses(late=late, timeout=runner.timeout):
                outcome = Outcome(None, "the loop is late")
        before = runner.streak
        if outcome.ok is None:
            self._void(outcome.reason)
        elif outcome.ok:
            self._passed(runner, began, ended)
        else:
            self._failed(runner, outcome.reason, began, ended, runner.proof)
        streak = runner.streak
        if before.up is not None and streak.ok is not before.ok and streak.ok is not before.up:
            self._forward(self._canaries.forward(runner.key, ended), ended)
        soon = schedule.quick(streak, fall=runner.target.check.fall) or runner.again
        if runner.hurried and not (soon or runner.doubtful):
            runner.hurried = False
            self._begin_soon(runner)
            return
        runner.again = False
        interval, chance = self._interval(runner), self._chance()
        when = schedule.next_start(began=began, ended=ended, interval=interval, soon=soon, chance=chance)
        runner.entry = self._agenda.add(when, runner)

    def _interval(self, runner: Runner) -> float:
        """Seconds between two checks; those that nobody asked for can wait while there is no doubt."""
        target = runner.target
        if not target.canary or runner.doubtful:
            return target.check.interval
        return max(target.check.interval, self._canaries.interval(runner.key.cluster))

    def _forward(self, keys: Iterable[CheckKey], now: float) -> None:
        """Brings checks forward, in a row at the agent's rate."""
        for place, key in enumerate(keys):
            runner, at = self._runners.get(key), now + place / self._rate
            if runner is None:
                continue
            if runner.entry is None:
                runner.again = runner.hurried = True
            elif runner.entry.when > at:
                self._agenda.cancel(runner.entry)
                runner.entry, runner.hurried = self._agenda.add(at, runner), True

    def _void(self, reason: str) -> None:
        self._metrics.void.inc()
        if self._news(reason):
            log.warning("checks say nothing", reason=reason)

    def _news(self, trouble: str) -> bool:
        """Whether this trouble was not seen in the last minute."""
        now = self._now()
        known, self._troubles[trouble] = self._troubles.get(trouble, anchors.NEVER), now
        return now - known > SAME_TROUBLE_SECONDS

    # What a result means.

    def _passed(self, runner: Runner, began: float, ended: float) -> None:
        self._metrics.passed.inc()
        self._proof = max(self._proof, began)
        self._passing.pop(runner.key, None)
        self._passing[runner.key] = runner
        if runner.target.own_cluster and not runner.anchors:
            runner.anchors = True
            self._anchors += 1
        self._step(runner, True, ended, held=runner.holddown.holds(ended, runner.last_failure))

    def _failed(self, runner: Runner, reason: str, began: float, ended: float, proof: float) -> None:
        self._metrics.failed.inc()
        self._passing.pop(runner.key, None)
        runner.reason, runner.last_failure = reason, ended
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

    def _step(self, runner: Runner, ok: bool, now: float, *, held: bool) -> None:
        check, before = runner.target.check, runner.streak
        runner.streak = hysteresis.step(before, ok, rise=check.rise, fall=check.fall, held=held)
        if runner.streak is before:
            return
        if ok and runner.streak.up:
            runner.reason = ""  # one failed check may have left it
        if runner.streak.up is not before.up:
            runner.since = self._clock()
            if runner.streak.up:
                if before.up is False:
                    self._metrics.down.dec()
                    self._metrics.to_up.inc()
                    log.info("target up", **_names(runner.key))
            else:
                runner.holddown = runner.holddown.down(now)
                self._metrics.down.inc()
                self._metrics.to_down.inc()
                log.info("target down", **_names(runner.key), reason=runner.reason)
        self._write(runner)

    def _ask(self, runner: Runner, now: float) -> None:
        """Brings forward some checks that should pass, so that a failure need not wait for its proof."""
        if self._proof >= runner.first_failure or now - self._asked < schedule.QUICK:
            return
        self._asked = now
        witnesses = [other for key in self._api_servers if (other := self._runners.get(key)) is not None]
        far: list[Runner] = []
        near: list[Runner] = []
        for other in islice(self._passing.values(), _CANDIDATES):
            (near if other.key.cluster == runner.key.cluster else far).append(other)
        for witness in (*witnesses, *far[:WITNESSES], *near[:1]):
            if witness.entry is not None:
                self._agenda.cancel(witness.entry)
                witness.entry, witness.booked = None, False
                if witness.witness:
                    self._begin(witness)
                else:
                    self._ask_turn(witness, now)

    def _write(self, runner: Runner) -> None:
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


def _anchor_key(target: CheckTarget) -> CheckKey:
    name = EndpointId(f"{target.address} {target.port}")
    return CheckKey(ServiceKey("", ""), "", name, f"TCP/{target.port}")


def _names(key: CheckKey) -> dict[str, str]:
    return {"service": str(key.service), "cluster": key.cluster, "endpoint": key.endpoint, "port": key.port}
