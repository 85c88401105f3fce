"""What agents tell of themselves, in numbers and in their logs: evidence that a fault reached them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from isthmus.demo.httpcall import fetch
from isthmus.demo.stage import Stage
from isthmus.demo.world import CONSOLE_PORT, Member


async def told(members: Iterable[Member], metric: str, **labels: str) -> float:
    """The sum of a metric's series with these labels over the agents; one that does not answer tells 0."""
    total = 0.0
    for member in members:
        try:
            answer = await fetch(member.agent, CONSOLE_PORT, "/metrics")
        except OSError:
            continue
        total += summed(answer.body.decode(), metric, **labels)
    return total


def summed(text: str, metric: str, **labels: str) -> float:
    """The same of one page of metrics."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


def logged(stage: Stage, members: Iterable[Member], event: str) -> int:
    """How often these agents have logged an event so far."""
    logs = (stage.folder / f"agent-{member.name}.log" for member in members)
    return sum(log.read_text(errors="replace").count(event) for log in logs)
