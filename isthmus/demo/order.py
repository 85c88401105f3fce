"""What the process outside the namespaces asks of the one inside, and what that one's exit code says."""

from __future__ import annotations

import msgspec

from isthmus.demo.forward import Door

EXIT_PASSED, EXIT_FAILED, EXIT_WRONG_USE, EXIT_CANNOT, EXIT_STOPPED = 0, 1, 2, 3, 130


class Order(msgspec.Struct, frozen=True):
    """What the outer process asks for; paths are absolute."""

    manifests: str
    policy: str
    clusters: int
    rate: float
    duration: float
    keep: bool
    json: bool
    view: bool
    interactive: bool
    envoy: str
    export_all: bool
    lenient: bool
    folder: str
    began: float
    doors: list[Door]
