"""The gRPC check: `grpc.health.v1.Health/Check` of the server as a whole answers SERVING.

One channel for each check, without TLS, as kubelet does it: what is tested is that new callers get through. A
server without the health service fails. Only this module of the room knows grpc, and it is loaded when the
first such check is due.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from isthmus.probes.outcome import PASSED, TIMEOUT, Outcome

_METHOD = "/grpc.health.v1.Health/Check"
_REQUEST = health_pb2.HealthCheckRequest().SerializeToString()
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # or a new channel would take over another's connection
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
)


async def check_grpc(address: str, port: int, timeout: float, name: str) -> Outcome:
    """Asks within `timeout` seconds; `name` is the :authority."""
    target = f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}"
    options = [*_OPTIONS, ("grpc.default_authority", name)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        check = channel.unary_unary(_METHOD)
        try:
            answer = await check(_REQUEST, timeout=timeout)
            status = health_pb2.HealthCheckResponse.FromString(answer).status
        except grpc.aio.AioRpcError as error:
            return _trouble(error)
        except ValueError:
            return Outcome(False, "not gRPC health")
    if status == health_pb2.HealthCheckResponse.SERVING:
        return PASSED
    return Outcome(False, f"gRPC {_status_name(status)}")


def _status_name(status: int) -> str:
    values = health_pb2.HealthCheckResponse.ServingStatus
    return str(values.Name(status)) if status in values.values() else str(status)


def _trouble(error: grpc.aio.AioRpcError) -> Outcome:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TIMEOUT
    if code is grpc.StatusCode.UNAVAILABLE and "Connection refused" in (error.details() or ""):
        return Outcome(False, "refused")
    return Outcome(False, f"gRPC {code.name}")
