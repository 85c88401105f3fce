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
        self.withheld = Counter(
            "isthmus_probes_withheld_total",
            "Failures that would have made a target Down, had anything else answered meanwhile.",
            registry=registry,
        )
