"""The faults: a module for each kind. Importing this registers them all.

A new one is a class here, derived from `Fault`, decorated with `@fault("its-name")` and imported below.
"""

from loadtests.load.faults import (
    apiserver,
    clock,
    cluster,
    control,
    disk,
    drain,
    hub,
    memory,
    neighbour,
    partition,
    pods,
    rolling,
    slow,
    weights,
)
from loadtests.load.faults.fault import FAULTS, Fault

__all__ = [
    "FAULTS",
    "Fault",
    "apiserver",
    "clock",
    "cluster",
    "control",
    "disk",
    "drain",
    "hub",
    "memory",
    "neighbour",
    "partition",
    "pods",
    "rolling",
    "slow",
    "weights",
]
