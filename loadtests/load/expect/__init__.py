"""What a scenario must show: a module for each kind of question. Importing this registers them all."""

from loadtests.load.expect import between, failures, leaks, levels, movement
from loadtests.load.expect.expectation import (
    EXPECTATIONS,
    Expectation,
    Finding,
    Seen,
    judge,
    missed_times_only,
)

__all__ = [
    "EXPECTATIONS",
    "Expectation",
    "Finding",
    "Seen",
    "between",
    "failures",
    "judge",
    "leaks",
    "levels",
    "missed_times_only",
    "movement",
]
