"""How often streams may be opened: by one node from one address, and by all."""

from __future__ import annotations

import pytest

from isthmus.xds.admission import Admission, Rate
from isthmus.xds.refusal import TooOften


def test_a_fleet_comes_in_and_a_loop_does_not() -> None:
    now = 0.0
    admission = Admission(Rate(burst=3, per_second=1), Rate(burst=100, per_second=10), lambda: now)
    for number in range(90):
        admission.admit(f"node-{number}", "10.0.0.1")
    for _ in range(2):
        admission.admit("node-1", "10.0.0.1")
    with pytest.raises(TooOften, match="node-1"):
        admission.admit("node-1", "10.0.0.1")
    admission.admit("node-1", "10.0.0.2")
    for number in range(7):
        admission.admit(f"more-{number}", "10.0.0.1")
    with pytest.raises(TooOften, match="too many"):
        admission.admit("one-more", "10.0.0.1")
    now = 5.0
    admission.admit("node-1", "10.0.0.1")
