"""What callers call on given clusters: three services whose pods are Envoys that answer by themselves.

Envoy, because its image can be had everywhere, speaks HTTP and gRPC, and takes no time that could be mistaken
for ours. Every answer says which cluster it came from.
"""

from __future__ import annotations

import json
import math
from typing import Any

from isthmus.api import kinds, meta
from isthmus.api.meta import Kind

NAMESPACE = "isthmus-load"
MADE = "loadtests.isthmus.dev/made"
"""The label of a namespace that is ours to delete."""
SIZES = {"front": 2, "cart": 2, "checkout": 3}
"""Pods by service, in every cluster."""
HTTP_PORT, GRPC_PORT = 8080, 7070
CONFIG = "answers"
_PORTS: dict[str, dict[str, Any]] = {
    "front": {"name": "http", "port": 80, "targetPort": HTTP_PORT, "appProtocol": "http"},
    "cart": {"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT, "appProtocol": "grpc"},
    "checkout": {"name": "http-api", "port": HTTP_PORT, "targetPort": HTTP_PORT, "appProtocol": "http"},
}
_INNER_PORT, _INNER_KIND = 8081, "application/x-protobuf"
_TYPES = "type.googleapis.com/envoy.extensions."
_SERVING = "CAE="
"""grpc.health.v1.HealthCheckResponse with status SERVING, in base64."""

NAMESPACES = kinds.NAMESPACE
SERVICES = kinds.SERVICE
EXPORTS = kinds.SERVICE_EXPORT
PODS = kinds.POD
CONFIG_MAPS: Kind[meta.Object] = Kind("", "v1", "ConfigMap", "configmaps", True, meta.Object)
DEPLOYMENTS: Kind[meta.Object] = Kind("apps", "v1", "Deployment", "deployments", True, meta.Object)


def objects(cluster: str, image: str, grace: float) -> list[tuple[Kind[Any], dict[str, Any]]]:
    """All objects of one cluster, in the order in which they are applied.

    A pod that is to go serves `grace` seconds longer.
    """
    found: list[tuple[Kind[Any], dict[str, Any]]] = [
        (CONFIG_MAPS, {"metadata": _metadata(CONFIG), "data": {"envoy.json": json.dumps(_envoy(cluster))}})
    ]
    for name in SIZES:
        spec = {"selector": {"app": name}, "ports": [_PORTS[name]]}
        found += [
            (DEPLOYMENTS, {"metadata": _metadata(name), "spec": _deployment(name, image, grace)}),
            (SERVICES, {"metadata": _metadata(name), "spec": spec}),
            (EXPORTS, {"metadata": _metadata(name)}),
        ]
    return [(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **body}) for kind, body in found]


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE}


def _deployment(name: str, image: str, grace: float) -> dict[str, Any]:
    seconds = math.ceil(grace)
    container = {
        "name": "answers",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy"],
        "args": ["-c", "/etc/answers/envoy.json", "--concurrency", "1", "--disable-hot-restart"],
        "volumeMounts": [{"name": CONFIG, "mountPath": "/etc/answers", "readOnly": True}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": HTTP_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 30,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": seconds}}},
    }
    return {
        "replicas": SIZES[name],
        "selector": {"matchLabels": {"app": name}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": seconds + 5,
                "containers": [container],
                "volumes": [{"name": CONFIG, "configMap": {"name": CONFIG}}],
            },
        },
    }


def _envoy(cluster: str) -> dict[str, Any]:
    """The pods' configuration: gRPC gets an inner answer, which has no frames of its own, in frames."""
    bridge = {
        "name": "bridge",
        "typed_config": {
            "@type": f"{_TYPES}filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
            "content_type": _INNER_KIND,
            "withhold_grpc_frames": True,
        },
    }
    inner = {
        "name": "inner",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "inner",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address("127.0.0.1", _INNER_PORT)}}]}],
        },
    }
    serving = {"status": 200, "body": {"inline_bytes": _SERVING}}
    ok = {"status": 200, "body": {"inline_string": "ok\n"}}
    return {
        "static_resources": {
            "listeners": [
                _listener("0.0.0.0", HTTP_PORT, {"direct_response": ok}, cluster),
                _listener("0.0.0.0", GRPC_PORT, {"route": {"cluster": "inner"}}, "", bridge),
                _listener(
                    "127.0.0.1",
                    _INNER_PORT,
                    {"direct_response": serving},
                    cluster,
                    kind="application/x-protobuf",
                ),
            ],
            "clusters": [inner],
        }
    }


def _listener(
    host: str, port: int, action: dict[str, Any], cluster: str, *filters: dict[str, Any], kind: str = ""
) -> dict[str, Any]:
    headers = {"x-cluster": cluster, "content-type": kind}
    added = [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in headers.items()
        if value
    ]
    router = {"name": "router", "typed_config": {"@type": f"{_TYPES}filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{_TYPES}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"port-{port}",
        "http_filters": [*filters, router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, **action, "response_headers_to_add": added}],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": f"port-{port}", "address": _address(host, port), "filter_chains": [chain]}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
