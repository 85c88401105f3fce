"""The gRPC server behind the pods of one cluster: the standard health service, which says SERVING."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


async def serve(path: str) -> grpc.aio.Server:
    """Serves at an abstract Unix socket (`path` begins with a zero byte) until it is stopped."""
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix-abstract:{path[1:]}")
    await server.start()
    return server
