"""A naive controller: the Kubernetes client's watch, and everything built anew for each change.

`naive.py KUBECONFIG` watches the ExportedEndpoints of all clusters on the hub, and after every change builds
the endpoints of every service as Envoy takes them (one ClusterLoadAssignment each, serialized). What has come
meanwhile is taken together. Lines on stdout: `ready SERVICES SECONDS`, then after each build the services
that had changed, as JSON.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from typing import Any

from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from kubernetes import client, config, watch

GROUP, VERSION, PLURAL = "hub.isthmus.dev", "v1alpha1", "exportedendpoints"


def main(kubeconfig: str) -> None:
    config.load_kube_config(kubeconfig, context="hub")
    api = client.CustomObjectsApi()
    listed = api.list_cluster_custom_object(GROUP, VERSION, PLURAL)
    objects = {_key(obj): obj for obj in listed["items"]}
    began = time.monotonic()
    built = build(objects)
    _say(f"ready {len(built)} {time.monotonic() - began:.3f}")
    events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    version = listed["metadata"]["resourceVersion"]
    threading.Thread(target=_follow, args=(api, version, events), daemon=True).start()
    while True:
        waiting = [events.get()]
        while not events.empty():
            waiting.append(events.get())
        for event in waiting:
            obj = event["object"]
            if event["type"] == "DELETED":
                objects.pop(_key(obj), None)
            else:
                objects[_key(obj)] = obj
        build(objects)
        _say(json.dumps(sorted({_service(event["object"]) for event in waiting})))


def build(objects: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    """What a proxy gets, by service."""
    found: dict[str, endpoint_pb2.ClusterLoadAssignment] = {}
    for obj in objects.values():
        service, spec = _service(obj), obj["spec"]
        assignment = found.get(service)
        if assignment is None:
            assignment = found[service] = endpoint_pb2.ClusterLoadAssignment(cluster_name=service)
        locality: endpoint_components_pb2.LocalityLbEndpoints = assignment.endpoints.add()
        locality.locality.region = spec["cluster"]
        locality.load_balancing_weight.value = 1
        port = spec["ports"][0]["port"]
        for one in spec["endpoints"]:
            if one["ready"]:
                address = locality.lb_endpoints.add().endpoint.address.socket_address
                address.address, address.port_value = one["addresses"][0], port
    return {service: assignment.SerializeToString() for service, assignment in found.items()}


def _follow(api: client.CustomObjectsApi, version: str, events: queue.SimpleQueue[dict[str, Any]]) -> None:
    stream = watch.Watch().stream(
        api.list_cluster_custom_object, GROUP, VERSION, PLURAL, resource_version=version
    )
    for event in stream:
        events.put(event)


def _key(obj: dict[str, Any]) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _service(obj: dict[str, Any]) -> str:
    service = obj["spec"]["service"]
    return f"{service['namespace']}/{service['name']}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
