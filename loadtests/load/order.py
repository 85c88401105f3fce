"""What the process outside the namespaces asks of the one inside, which plays one scenario and ends."""

from __future__ import annotations

import msgspec

EXIT_PASSED, EXIT_FAILED, EXIT_WRONG_USE, EXIT_CANNOT, EXIT_STOPPED = 0, 1, 2, 3, 130


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Paths are absolute; the result goes to `out` as JSON."""

    scenario: str
    envoy: str
    folder: str
    out: str
    command: str
