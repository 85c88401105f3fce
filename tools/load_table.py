"""Prints reports of `make load` as docs/benchmarks.md has them: `tools/load_table.py build/load/*.json`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from loadtests.load.result import Result

DOORS = (
    ("GET", ("envoy-get",)),
    ("POST", ("envoy-post",)),
    ("gRPC", ("grpc",)),
    ("DNS", ("dns-udp", "dns-tcp")),
)
SPANS = (
    ("GET moved after", "moves", ("envoy-get",)),
    ("p99 of GETs back after", "settles", ("envoy-get",)),
    ("GET, gRPC reach it again after", "returns", ("envoy-get", "grpc")),
    ("last DNS caller led astray after", "stale", ("dns-udp", "dns-tcp")),
)


def failed(found: Result, doors: Iterable[str]) -> str:
    """`failed of calls` over these doors; nothing where none of them had calls."""
    rows = [door for door in found.doors if door.door in doors]
    return f"{sum(d.failed for d in rows):,} of {sum(d.calls for d in rows):,}" if rows else ""


def longest(found: Result, expectation: str, doors: Sequence[str]) -> str:
    """The longest time of each door, over all accidents."""
    told = []
    for door in doors:
        values = [f.value for f in found.findings if (f.expectation, f.door) == (expectation, door)]
        if values:
            told.append("never" if None in values else f"{max(v for v in values if v is not None):.1f} s")
    return ", ".join(told)


def main() -> int:
    if not sys.argv[1:]:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    found = [msgspec.json.decode(Path(name).read_bytes(), type=Result) for name in sys.argv[1:]]
    titles = ["scenario", *(title for title, _ in DOORS), *(title for title, *_ in SPANS)]
    lines = [titles, ["---"] * len(titles)]
    for one in found:
        name = f"`{one.scenario}`" + ("" if one.passed else " (**failed**)")
        lines.append(
            [
                name,
                *(failed(one, doors) for _, doors in DOORS),
                *(longest(one, what, of) for _, what, of in SPANS),
            ]
        )
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))
    calls = sum(door.calls for one in found for door in one.doors)
    loads = [one.surroundings.load_average for one in found]
    told = f"load average {min(loads):.1f} to {max(loads):.1f} before each"
    sys.stdout.write(f"\n{len(found)} scenarios, {calls:,} calls, {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
