"""What a change costs an xDS worker that serves a fleet, beside go-control-plane and the least of grpc-go.

Each stream has a TCP connection of its own, subscribes to all clusters and to the assignment of each, and
accepts everything, as an Envoy does. A flip is the health of one endpoint: processor time of the server until
it is quiet again (with the acknowledgements), and how long until the median and the 99th of a hundred streams
have it. A storm is 200 flips of different services, back to back. Server and fleet share the cores: ratios of
one run say something, absolute times say as much about the neighbours. The servers take turns row by row.
go-control-plane is its LinearCache; the floor sends ready bytes, and has no cache, no requests and no mTLS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "xds"))

from authority import Authority
from rich.console import Console
from rich.table import Table
from xdspeers import Process, build, servers

ENDPOINTS = 20
STORM = 200
SECONDS = 60
US, GCP, FLOOR = "isthmus", "go-control-plane", "grpc-go floor"
console = Console(width=150)


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the matrix; the order of the fields is that of the table."""

    services: int
    streams: int
    variant: str
    mtls: bool

    def __str__(self) -> str:
        return f"{self.services} x {self.streams} {self.variant}{' mTLS' if self.mtls else ''}"


@dataclass(slots=True)
class Run:
    """What one server did in one case, over all rounds."""

    cpu_us: list[float] = field(default_factory=list)
    """Of each flip, per stream."""
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    sync_cpu_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    storm_messages: list[float] = field(default_factory=list)


MATRIX = (
    *(Case(1000, streams, variant, False) for streams in (100, 1000, 2000) for variant in ("sotw", "delta")),
    *(Case(20, 1000, variant, False) for variant in ("sotw", "delta")),
    *(Case(services, 1000, variant, True) for services in (20, 1000) for variant in ("sotw", "delta")),
)
TARGETS = {
    # against go-control-plane, and of the processor time against the floor: many services, few services
    "cpu_x_gcp": (1 / 8, 1.5),
    "cpu_x_floor": (5.0, 5.0),
    "p99_x_gcp": (1 / 3, 1.5),
    "rss_x_gcp": (1 / 3, 1.0),
    "sync_cpu_x_gcp": (1 / 2, 3.0),
    "storm_messages": (50.0, 50.0),
}


def measure(command: list[str], fleet: str, case: Case, flips: int, files: dict[str, str], run: Run) -> None:
    more = ["-tls", files["server"]] if case.mtls else []
    arguments = ["-services", str(case.services), "-endpoints", str(ENDPOINTS), *more]
    with Process([*command, *arguments]) as server:
        address = server.read()["addr"]
        base = server.quiet()["cpu_s"]
        asked = ["-addr", address, "-streams", str(case.streams), "-services", str(case.services)]
        asked += ["-delta"] if case.variant == "delta" else []
        asked += ["-tls", files["client"]] if case.mtls else []
        with Process([fleet, *asked]) as clients:
            clients.ask("start")
            now = server.quiet()
            run.sync_cpu_s.append(now["cpu_s"] - base)
            run.rss_mb.append(now["rss_mb"])
            for number in range(flips + 1):
                clients.ask(f"arm svc-{number:04d}")
                before, began = server.quiet()["cpu_s"], time.time_ns()
                server.ask(f"flip {number}")
                got = clients.ask(f"wait {began} {SECONDS}")
                if got["received"] != case.streams:
                    text = f"{case}: {got['received']} of {case.streams} streams got flip {number}"
                    raise RuntimeError(f"{text}; {clients.complaints()}; {server.complaints()}")
                if number:  # the first one warms up
                    run.cpu_us.append(1e6 * (server.quiet()["cpu_s"] - before) / case.streams)
                    run.p50_ms.append(got["p50_ms"])
                    run.p99_ms.append(got["p99_ms"])
            if case.services > STORM and case.streams <= 1000:
                clients.ask(f"arm svc-{case.services - 1:04d}")
                began = time.time_ns()
                for number in range(case.services - STORM, case.services):
                    server.ask(f"flip {number}")
                got = clients.ask(f"wait {began} {SECONDS}")
                server.quiet()
                run.storm_messages.append(clients.ask("wait 0 0")["messages"] / case.streams)


def figures(case: Case, runs: dict[str, Run]) -> dict[str, float]:
    """Ratios of medians."""

    def ratio(what: str, other: str) -> float | None:
        if other not in runs or not getattr(runs[other], what):
            return None
        ours, theirs = (statistics.median(getattr(runs[name], what)) for name in (US, other))
        return float(ours / theirs)

    found = {
        "cpu_x_gcp": ratio("cpu_us", GCP),
        "cpu_x_floor": ratio("cpu_us", FLOOR),
        "p99_x_gcp": ratio("p99_ms", GCP),
        "rss_x_gcp": ratio("rss_mb", GCP),
        "sync_cpu_x_gcp": ratio("sync_cpu_s", GCP),
        "storm_messages": statistics.median(runs[US].storm_messages) if runs[US].storm_messages else None,
    }
    return {name: round(value, 3) for name, value in found.items() if value is not None}


def spread(values: list[float], digits: int = 0) -> str:
    if not values:
        return "-"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def show(results: dict[Case, dict[str, Run]]) -> None:
    heads = ("services", "streams", "variant", "mTLS", "server", "CPU us/stream/flip", "p50 ms", "p99 ms")
    table = Table(*heads, "sync CPU s", "RSS MB", "storm messages")
    for case, runs in results.items():
        for name, run in runs.items():
            cells = (spread(run.cpu_us), spread(run.p50_ms, 1), spread(run.p99_ms, 1))
            more = (spread(run.sync_cpu_s, 2), spread(run.rss_mb), spread(run.storm_messages))
            where = (str(case.services), str(case.streams), case.variant, "yes" if case.mtls else "no")
            table.add_row(*where, name, *cells, *more)
    console.print(table)


def certificates(folder: Path) -> dict[str, str]:
    authority, found = Authority(folder), {}
    for side, names in (("server", ("localhost",)), ("client", ("*.bench",))):
        files = authority.files(side, authority.sign(names=names))
        found[side] = f"{files.certificate},{files.key},{files.authorities}"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--flips", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose text holds this, e.g. '20 x' or mTLS")
    parser.add_argument("--small", action="store_true", help="a tenth of the streams: does it work?")
    args = parser.parse_args()
    programs = build()
    results: dict[Case, dict[str, Run]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = certificates(Path(folder))
        for _ in range(args.rounds):
            for case in MATRIX:
                if args.only not in str(case):
                    continue
                size = max(10, case.streams // 10) if args.small else case.streams
                real = Case(case.services, size, case.variant, case.mtls)
                for name, command in servers(programs).items():
                    if name == FLOOR and case.mtls:
                        continue
                    run = results.setdefault(real, {}).setdefault(name, Run())
                    measure(command, str(programs / "fleet"), real, args.flips, files, run)
                console.print(f"{real}: {figures(real, results[real])}")
    show(results)
    found = {str(case): figures(case, runs) for case, runs in results.items()}
    missed = [
        f"{case}: {name} {found[str(case)][name]} > {round(limits[case.services < 100], 3)}"
        for case in results
        for name, limits in TARGETS.items()
        if name in found[str(case)] and found[str(case)][name] > limits[case.services < 100]
    ]
    for text in missed:
        console.print(f"missed: {text}")
    targets = {name: list(limits) for name, limits in TARGETS.items()}
    report = {"bench": "xds", "figures": found, "targets": targets, "passed": not missed}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if not missed else 1


if __name__ == "__main__":
    sys.exit(main())
