"""What a fault is: arguments as scenarios write them, and how it happens.

Invariant: whatever a fault does is undone when its `happen` is left, by whatever way, and its trace holds
evidence only of what was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from isthmus.demo.stage import Stage
from isthmus.demo.world import World
from loadtests.load.bed import Bed
from loadtests.load.doors import SERVICES
from loadtests.load.marks import Trace, Way


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a derived class are the keys that a scenario may give; those without default it must."""

    name: ClassVar[str] = ""
    needs_root: ClassVar[str] = ""
    """What root is needed for; "": user namespaces are enough."""
    counts: ClassVar[tuple[str, ...]] = ()
    """What its trace counts, by name."""
    has_phases: ClassVar[bool] = False
    """Whether it is known which share of calls each cluster is to serve while it lasts."""

    def complaint(self, world: World) -> str:
        """What is impossible about the arguments, as "key: what is wrong, what would be right"; or ""."""
        return ""

    def least_seconds(self) -> float:
        """How long it must last to do all that it is to do."""
        return 0.0

    def victims(self) -> tuple[str, ...]:
        """The clusters whose callers are meant to go elsewhere while it lasts."""
        return ()

    def leads(self) -> tuple[Way, ...]:
        """The same for faults that concern callers of some clusters only; such a fault has no victims."""
        return ()

    def alone(self) -> tuple[str, ...]:
        """What it has to itself, in words: two events that share one of these must not overlap."""
        return ()

    def around(self, folder: Path) -> AbstractContextManager[None]:
        """Entered outside the namespaces before the bed in that folder, left when it has ended.

        What would outlive a killed bed is made and removed here; twice (two events) is once. PlatformError
        says what is missing here.
        """
        return nullcontext()

    def prepared(self, stage: Stage) -> AbstractContextManager[None]:
        """Entered before anything of the bed starts, left when all has ended; twice (two events) is once.

        PlatformError says what is missing here.
        """
        return nullcontext()

    def happen(self, bed: Bed) -> AbstractAsyncContextManager[Trace]:
        """Entering makes it happen, leaving undoes it; the trace is complete when it has been left.

        What goes on meanwhile (steps, loops) is a task of the body's own: see `meanwhile`.
        """
        raise NotImplementedError


class OneCluster(Fault, frozen=True, kw_only=True):
    """A fault of one cluster, or of something in it."""

    cluster: str

    def complaint(self, world: World) -> str:
        return no_cluster(self.cluster, world)

    def alone(self) -> tuple[str, ...]:
        return (f"{self.name} of {self.cluster}",)


class WholeCluster(OneCluster, frozen=True, kw_only=True):
    """A fault that callers of one cluster are meant to leave it for."""

    def victims(self) -> tuple[str, ...]:
        return (self.cluster,)


FAULTS: dict[str, type[Fault]] = {}

_F = TypeVar("_F", bound=type[Fault])


def fault(name: str) -> Callable[[_F], _F]:
    """Register a fault under the name that scenarios call it by."""

    def register(kind: _F) -> _F:
        kind.name = name
        FAULTS[name] = kind
        return kind

    return register


def no_cluster(cluster: str, world: World, key: str = "cluster") -> str:
    """The complaint about a cluster that the bed has not, or ""."""
    names = [m.name for m in world.members]
    return "" if cluster in names else f"{key}: there is no cluster {cluster!r}; there are {', '.join(names)}"


@asynccontextmanager
async def meanwhile(*work: Coroutine[None, None, None], name: str) -> AsyncIterator[None]:
    """These go on while the body lasts; one that fails ends the body, and the scenario with it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each, name=name) for each in work]
        yield
        for task in tasks:
            task.cancel()


def no_services(services: Sequence[str], key: str = "services") -> str:
    """The complaint about services that no caller would miss, or ""."""
    unknown = [service for service in services if service not in SERVICES]
    if services and not unknown:
        return ""
    what = f"callers use no service {unknown[0]!r}" if unknown else "is empty"
    return f"{key}: {what}; there are {', '.join(SERVICES)}"
