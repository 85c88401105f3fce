"""The assignment as Envoy gets it: labelled for its access log, with what drains for old sessions."""

from __future__ import annotations

from collections.abc import Sequence

from isthmus.model.plan import Plan
from isthmus.model.service import AddressFamily
from isthmus.xds.assignment import IPV4_FIRST, assignment


def load_assignment(plan: Plan, families: Sequence[AddressFamily] = IPV4_FIRST) -> bytes:
    """The serialised assignment of a service port; see `assignment`, also for what it raises."""
    return assignment(plan, families, draining=plan.doors.affinity is not None, tiers=True)
