"""Isthmus schedules service traffic across Kubernetes clusters.

One plan per service port and vantage is computed by a pure function and drawn by every door: Envoy and
proxyless gRPC over xDS, multi-cluster DNS, the kernel, and kube-proxy through derived Services.
"""

__version__ = "0.1.0"
