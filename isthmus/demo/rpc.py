"""The gRPC server behind the pods of one cluster: the standard health service, which says SERVING.

Like their HTTP answers, those of gRPC name the cluster in the header `x-cluster`.
"""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    def __init__(self, cluster: str) -> None:
        super().__init__()
        self._cluster = cluster

    async def Check(self, request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("x-cluster", self._cluster),))
        return await super().Check(request, context)


async def serve(path: str, cluster: str) -> grpc.aio.Server:
    """Serves at an abstract Unix socket (`path` begins with a zero byte) until it is stopped."""
    servicer = _Health(cluster)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix-abstract:{path[1:]}")
    await server.start()
    return server
