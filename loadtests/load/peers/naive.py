"""A controller as people write their first one: `python -m loadtests.load.peers.naive ...`.

It watches the EndpointSlices of a namespace in every cluster with the Kubernetes client and its typed models,
and after each change builds all that its Envoy needs anew: listener, routes, a cluster and its endpoints for
every service. Envoy reads the files. What the API servers call ready is used; nobody is asked whether it is.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

TYPES = "type.googleapis.com/envoy"
AGAIN_SECONDS = 1.0
SERVICE_NAME = "kubernetes.io/service-name"
OF_SERVICES = "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io"
"""Those of the cluster's own Services, not those that Isthmus derives beside it."""
KINDS = {
    "lds": "config.listener.v3.Listener",
    "cds": "config.cluster.v3.Cluster",
    "eds": "config.endpoint.v3.ClusterLoadAssignment",
}
RETRIES = {
    "retry_on": "5xx,reset,connect-failure,refused-stream",
    "num_retries": 2,
    "per_try_timeout": "1s",
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": f"{TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 5,
}
Slices = dict[str, list[Any]]
"""The EndpointSlices of each cluster, as models of the client."""


def resources(slices: Slices, folder: Path, listen: tuple[str, int]) -> dict[str, list[dict[str, Any]]]:
    """All resources of the Envoy, by the name of their discovery service."""
    endpoints: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for place, found in slices.items():
        for slice_ in found:
            host = f"{slice_.metadata.labels[SERVICE_NAME]}.{slice_.metadata.namespace}.svc.clusterset.local"
            usable = [e for e in slice_.endpoints or () if e.conditions.ready is not False]
            port = slice_.ports[0].port
            members = endpoints.setdefault(host, {}).setdefault(place, [])
            members += [{"endpoint": {"address": _address(e.addresses[0], port)}} for e in usable]
    hosts = [
        {
            "name": host,
            "domains": [host],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": host, "retry_policy": RETRIES}}],
        }
        for host in endpoints
    ]
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "naive",
        "route_config": {"name": "all", "virtual_hosts": hosts, "ignore_port_in_host_matching": True},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    eds = {"eds_config": {"path_config_source": {"path": str(folder / "eds.json")}}}
    return {
        "eds": [
            {
                "cluster_name": host,
                "endpoints": [
                    {"locality": {"region": place}, "lb_endpoints": members}
                    for place, members in sorted(places.items())
                ],
            }
            for host, places in endpoints.items()
        ],
        "cds": [
            {"name": host, "type": "EDS", "connect_timeout": "0.25s", "eds_cluster_config": eds}
            for host in endpoints
        ],
        "lds": [{"name": "all", "address": _address(*listen), "filter_chains": [chain]}],
    }


def write(built: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Each file in one step; endpoints first, so that clusters find theirs."""
    for name, found in built.items():
        body = {"resources": [{"@type": f"{TYPES}.{KINDS[name]}", **one} for one in found]}
        new = folder / f"{name}.new"
        new.write_text(json.dumps(body))
        new.rename(folder / f"{name}.json")


def follow(kubeconfig: str, cluster: str, namespace: str, events: queue.SimpleQueue[Any]) -> None:
    """Tell all slices of a cluster whenever one has changed; what goes wrong is tried again."""
    api = client.DiscoveryV1Api(config.new_client_from_config(kubeconfig, context=cluster))
    while True:
        try:
            listed = api.list_namespaced_endpoint_slice(namespace, label_selector=OF_SERVICES)
            known = {one.metadata.name: one for one in listed.items}
            events.put((cluster, list(known.values())))
            version = listed.metadata.resource_version
            stream = watch.Watch().stream(
                api.list_namespaced_endpoint_slice,
                namespace,
                label_selector=OF_SERVICES,
                resource_version=version,
            )
            for event in stream:
                known[event["object"].metadata.name] = event["object"]
                if event["type"] == "DELETED":
                    del known[event["object"].metadata.name]
                events.put((cluster, list(known.values())))
        except Exception as error:  # noqa: BLE001 (whatever the client raises: what is known stays in force)
            sys.stderr.write(f"{cluster}: {error}\n")
        time.sleep(AGAIN_SECONDS)


def main(
    clusters: Iterable[str], kubeconfig: str, namespace: str, folder: Path, listen: tuple[str, int]
) -> None:
    events: queue.SimpleQueue[tuple[str, list[Any]]] = queue.SimpleQueue()
    slices: Slices = {}
    for cluster in clusters:
        arguments = (kubeconfig, cluster, namespace, events)
        threading.Thread(target=follow, args=arguments, daemon=True).start()
    while True:
        cluster, found = events.get()
        slices[cluster] = found
        write(resources(slices, folder, listen), folder)


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig")
    parser.add_argument("folder", type=Path, help="where the files of its Envoy are")
    parser.add_argument("listen", help="address:port of the Envoy")
    parser.add_argument("namespace")
    parser.add_argument("clusters", nargs="+", help="contexts of the kubeconfig")
    given = parser.parse_args()
    host, _, number = given.listen.rpartition(":")
    main(given.clusters, given.kubeconfig, given.namespace, given.folder, (host, int(number)))
