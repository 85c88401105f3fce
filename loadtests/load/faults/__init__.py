"""The faults: a module for each kind. Importing this registers them all.

A new one is a class here, derived from `Fault`, decorated with `@fault("its-name")` and imported below.
"""

from loadtests.load.faults import cluster, control, drain, hub, pods, rolling, weights
from loadtests.load.faults.fault import FAULTS, Fault

__all__ = ["FAULTS", "Fault", "cluster", "control", "drain", "hub", "pods", "rolling", "weights"]
