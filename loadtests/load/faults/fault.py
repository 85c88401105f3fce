"""What a fault is: arguments as scenarios write them, and how it happens.

Invariant: whatever a fault does is undone when its `happen` is left, by whatever way, and its trace holds
evidence only of what was seen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import ClassVar, TypeVar

import msgspec

from isthmus.demo.stage import Stage
from isthmus.demo.world import World
from loadtests.load.bed import Bed
from loadtests.load.marks import Trace, Way


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a derived class are the keys that a scenario may give; those without default it must."""

    name: ClassVar[str] = ""
    needs_root: ClassVar[str] = ""
    """What root is needed for; "": user namespaces are enough."""

    def complaint(self, world: World) -> str:
        """What is impossible about the arguments, as "key: what is wrong, what would be right"; or ""."""
        return ""

    def victims(self) -> tuple[str, ...]:
        """The clusters whose callers are meant to go elsewhere while it lasts."""
        return ()

    def leads(self) -> tuple[Way, ...]:
        """The same for faults that concern callers of some clusters only; such a fault has no victims."""
        return ()

    def prepared(self, stage: Stage) -> AbstractContextManager[None]:
        """Entered before anything of the bed starts, left when all has ended; twice (two events) is once.

        PlatformError says what is missing here.
        """
        return nullcontext()

    def happen(self, bed: Bed) -> AbstractAsyncContextManager[Trace]:
        """Entering makes it happen, leaving undoes it; the trace is complete when it has been left.

        What goes on meanwhile (steps, loops) is a task of the body's own.
        """
        raise NotImplementedError


class WholeCluster(Fault, frozen=True, kw_only=True):
    """A fault that callers of one cluster are meant to leave it for."""

    cluster: str

    def complaint(self, world: World) -> str:
        return no_cluster(self.cluster, world)

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
