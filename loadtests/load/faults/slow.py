"""A cluster at the end of a bad line: its packets come late, or some of them never."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from isthmus.demo.httpcall import connect
from isthmus.demo.namespace import run_tool
from isthmus.demo.population import Listener
from isthmus.demo.stage import Stage
from isthmus.demo.world import Member, World
from isthmus.errors import PlatformError
from loadtests.load import packets
from loadtests.load.bed import Bed
from loadtests.load.faults.fault import OneCluster, fault, meanwhile
from loadtests.load.marks import Trace

MOST_MS = 5_000.0
MEASURE_SECONDS = 0.5
SLACK_MS = 25.0
TUN = Path("/dev/net/tun")
_MARK = 0x51


@fault("cluster-slow")
class ClusterSlow(OneCluster, frozen=True, kw_only=True):
    """Every packet to and from the pods of the cluster takes `ms` longer, in connections that exist too.

    `left`: it is so slow that callers are meant to go elsewhere.
    """

    ms: float
    left: bool = False

    def complaint(self, world: World) -> str:
        if not 0 < self.ms <= MOST_MS:
            return f"ms: {self.ms:g} is not from 0 to {MOST_MS:g}"
        return super().complaint(world)

    def victims(self) -> tuple[str, ...]:
        return (self.cluster,) if self.left else ()

    @contextmanager
    def prepared(self, stage: Stage) -> Iterator[None]:
        if not TUN.exists():
            raise PlatformError(f"fault {self.name} needs {TUN}: load the kernel module tun")
        yield

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, member, line = Trace(), bed.member(self.cluster), f"line{bed.member(self.cluster).index}"
        command = [sys.executable, "-m", "loadtests.load.longline", line, str(self.ms)]
        child = await bed.stage.processes.start(f"line-{self.cluster}", command, pipes=True)
        try:
            assert child.process.stdout is not None
            await child.process.stdout.readline()
            took: list[float] = []
            trace.begins()
            with _led_through(line, member) as before:
                pod = bed.stage.populations[self.cluster].listeners[0]
                async with meanwhile(_measure(pod, took), name=f"measure-{self.cluster}"):
                    yield trace
                carried, found = _carried(line) - before, statistics.median(took or [0.0]) * 1000
                # A connection is there after one round trip. A line that does not keep up is another fault.
                if 2 * self.ms <= found <= 2 * (2 * self.ms + SLACK_MS):
                    trace.saw(
                        f"{carried} packets of {self.cluster} came late; a connection to a pod took "
                        f"{found:.0f} ms (median of {len(took)})"
                    )
            await asyncio.sleep(self.ms / 1000)  # what is under way in the line still arrives
        finally:
            await bed.stage.processes.stop(f"line-{self.cluster}")


async def _measure(pod: Listener, took: list[float]) -> None:
    """Connects to the pod again and again, and notes how many seconds each took."""
    while True:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            (await connect(pod.address, pod.port)).close()
            took.append(time.monotonic() - began)
        await asyncio.sleep(MEASURE_SECONDS)


@fault("cluster-lossy")
class ClusterLossy(OneCluster, frozen=True, kw_only=True):
    """So many percent of the packets to and from the pods of the cluster are lost, by chance."""

    percent: float

    def complaint(self, world: World) -> str:
        if not 0.1 <= self.percent <= 100:
            return f"percent: {self.percent:g} is not from 0.1 to 100"
        return super().complaint(world)

    @asynccontextmanager
    async def happen(self, bed: Bed) -> AsyncIterator[Trace]:
        trace, pods = Trace(), bed.member(self.cluster).pod_slice
        rule = f"ip daddr {pods} numgen random mod 1000 < {round(self.percent * 10)}"
        with packets.walled([rule]) as wall:
            try:
                yield trace
            finally:
                if dropped := wall.dropped():
                    trace.saw(f"{dropped} packets of {self.cluster} lost")


@contextmanager
def _led_through(line: str, member: Member) -> Iterator[int]:
    """What goes to the pods goes into the tunnel first; gives how many packets it had carried before."""
    table, mark = str(100 + member.index), str(_MARK + member.index)
    chain = f"inet isthmus_load_{line}"
    settings = Path("/proc/sys/net/ipv4/conf", line)
    # A packet that comes back has a source address of our own.
    for name, value in (("accept_local", "1"), ("rp_filter", "0")):
        (settings / name).write_text(value)
    run_tool("ip", "link", "set", line, "mtu", "65535", "up")
    run_tool("ip", "route", "replace", member.pod_slice, "dev", line, "table", table)
    # Local addresses are looked up first of all, unless another rule comes before.
    if "local\n" in _rules("0:"):
        run_tool("ip", "rule", "add", "pref", "1000", "lookup", "local")
        run_tool("ip", "rule", "del", "pref", "0")
    run_tool("ip", "rule", "add", "pref", table, "fwmark", mark, "lookup", table)
    hook = "type route hook output priority -150; policy accept;"
    rule = f"ip daddr {member.pod_slice} meta mark set {mark}"
    run_tool("nft", "-f", "-", feed=f"table {chain} {{\n chain out {{ {hook}\n  {rule}\n }}\n}}\n")
    try:
        yield _carried(line)
    finally:
        run_tool("nft", "delete", "table", *chain.split())
        run_tool("ip", "rule", "del", "pref", table)


def _rules(prefix: str) -> str:
    lines = run_tool("ip", "rule", "show").splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if line.startswith(prefix))


def _carried(line: str) -> int:
    """Packets that came back from the tunnel so far."""
    (link,) = json.loads(run_tool("ip", "-json", "-statistics", "link", "show", "dev", line))
    return int(link["stats64"]["rx"]["packets"])
