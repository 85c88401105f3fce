"""What the border answers when an object cannot become a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An object that was not accepted; a condition and a metric, never an exception.

    `reason` is CamelCase (legal as the reason of a Kubernetes condition), `message` names the field and what
    to do.
    """

    reason: str
    message: str
