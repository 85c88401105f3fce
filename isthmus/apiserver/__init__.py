"""An embedded Kubernetes API server: several clusters in one process, in memory, over real HTTP.

It serves the demo and the tests, and shares no code with `isthmus.kube`, so that the two cannot be wrong
together. What it promises is what kube-apiserver does for the same requests; the tests of this package are a
contract that can be run against either.
"""

from isthmus.apiserver.faults import Fault
from isthmus.apiserver.server import ApiServer, ClusterConfig, RunningCluster

__all__ = ["ApiServer", "ClusterConfig", "Fault", "RunningCluster"]
