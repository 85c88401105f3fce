"""A proxy's access log: one JSON object a request on standard output, with the cluster and tier that served.

Paths are logged without their query: what callers put there is none of a log's business.
"""

from __future__ import annotations

from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.stream.v3 import stream_pb2

from isthmus.xds.assignment import LABELS
from isthmus.xds.envoy.extension import packed

_PLACE = f"xds.upstream_host_locality_metadata.filter_metadata['{LABELS}']"
_ALWAYS = {
    "time": "%START_TIME%",
    "service": "%UPSTREAM_CLUSTER_RAW%",
    "cluster": f"%CEL({_PLACE}['cluster'])%",
    "tier": f"%CEL({_PLACE}['tier'])%",
    "endpoint": "%UPSTREAM_HOST%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "bytes_sent": "%BYTES_SENT%",
    "bytes_received": "%BYTES_RECEIVED%",
    "caller": "%DOWNSTREAM_REMOTE_ADDRESS%",
}
_OF_REQUESTS = {
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
}


def access_log(*, http: bool) -> accesslog_pb2.AccessLog:
    """The log of requests, or of connections where the proxy does not look into them."""
    found = stream_pb2.StdoutAccessLog()
    fields: dict[str, Any] = {**_ALWAYS, **_OF_REQUESTS} if http else _ALWAYS
    found.log_format.json_format.update(fields)
    return accesslog_pb2.AccessLog(name="envoy.access_loggers.stdout", typed_config=packed(found))
