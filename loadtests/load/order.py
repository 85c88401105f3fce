"""What the process outside the namespaces asks of the one inside, which plays one scenario and ends."""

from __future__ import annotations

import msgspec

from isthmus.demo.order import EXIT_CANNOT, EXIT_FAILED, EXIT_PASSED, EXIT_STOPPED, EXIT_WRONG_USE

__all__ = ["EXIT_CANNOT", "EXIT_FAILED", "EXIT_PASSED", "EXIT_STOPPED", "EXIT_WRONG_USE", "Order"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Paths are absolute; the result goes to `out` as JSON."""

    scenario: str
    envoy: str
    folder: str
    out: str
    command: str
    clusters: str = ""
    """The file of clusters to play on; "": the demo's bed."""
