"""What the border answers when an object cannot become a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from isthmus.model.names import ClusterId


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An object that was not accepted; a condition and a metric, never an exception.

    `reason` is CamelCase (legal as the reason of a Kubernetes condition), `message` names the field and what
    to do. `count` is of how many things of one object it speaks; the message is that of the first.
    """

    reason: str
    message: str
    count: int = 1


class RefusedOffer(NamedTuple):
    """What was refused of one cluster's offer under a service, for people.

    `what` is `services` (its whole export), `chunks` (whole objects of endpoints) or `endpoints`.
    """

    cluster: ClusterId
    what: str
    refused: Refused
