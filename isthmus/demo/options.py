"""What the user asks of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isthmus.errors import ConfigError

MAX_CLUSTERS = 60
MAX_RATE = 5_000.0
MAX_SAMPLES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """`manifests` and `policy` None: the shop of this project and its policies.

    `rate` is requests per second over all callers; `duration` seconds of load are shared out over the
    accidents, and waits for a return come on top. `interactive`: the user plays the accidents; `plain`: lines
    even where a terminal could show the view.
    """

    manifests: Path | None = None
    clusters: int = 3
    rate: float = 200.0
    duration: float = 45.0
    policy: Path | None = None
    keep: bool = False
    json: bool = False
    interactive: bool = False
    plain: bool = False
    envoy: Path | None = None
    export_all: bool = False
    lenient: bool = False


def check(options: DemoOptions) -> None:
    """Raise ConfigError for a number that the demo cannot work with."""
    if not 2 <= options.clusters <= MAX_CLUSTERS:
        raise ConfigError(f"--clusters {options.clusters}: 2 to {MAX_CLUSTERS} clusters can run here")
    if not 1 <= options.rate <= MAX_RATE:
        raise ConfigError(f"--rate {options.rate:g}: 1 to {MAX_RATE:g} requests per second")
    if not 30 <= options.duration <= 3_600:
        raise ConfigError(
            f"--duration {options.duration:g}: 30 to 3600 seconds (five accidents need their time)"
        )
    if options.duration * options.rate > MAX_SAMPLES:
        raise ConfigError(
            f"--rate {options.rate:g} for {options.duration:g} seconds: over {MAX_SAMPLES} requests"
        )
