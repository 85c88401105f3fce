"""How fast DNS answers beside gdnsd, CoreDNS and asyncio with a DNS library, and how fast it changes.

All servers hold the same zone and stand at the same time; each round asks them in an order by chance. dnsperf
asks with EDNS and with the case of every letter by chance (0x20); our worker is the agent's own process, with
rows from control, metrics and the query log on. A rate on shared cores says as much about the neighbours as
about the server, so processor time per query is told beside it. Ratios are those of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[1]))

import dnspeers
from dnspeers import Server
from rich.console import Console
from rich.table import Table

SERVICES = 1000
MANY = 10_000
PACE = 5000
TIMEOUT = 5.0
"""Seconds after which dnsperf gives a query up."""
CHANGES = 100
OTHERS = "isthmus, others"
"""The server and the questions where all is forwarded."""
TARGETS = {
    "x_gdnsd": 0.6,
    "x_coredns": 2.0,
    "x_dnslib": 20.0,
    "p99_x_gdnsd": 1.5,
    "propagation_ms_p99": 20.0,
    "memory_mb": 400.0,
    "forward_micros": 150.0,
    "forward_lost_percent": 0.1,
}
console = Console()


class Run(NamedTuple):
    """What one run of dnsperf found; `micros` is processor time of the server per query."""

    rate: float
    micros: float
    lost: float


Rates = dict[str, dict[str, list[Run]]]
"""By server and kind of question."""
Waits = dict[str, list[tuple[float, float]]]
"""Median and 99th percentile by server."""


def mixed(name: str, chance: random.Random) -> str:
    return "".join(letter.upper() if chance.random() < 0.5 else letter for letter in name)


def questions(folder: Path) -> dict[str, Path]:
    """Files of questions by kind: names that exist, that do not, whose answers are drawn, of another zone."""
    chance = random.Random(20)
    found = {}
    kinds = (("hit", "svc"), ("miss", "nope"), ("drawn", "drawn"), ("forwarded", "svc"))
    for kind, prefix in kinds:
        found[kind] = folder / f"{kind}.txt"
        names = [dnspeers.name(i, prefix) for i in range(SERVICES)]
        if kind == "forwarded":
            names = [name.replace("clusterset", "cluster") for name in names]
        found[kind].write_text("".join(f"{mixed(name, chance)} A\n" for name in names))
    return found


async def dnsperf(server: Server, file: Path, seconds: float, *more: str) -> tuple[str, float]:
    """The output of dnsperf, and the seconds of processor time that the server used meanwhile."""
    where = ("-s", "127.0.0.1", "-p", str(server.port), "-d", str(file), "-l", str(seconds))
    before = server.cpu
    process = await asyncio.create_subprocess_exec(
        "dnsperf", *where, "-T", "1", "-c", "8", "-q", "200", "-e", *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    used = server.cpu - before
    await _idle(server)
    return out.decode(), used


async def _idle(server: Server) -> None:
    """Waits until a server has nothing left in its queue, which would be the burden of the next one."""
    before = -1.0
    while server.cpu - before > 0.005:
        before = server.cpu
        await asyncio.sleep(0.1)


def figure(text: str, what: str) -> float:
    found = re.search(rf"{what}: +([0-9.]+)", text)
    assert found is not None, text[-2000:]
    return float(found[1])


async def rate(server: Server, file: Path, seconds: float, *more: str) -> Run:
    text, cpu = await dnsperf(server, file, seconds, *more)
    completed, sent = figure(text, "Queries completed"), figure(text, "Queries sent")
    lost = figure(text, "Queries lost") / max(1.0, sent)
    return Run(figure(text, "Queries per second"), 1e6 * cpu / max(1.0, completed), lost)


async def p99(server: Server, file: Path, seconds: float) -> tuple[float, float]:
    """The median and the 99th percentile of the time to a reply at a fixed pace, in microseconds."""
    text, _ = await dnsperf(server, file, seconds, "-Q", str(PACE), "-v")
    ends = [line.split() for line in text.splitlines() if line.startswith("> ")]
    taken = sorted(1e6 * (TIMEOUT if end[1] == "T" else float(end[-1])) for end in ends)
    return taken[len(taken) // 2], taken[int(len(taken) * 0.99)]


async def ask(server: Server, query: bytes) -> bytes:
    """A reply, asked for anew until there is one."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.setblocking(False)
        caller.connect(("127.0.0.1", server.port))
        while True:
            assert server.process.returncode is None, (
                f"{server.name} has ended: {server.log.read_text()[-2000:]}"
            )
            with contextlib.suppress(OSError):
                await loop.sock_sendall(caller, query)
                async with asyncio.timeout(0.2):
                    return await loop.sock_recv(caller, 4096)
            await asyncio.sleep(0.05)


async def answering(servers: Sequence[Server]) -> None:
    """Waits until each answers with a record."""
    query = dnspeers.query(dnspeers.name(1))
    for server in servers:
        async with asyncio.timeout(300):
            while not (await ask(server, query))[7]:
                await asyncio.sleep(0.05)
        if server.name == "isthmus":
            assert '"fast_path": true' in server.log.read_text(), "not the fast path"


async def compare(folder: Path, rounds: int, seconds: float) -> tuple[Rates, Waits]:
    files = questions(folder)
    rows = {dnspeers.key(i): dnspeers.fixed_row(i) for i in range(SERVICES)}
    rows |= {dnspeers.key(i, "drawn"): dnspeers.drawn_row(i) for i in range(SERVICES)}
    found: Rates = {}
    waits: Waits = {}
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(dnspeers.isthmus(folder, rows))
        python = await stack.enter_async_context(dnspeers.isthmus(folder, rows, "isthmus, no C", fast=False))
        others = [
            await stack.enter_async_context(peer(folder, SERVICES))
            for peer in (dnspeers.gdnsd, dnspeers.coredns_hosts, dnspeers.asyncio_dnslib)
        ]
        servers = [ours, python, *others]
        await answering(servers)
        turns = [(server, kind) for server in servers for kind in ("hit", "miss")]
        turns += [(ours, "drawn"), (python, "drawn")]
        waiting = [ours, others[0], others[1]]
        for _ in range(rounds):
            random.shuffle(turns)
            for server, kind in turns:
                runs = found.setdefault(server.name, {}).setdefault(kind, [])
                runs.append(await rate(server, files[kind], seconds))
            random.shuffle(waiting)
            for server in waiting:
                waits.setdefault(server.name, []).append(await p99(server, files["hit"], seconds))
    return found, waits


async def forwarding(folder: Path, rounds: int, seconds: float) -> dict[str, float]:
    """What a name of another zone costs that gdnsd is asked about, and own names beside a flood of such."""
    files = questions(folder)
    rows = {dnspeers.key(i): dnspeers.fixed_row(i) for i in range(SERVICES)}
    runs: list[Run] = []
    beside: list[Run] = []
    (folder / "other").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(dnspeers.gdnsd(folder / "other", SERVICES))
        upstream = f"127.0.0.1:{other.port}"
        ours = await stack.enter_async_context(dnspeers.isthmus(folder, rows, OTHERS, forward=upstream))
        await answering([other, ours])
        for _ in range(rounds):
            runs.append(await rate(ours, files["forwarded"], seconds))
            flood = asyncio.create_task(rate(ours, files["forwarded"], seconds))
            beside.append(await rate(ours, files["hit"], seconds, "-Q", str(PACE)))
            await flood
    return {
        "forward_rate": round(statistics.median(run.rate for run in runs)),
        "forward_rate_min": round(min(run.rate for run in runs)),
        "forward_rate_max": round(max(run.rate for run in runs)),
        "forward_micros": round(statistics.median(run.micros for run in runs), 1),
        "forward_lost_percent": round(100 * statistics.median(run.lost for run in runs), 3),
        "beside_forward_lost_percent": round(100 * statistics.median(run.lost for run in beside), 3),
    }


async def propagation(server: Server, samples: int) -> list[float]:
    """Milliseconds from a row's change in control to the worker's first answer with it."""
    assert server.rows is not None
    found = []
    query = dnspeers.query(dnspeers.name(7, "many"))
    for version in range(1, samples + 1):
        row, wanted = dnspeers.moved_row(7, version)
        began = time.perf_counter()
        server.rows.put(dnspeers.key(7, "many"), row)
        while wanted not in await ask(server, query):
            await asyncio.sleep(0)
        found.append(1e3 * (time.perf_counter() - began))
        await asyncio.sleep(0.01)
    return found


async def changing(server: Server, file: Path, rounds: int, seconds: float) -> dict[str, list[float]]:
    """The share of queries lost at a fixed pace, with and without changes, in turns."""
    assert server.rows is not None
    found: dict[str, list[float]] = {"calm": [], "changing": []}

    async def change() -> None:
        assert server.rows is not None
        for version in range(1, 1 << 16):
            number = version % MANY
            row = dnspeers.drawn_row(number, version=version, kind="many")
            server.rows.put(dnspeers.key(number, "many"), row)
            await asyncio.sleep(1 / CHANGES)

    for _ in range(rounds):
        for mode in found:
            task = asyncio.create_task(change()) if mode == "changing" else None
            run = await rate(server, file, seconds, "-Q", str(2 * PACE))
            found[mode].append(run.lost)
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    return found


async def at_scale(folder: Path, rounds: int, seconds: float) -> dict[str, float]:
    """Memory, propagation and loss with 10,000 services of 20 endpoints each."""
    file = folder / "hit.txt"
    found: dict[str, float] = {}
    for headless in (False, True):
        rows = {
            dnspeers.key(i, "many"): dnspeers.drawn_row(i, headless=headless, kind="many")
            for i in range(MANY)
        }
        rows |= {dnspeers.key(i): dnspeers.fixed_row(i) for i in range(SERVICES)}
        title = "headless" if headless else "many"
        async with dnspeers.isthmus(folder, rows, title) as server:
            await answering([server])
            found[f"memory_{title}_mb"] = round(server.memory, 1)
            found[f"rows_{title}_mb"] = round(sum(map(len, rows.values())) / 1e6, 1)
            if headless:
                continue
            taken = sorted(await propagation(server, 200))
            found["propagation_ms_p50"] = round(taken[100], 2)
            found["propagation_ms_p99"] = round(taken[198], 2)
            lost = await changing(server, file, rounds, seconds)
            for mode, shares in lost.items():
                found[f"lost_{mode}_percent"] = round(100 * statistics.median(shares), 3)
    return found


def ratio(found: Rates, kind: str, peer: str, part: str) -> float:
    """Our median to theirs; of processor time theirs to ours: more is better in both."""
    mine, theirs = (
        statistics.median(getattr(run, part) for run in found[server][kind]) for server in ("isthmus", peer)
    )
    return round(mine / theirs if part == "rate" else theirs / mine, 2)


def tell(found: Rates, waits: Waits) -> None:
    table = Table(
        "server", "questions", "1,000/s", "min", "max", "CPU µs each", "lost %", title="DNS over UDP"
    )
    for server, kinds in sorted(found.items()):
        for kind, runs in kinds.items():
            rates = [run.rate / 1000 for run in runs]
            table.add_row(
                server,
                kind,
                f"{statistics.median(rates):.1f}",
                f"{min(rates):.1f}",
                f"{max(rates):.1f}",
                f"{statistics.median(run.micros for run in runs):.2f}",
                f"{100 * statistics.median(run.lost for run in runs):.2f}",
            )
    console.print(table)
    table = Table("server", "p50 µs", "p99 µs", "min p99", "max p99", title=f"{PACE:,} queries a second")
    for server, pairs in sorted(waits.items()):
        nines = [high for _, high in pairs]
        middle = statistics.median(low for low, _ in pairs)
        table.add_row(
            server,
            f"{middle:.0f}",
            f"{statistics.median(nines):.0f}",
            f"{min(nines):.0f}",
            f"{max(nines):.0f}",
        )
    console.print(table)


async def measure(rounds: int, seconds: float) -> tuple[dict[str, float], bool]:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # servers do not outlive us
    with tempfile.TemporaryDirectory(prefix="isthmus-dns-") as temporary:
        folder = Path(temporary)
        found, waits = await compare(folder, rounds, seconds)
        tell(found, waits)
        figures: dict[str, float] = {}
        for short, peer in (("gdnsd", "gdnsd"), ("coredns", "coredns hosts"), ("dnslib", "asyncio + dnslib")):
            for kind in ("hit", "miss"):
                figures[f"x_{short}_{kind}"] = ratio(found, kind, peer, "rate")
                figures[f"cpu_x_{short}_{kind}"] = ratio(found, kind, peer, "micros")
        for kind, runs in found["isthmus"].items():
            figures[f"rate_{kind}"] = round(statistics.median(run.rate for run in runs))
            figures[f"micros_{kind}"] = round(statistics.median(run.micros for run in runs), 2)
        mine, theirs = (statistics.median(high for _, high in waits[name]) for name in ("isthmus", "gdnsd"))
        figures["p99_x_gdnsd"] = round(mine / theirs, 2)
        figures |= await forwarding(folder, rounds, seconds)
        figures |= await at_scale(folder, rounds, seconds)
    scale = Table("figure", "value", title=f"{MANY:,} services of {dnspeers.ENDPOINTS} endpoints")
    for title, value in figures.items():
        if title.startswith(("memory", "rows", "propagation", "lost", "forward", "beside")):
            scale.add_row(title, f"{value:g}")
    console.print(scale)
    passed = all(
        figures[f"{target}_{kind}"] >= TARGETS[target]
        for target in ("x_gdnsd", "x_coredns", "x_dnslib")
        for kind in ("hit", "miss")
    )
    passed &= figures["p99_x_gdnsd"] <= TARGETS["p99_x_gdnsd"]
    passed &= figures["propagation_ms_p99"] <= TARGETS["propagation_ms_p99"]
    passed &= figures["lost_changing_percent"] <= figures["lost_calm_percent"] + 0.01
    passed &= figures["forward_micros"] <= TARGETS["forward_micros"]
    passed &= figures["forward_lost_percent"] <= TARGETS["forward_lost_percent"]
    memory = max(figures[f"memory_{t}_mb"] + figures[f"rows_{t}_mb"] for t in ("many", "headless"))
    return figures, passed and memory <= TARGETS["memory_mb"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run of dnsperf")
    options = parser.parse_args()
    if absent := dnspeers.missing():
        sys.stderr.write("".join(f"missing: {one}\n" for one in absent))
        return 3
    console.print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    figures, passed = asyncio.run(measure(options.rounds, options.seconds))
    console.print(f"load of the machine after: {os.getloadavg()[0]:.1f}")
    report = {
        "bench": "dns",
        "figures": figures,
        "rounds": options.rounds,
        "targets": TARGETS,
        "passed": passed,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
