"""The callers' processes: started with a scenario's rates, told who is dead, listened to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from isthmus.demo.processes import Child, Processes
from isthmus.errors import IsthmusError
from loadtests.load.doors import DOORS
from loadtests.load.errand import Errand, Orders, Place
from loadtests.load.samples import Sample, Samples

READY_SECONDS = 60.0
END_SECONDS = 15.0
"""Callers wait for what they have under way (`openloop.LAST_SECONDS`), and then end."""


class CallersStuck(IsthmusError):
    """Callers cannot begin, or do not end when they are told to: what they saw is not known whole."""


class Crowd:
    """All callers. They are there from `gather` on, and call from `go` until `stop`."""

    def __init__(self, processes: Processes, folder: Path, places: Sequence[Place], namespace: str) -> None:
        self._processes = processes
        self._folder = folder
        self._places = tuple(places)
        self._namespace = namespace
        self._children: dict[str, Child] = {}
        self._listening: list[asyncio.Task[None]] = []
        self.samples = Samples()

    async def gather(self, rates: Mapping[str, float]) -> None:
        """Start the callers' processes; they need seconds until they can call."""
        for program in dict.fromkeys(DOORS[door].program for door in rates):
            mine = {door: rate for door, rate in rates.items() if DOORS[door].program == program}
            # A gRPC library knows one place only: its own. Who connects to pods itself is told apart by its
            # process where a partition divides clusters.
            shares = [self._places] if program == "http" else [(p,) for p in self._places]
            for number, places in enumerate(shares):
                part = {door: rate / len(shares) for door, rate in mine.items()}
                errand = Errand(program=program, places=places, rates=part, namespace=self._namespace)
                await self._send(f"callers-{program}-{number}", errand)

    async def go(self) -> None:
        """Wait until all callers can call, and let them. Raises CallersStuck for a process that never can."""
        for name, child in self._children.items():
            assert child.process.stdout is not None
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await child.process.stdout.readline()
            except TimeoutError as error:
                raise CallersStuck(
                    f"{name} could not begin to call within {READY_SECONDS:g} s: see {child.log}"
                ) from error
        self.mute(())
        for name, child in self._children.items():
            self._listening.append(asyncio.create_task(self._listen(child), name=name))

    async def _send(self, name: str, errand: Errand) -> None:
        file = self._folder / f"{name}.json"
        file.write_bytes(msgspec.json.encode(errand))
        command = [sys.executable, "-m", f"loadtests.load.callers.{errand.program}", str(file)]
        self._children[name] = await self._processes.start(name, command, pipes=True)

    async def _listen(self, child: Child) -> None:
        assert child.process.stdout is not None
        decode = msgspec.json.Decoder(Sample).decode
        async for line in child.process.stdout:
            self.samples.add(decode(line))

    def mute(self, dead: Collection[str]) -> None:
        """Exactly the callers of these clusters are dead from now on."""
        line = msgspec.json.encode(Orders(tuple(sorted(dead)))) + b"\n"
        for child in self._children.values():
            assert child.process.stdin is not None
            child.process.stdin.write(line)

    async def stop(self) -> None:
        """End the callers; each call that was due has told of its end when this returns.

        Raises CallersStuck for a process that does not end.
        """
        for child in self._children.values():
            child.expected = True
            assert child.process.stdin is not None
            child.process.stdin.close()
        # They end by themselves. One that is signalled while it ends is reaped behind asyncio's back.
        ends = [asyncio.create_task(c.process.wait(), name=name) for name, c in self._children.items()]
        try:
            _, late = await asyncio.wait([*self._listening, *ends], timeout=END_SECONDS)
        finally:
            for name in self._children:
                await self._processes.stop(name)
            await asyncio.gather(*ends)
        if late:
            names = ", ".join(sorted({task.get_name() for task in late}))
            logs = self._folder / "callers-*.log"
            raise CallersStuck(
                f"{names} did not end within {END_SECONDS:g} s and had calls that nobody knows of: see {logs}"
            )
        for task in self._listening:
            task.result()

    async def close(self) -> None:
        """Listen no longer, whatever is still said."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
