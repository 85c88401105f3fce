"""Rendering for gRPC libraries without a proxy: model values in, serialised v3 resources out. Pure.

Written by the letter of the gRFCs that all libraries follow (A27, A28, A31, A42, A44): they reject what Envoy
takes, such as gaps between priorities, and skip what they miss something in, such as localities without a
weight. What they cannot express is left out here: ejection after failures in a row, cookies, hedging, and
methods, of which they do not know which may be repeated.
"""

from isthmus.xds.grpc.clusters import cluster, load_assignment
from isthmus.xds.grpc.routes import listener, names, route_configuration

__all__ = ["cluster", "listener", "load_assignment", "names", "route_configuration"]
