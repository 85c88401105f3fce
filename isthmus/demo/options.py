"""What the user asks of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import ConfigError

MAX_CLUSTERS = 60
MAX_RATE = 5_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`manifests` and `policy` None: the shop of this project and its policies. `rate` in requests per second
    over all callers. `duration`: seconds that each accident lasts, None: as long as each needs to be seen."""

    manifests: Path | None = None
    clusters: int = 3
    rate: float = 200.0
    duration: float | None = None
    policy: Path | None = None
    keep: bool = False
    json: bool = False
    envoy: Path | None = None
    export_all: bool = False
    lenient: bool = False


def check(options: DemoOptions) -> None:
    """Raise ConfigError for a number that the demo cannot work with."""
    if not 2 <= options.clusters <= MAX_CLUSTERS:
        raise ConfigError(f"--clusters {options.clusters}: 2 to {MAX_CLUSTERS} clusters can run here")
    if not 1 <= options.rate <= MAX_RATE:
        raise ConfigError(f"--rate {options.rate:g}: 1 to {MAX_RATE:g} requests per second")
    if options.duration is not None and not 3 <= options.duration <= 3_600:
        raise ConfigError(f"--duration {options.duration:g}: 3 to 3600 seconds for each accident")
