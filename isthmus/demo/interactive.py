"""The accidents as the user plays them: a key each, on the cluster that is chosen.

What was done to a cluster is undone by restoring it, all at once. Nothing a key does can end the demo: what
fails is told and the next key counts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.demo import silence
from isthmus.demo.report import Accident
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member
from isthmus.errors import IsthmusError

CALLER_GRACE = 1.0
ACTION_SECONDS = 20.0
STRATEGIES = ("ActiveActive", "Locality", "FailOver")
HELP = "k)ill s)ilence d)rain r)estore a)gent h)ub p)olicy q)uit"


class Interactive:
    """Obeys keys until `q`. `told` are the accidents so far, those that last ended by `play`'s return."""

    def __init__(self, stage: Stage, orders: asyncio.Queue[str], offer: Callable[[str, str], None]) -> None:
        """`offer` gets the name of the cluster that is chosen, and what keys there are."""
        self._stage = stage
        self._orders = orders
        self._tell_offer = offer
        self._members = stage.world.members
        self._chosen = min(1, len(self._members) - 1)
        self._began: dict[str, tuple[float, str]] = {}
        self._strategy = 0
        self.told: list[Accident] = []
        self._actions: dict[str, Callable[[Member], Awaitable[None]]] = {
            "k": self._kill,
            "s": self._silence,
            "d": self._drain,
            "r": self._restore,
            "a": self._kill_agent,
            "h": self._hub,
            "p": self._policy,
        }

    async def play(self) -> None:
        """Until the user presses `q`."""
        self._offer()
        while (key := await self._orders.get()) != "q":
            if key.isdigit() or key in ("next", "previous"):
                self._choose(key)
            elif action := self._actions.get(key):
                await self._try(action)
            self._offer()
        for name in (*self._began,):
            self._over(name)

    def _offer(self) -> None:
        keys = f"{HELP} 1-{min(9, len(self._members))}"
        self._tell_offer(self._members[self._chosen].name, keys)

    def _choose(self, key: str) -> None:
        if key.isdigit():
            number = int(key) - 1
            if 0 <= number < len(self._members):
                self._chosen = number
        else:
            self._chosen = (self._chosen + (1 if key == "next" else -1)) % len(self._members)

    async def _try(self, action: Callable[[Member], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(ACTION_SECONDS):
                await action(self._members[self._chosen])
        except TimeoutError:
            self._stage.say(f"that could not be done within {ACTION_SECONDS:g} s", "bad")
        except (IsthmusError, OSError) as error:
            self._stage.say(f"that could not be done: {error}", "bad")

    # -- what keys do

    async def _kill(self, member: Member) -> None:
        if self._take(member, "pods dead", f"the pods of {member.name} are killed"):
            await self._stage.processes.kill(f"pods-{member.name}")

    async def _silence(self, member: Member) -> None:
        if self._take(member, "silent", f"{member.name} falls silent: pods, API server, agent"):
            self._stage.callers_die(member)
            self._drop()

    async def _drain(self, member: Member) -> None:
        if self._take(member, "drained", f"{member.name} is drained"):
            await self._set_drain(member, True)

    async def _restore(self, member: Member) -> None:
        plight = self._stage.plights.get(member.name)
        if not plight:
            self._stage.say(f"nothing was done to {member.name}")
            return
        self._stage.say(f"{member.name} is restored", "good")
        match plight:
            case "silent":
                self._stage.plights.pop(member.name)
                self._drop()
                self._stage.callers_return(member, CALLER_GRACE)
            case "pods dead":
                await self._stage.start_pods(member)
            case "drained":
                await self._set_drain(member, False)
        self._stage.plights.pop(member.name, None)
        self._over(member.name)

    async def _kill_agent(self, member: Member) -> None:
        control = self._stage.control_pid(member)
        if not control:
            self._stage.say(f"{member.name} has no control process at the moment")
            return
        self._stage.say(f"the control process of {member.name}'s agent is killed", "bad")
        os.kill(control, signal.SIGKILL)

    async def _hub(self, member: Member) -> None:
        self._stage.hub_cut = not self._stage.hub_cut
        self._drop()
        if self._stage.hub_cut:
            self._began["hub"] = time.monotonic(), "hub"
            self._stage.say("the hub is cut off from everybody", "bad")
        else:
            self._over("hub")
            self._stage.say("everybody reaches the hub again", "good")

    async def _policy(self, member: Member) -> None:
        """Every cluster's policies of the services that callers reach get the next strategy."""
        strategy = STRATEGIES[(self._strategy + 1) % len(STRATEGIES)]
        targets = [{"cluster": m.name} for m in self._members[:64]] if strategy == "FailOver" else None
        patch = {"spec": {"strategy": strategy, "targets": targets, "tiers": None}}
        reached = [m for m in self._members if self._stage.plights.get(m.name) != "silent"]
        for policy in self._stage.policies:
            metadata = policy["metadata"]
            key = ObjectKey(metadata["namespace"], metadata["name"])
            for m in reached:
                await self._stage.clients[m.name].patch(kinds.POLICY, key, patch)
        self._strategy += 1
        silent = len(self._members) - len(reached)
        aside = f" (not where it is silent: {silent})" if silent else ""
        self._stage.say(f"every policy says {strategy} now{aside}")

    # -- what they have in common

    def _take(self, member: Member, plight: str, text: str) -> bool:
        """Note what happens to the cluster, False when it has its share already."""
        if before := self._stage.plights.get(member.name):
            self._stage.say(f"{member.name} is {before} already: restore it first")
            return False
        self._stage.plights[member.name] = plight
        self._began[member.name] = time.monotonic(), plight
        self._stage.say(text, "bad")
        return True

    def _drop(self) -> None:
        silent = [m for m in self._members if self._stage.plights.get(m.name) == "silent"]
        addresses = [address for m in silent for address in (m.slice, m.hub)]
        if self._stage.hub_cut:
            addresses += [m.hub for m in self._members if m not in silent]
        silence.only(addresses)

    async def _set_drain(self, member: Member, drain: bool) -> None:
        key = ObjectKey("", member.name)
        await self._stage.clients["hub"].patch(kinds.CLUSTER, key, {"spec": {"drain": drain}})

    def _over(self, name: str) -> None:
        began, plight = self._began.pop(name)
        hub = name == "hub"
        self.told.append(
            Accident(
                name=plight,
                victim="" if hub else name,
                began=began,
                ended=time.monotonic(),
                evidence=True,
                what="the hub was cut off by your hand" if hub else f"{name}, by your hand",
            )
        )
