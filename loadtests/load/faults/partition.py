"""A partition: clusters cannot reach each other, while each of them, and the hub, is well.

Every address of the bed is also its own source address, so who speaks is told by the group of its process:
a packet of a connection that a cluster opened carries that cluster's mark, in both directions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from isthmus.demo.namespace import run_tool
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member, World
from loadtests.load import packets
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import Fault, fault, no_cluster
from loadtests.load.ground import WORLD
from loadtests.load.marks import Trace, Way

TABLE = "inet isthmus_load_origin"
FIRST_GROUP = 64_001


@fault("partition")
class Partition(Fault, frozen=True, kw_only=True):
    """What goes between the cluster and `others` (default: all others) is dropped; the hub is reached by all.

    `way`: `both`, or only what the cluster sends (`out`) or is sent (`in`), answers included.
    """

    needs_root = "to give the processes of each cluster a group"

    cluster: str
    others: tuple[str, ...] = ()
    way: Literal["both", "in", "out"] = "both"

    def complaint(self, world: World) -> str:
        if self.cluster in self.others:
            return f"others: {self.cluster!r} is the cluster itself; name others"
        complaints = (no_cluster(other, world, "others") for other in self.others)
        return no_cluster(self.cluster, world) or next(filter(None, complaints), "")

    def leads(self) -> tuple[Way, ...]:
        pairs = [(self.cluster, other.name) for other in self._others(WORLD)]
        return tuple(Way(caller=a, cluster=b) for one, two in pairs for a, b in ((one, two), (two, one)))

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        lines = []
        for number, member in enumerate(stage.world.members):
            for name in ("agent-{0.name}", "envoy-{0.name}", "callers-grpc-{1}", "callers-dns-{1}"):
                group = f"--regid={_group(member)}"
                stage.processes.wrap(name.format(member, number), "setpriv", group, "--clear-groups")
            lines.append(f"  ct direction original meta skgid {_group(member)} ct mark set {_group(member)}")
        hook = "type filter hook output priority -150; policy accept;"
        feed = [
            f"table {TABLE} {{}}",
            f"flush table {TABLE}",
            f"table {TABLE} {{",
            f" chain leaving {{ {hook}",
            *lines,
            " }",
            "}",
            "",
        ]
        run_tool("nft", "-f", "-", feed="\n".join(feed))
        # The table ends with the namespace.
        yield

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, member = Trace(), bed.member(self.cluster)
        rules = [rule for other in self._others(bed.world) for rule in self._rules(member, other)]
        with packets.walled(rules) as wall:
            try:
                yield trace
            finally:
                if dropped := wall.dropped():
                    trace.saw(f"{dropped} packets between {self.cluster} and others dropped")

    def _others(self, world: World) -> list[Member]:
        others = [m for m in world.members if m.name != self.cluster]
        return [m for m in others if not self.others or m.name in self.others]

    def _rules(self, member: Member, other: Member) -> Iterator[str]:
        if self.way in ("both", "out"):
            yield from sent(member, other)
        if self.way in ("both", "in"):
            yield from sent(other, member)


def sent(source: Member, to: Member) -> Iterator[str]:
    """What one cluster sends to another: in connections of its own, and as answers in those of the other."""
    yield f"ct mark {_group(source)} ct direction original ip daddr {to.slice}"
    yield f"ct mark {_group(to)} ct direction reply ip saddr {source.slice}"


def _group(member: Member) -> int:
    return FIRST_GROUP + member.index
