"""Rendering for stock Envoy: model values in, serialised v3 resources out. Pure and deterministic."""

from isthmus.xds.envoy.captured import captured_listener, filter_chain
from isthmus.xds.envoy.clusters import cluster
from isthmus.xds.envoy.endpoints import load_assignment
from isthmus.xds.envoy.listeners import listener
from isthmus.xds.envoy.routes import captured_routes, route_configuration, virtual_host

__all__ = [
    "captured_listener",
    "captured_routes",
    "cluster",
    "filter_chain",
    "listener",
    "load_assignment",
    "route_configuration",
    "virtual_host",
]
