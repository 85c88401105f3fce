"""The accidents, in order, each undone before the next and each proven by what it did.

Nobody edits a slice or a health state: packets are dropped, processes are killed, a drain is written as
people write it. A wait for a return is as long as it needs to be, up to `SETTLE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo import silence
from isthmus.demo.propagation import Propagation, propagation
from isthmus.demo.report import Accident
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member

SETTLE_SECONDS = 25.0
CALLER_GRACE = 1.0
"""Seconds that callers of a returned cluster have to find their feet before they count."""
USUAL_DURATION = 45.0
"""What the seconds below add up to; another duration stretches or shortens them all."""
CALM_SECONDS = 2.5
FIRST_ROUNDS, CALM_ROUNDS = 10, 3
"""How often propagation is measured: before anything happens, and in the calm before each accident."""
SILENT_SECONDS = 8.0
REFUSED_SECONDS = 6.0
DRAINED_SECONDS = 5.5
HUB_CUT_SECONDS = 8.0
KILLED_SECONDS = 5.0


class Accidents:
    """Plays them on a stage whose load runs, all in about `duration` seconds and the waits for returns."""

    def __init__(self, stage: Stage, duration: float) -> None:
        self._stage = stage
        self._propagation = Propagation(stage)
        self._pace = duration / USUAL_DURATION
        members = stage.world.members
        self._victim = members[1]
        self._other = members[-1] if len(members) > 2 else members[0]
        self._killed = members[0]
        self.told: list[Accident] = []

    async def play(self) -> None:
        """All accidents; results are in `told` and `delays`."""
        self._stage.say("a spare endpoint comes and goes, to time how fast other clusters hear of it")
        await self._propagation.sample(FIRST_ROUNDS)
        for act in (self._silent, self._refused, self._drained, self._hub_cut, self._control_killed):
            await self._propagation.sample(CALM_ROUNDS)
            await self._last(CALM_SECONDS)
            await act()

    @property
    def delays(self) -> list[float]:
        """Milliseconds that changes took from one cluster to another's Envoy, accidents aside."""
        return self._propagation.took

    async def _silent(self) -> None:
        victim = self._victim
        self._stage.say(f"{victim.name} falls silent: pods, API server, agent", "bad")
        self._stage.plights[victim.name] = "silent"
        self._stage.callers_die(victim)
        silence.drop([victim.slice, victim.hub])
        began = time.monotonic()
        await self._last(SILENT_SECONDS)
        dropped = silence.dropped()
        self._tell("silent", victim, began, dropped > 0, f"{dropped} packets to {victim.name} dropped")
        silence.lift()
        self._stage.callers_return(victim, CALLER_GRACE)
        await self._back(victim)

    async def _refused(self) -> None:
        victim = self._victim
        self._stage.say(f"the pods of {victim.name} refuse connections", "bad")
        self._stage.plights[victim.name] = "pods dead"
        began = time.monotonic()
        await self._stage.processes.kill(f"pods-{victim.name}")
        await self._last(REFUSED_SECONDS)
        self._tell("refused", victim, began, True, f"the pods of {victim.name} were killed")
        await self._stage.start_pods(victim)
        await self._back(victim)

    async def _drained(self) -> None:
        victim = self._victim
        self._stage.say(f"{victim.name} is drained", "bad")
        self._stage.plights[victim.name] = "drained"
        began = time.monotonic()
        await self._drain(victim, True)
        await self._last(DRAINED_SECONDS)
        self._tell("drained", victim, began, True, f"spec.drain of {victim.name} was set on the hub")
        await self._drain(victim, False)
        await self._back(victim)

    async def _drain(self, member: Member, drain: bool) -> None:
        key = ObjectKey("", member.name)
        await self._stage.clients["hub"].patch(kinds.CLUSTER, key, {"spec": {"drain": drain}})

    async def _hub_cut(self) -> None:
        victim = self._other
        self._stage.say(
            f"the hub is cut off from everybody, and the pods of {victim.name} fall silent", "bad"
        )
        self._stage.hub_cut = True
        silence.drop([m.hub for m in self._stage.world.members])
        await asyncio.sleep(1.0)
        unheard = silence.dropped()
        began = time.monotonic()
        silence.drop([victim.pod_slice])
        self._stage.plights[victim.name] = "pods silent"
        await self._last(HUB_CUT_SECONDS)
        unheard = max(unheard, silence.dropped())
        self._tell("hub cut", victim, began, unheard > 0, f"{unheard} packets to hub and pods dropped")
        silence.lift()
        self._stage.hub_cut = False
        await self._back(victim)

    async def _control_killed(self) -> None:
        member = self._killed
        before = self._stage.control_pid(member)
        self._stage.say(f"the control process of {member.name}'s agent is killed", "bad")
        began = time.monotonic()
        if before:
            os.kill(before, signal.SIGKILL)
        await self._last(KILLED_SECONDS)
        after = self._stage.control_pid(member)
        ended = time.monotonic()
        anew = before not in (0, after) and after != 0
        origin = self._other if self._other is not member else self._victim
        await propagation(self._stage, origin=origin, seen_by=member, rounds=1)
        self.told.append(
            Accident(
                name="killed",
                victim="",
                began=began,
                ended=ended,
                evidence=anew,
                what=f"control {before} became {after}, changes arrive again",
            )
        )

    async def _last(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._pace)

    def _tell(self, name: str, victim: Member, began: float, evidence: bool, what: str) -> None:
        ended = time.monotonic()
        self.told.append(
            Accident(name=name, victim=victim.name, began=began, ended=ended, evidence=evidence, what=what)
        )

    async def _back(self, member: Member) -> None:
        """Wait until others' callers reach the cluster again; the next accident says if they never do."""
        self._stage.plights.pop(member.name, None)
        self._stage.say(f"{member.name} returns")
        since = time.monotonic()
        while time.monotonic() - since < SETTLE_SECONDS:
            recent = reversed(self._stage.requests)
            for request in recent:
                if request.at < since:
                    break
                if request.cluster == member.name and request.caller != member.name:
                    self._stage.say(
                        f"{member.name} serves again after {time.monotonic() - since:.1f} s", "good"
                    )
                    return
            await asyncio.sleep(0.1)
        self._stage.say(f"{member.name} does not serve others {SETTLE_SECONDS:g} s after its return")
