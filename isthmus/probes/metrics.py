"""What the prober counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Counters of one prober, all there from the start with the value 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        checks = Counter("isthmus_probes_checks_total", "Checks by result.", ["result"], registry=registry)
        changes = Counter(
            "isthmus_probes_changes_total",
            "Verdicts that changed, by verdict.",
            ["verdict"],
            registry=registry,
        )
        self.passed = checks.labels("passed")
        self.failed = checks.labels("failed")
        self.void = checks.labels("void")
        """Checks that say nothing about their target: no file descriptors, a late loop."""
        self.to_up = changes.labels("up")
        self.to_down = changes.labels("down")
        self.targets = Gauge(
            "isthmus_probes_targets", "Endpoints' ports that are checked.", registry=registry
        )
        self.down = Gauge("isthmus_probes_targets_down", "Targets that are Down.", registry=registry)
        self.unchecked = Gauge(
            "isthmus_probes_targets_unchecked",
            "Targets beyond the limit; they count as Up.",
            registry=registry,
        )
        self.canary_interval = Gauge(
            "isthmus_probes_canary_interval_seconds",
            "Longest time between two checks of a canary while nothing fails.",
            registry=registry,
        )
        self.waiting = Gauge(
            "isthmus_probes_checks_waiting", "Checks that are due and wait for their turn.", registry=registry
        )
        delayed = Counter(
            "isthmus_probes_delayed_total",
            "Checks that came later than due, by the limit that was reached.",
            ["limit"],
            registry=registry,
        )
        self.delayed_by_agent = delayed.labels("agent")
        self.delayed_by_host = delayed.labels("host")
        self.withheld = Counter(
            "isthmus_probes_withheld_total",
            "Failures that would have made a target Down, had anything else answered meanwhile.",
            registry=registry,
        )
