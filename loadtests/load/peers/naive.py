"""A controller as people write their first one: `naive KUBECONFIG FOLDER LISTEN NAMESPACE CONTEXT...`.

It watches the EndpointSlices of a namespace in every cluster with the Kubernetes client and its typed models,
and after each change builds all that its Envoy needs anew: listener, routes, a cluster and its endpoints for
every service. Envoy reads the files in FOLDER. What the API servers call ready is used; nobody asks further.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

from loadtests.load.peers.envoy import TUNED

TYPES = "type.googleapis.com/envoy"
AGAIN_SECONDS = 1.0
SERVICE_NAME = "kubernetes.io/service-name"
OF_SERVICES = "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io"
"""Those of the cluster's own Services, not those that Isthmus derives beside it."""
Slices = dict[str, list[Any]]
"""The EndpointSlices of each cluster, as models of the client."""


def resources(slices: Slices, folder: Path, listen: tuple[str, int]) -> dict[Path, list[dict[str, Any]]]:
    """All resources of the Envoy by the file that it reads them from; endpoints have one for each service."""
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
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": host, "retry_policy": TUNED.retries}}],
        }
        for host in endpoints
    ]
    manager = {
        "@type": f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "naive",
        "route_config": {
            "name": "all",
            "virtual_hosts": hosts,
            "ignore_port_in_host_matching": True,
            "validate_clusters": False,
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    files = {host: folder / f"eds-{host}.json" for host in endpoints}
    assignments = {
        files[host]: [
            {
                "@type": f"{TYPES}.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": host,
                "endpoints": [
                    {"locality": {"region": place}, "lb_endpoints": members}
                    for place, members in sorted(places.items())
                ],
            }
        ]
        for host, places in endpoints.items()
    }
    clusters = [
        {
            "@type": f"{TYPES}.config.cluster.v3.Cluster",
            "name": host,
            "type": "EDS",
            "connect_timeout": "0.25s",
            "eds_cluster_config": {"eds_config": {"path_config_source": {"path": str(file)}}},
        }
        for host, file in files.items()
    ]
    listener = {
        "@type": f"{TYPES}.config.listener.v3.Listener",
        "name": "all",
        "address": _address(*listen),
        "filter_chains": [chain],
    }
    return {**assignments, folder / "cds.json": clusters, folder / "lds.json": [listener]}


def write(built: dict[Path, list[dict[str, Any]]]) -> None:
    """Each file in one step; endpoints first, so that clusters find theirs."""
    for file, found in built.items():
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"resources": found}))
        new.rename(file)


def follow(kubeconfig: str, cluster: str, namespace: str, events: queue.SimpleQueue[Any]) -> None:
    """Tell all slices of a cluster whenever one has changed; what goes wrong is tried again."""
    api = client.DiscoveryV1Api(config.new_client_from_config(kubeconfig, context=cluster))
    while True:
        try:
            listed: Any = api.list_namespaced_endpoint_slice(namespace, label_selector=OF_SERVICES)
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
        time.sleep(AGAIN_SECONDS)  # a server that is away is not asked all the time


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
        write(resources(slices, folder, listen))


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


if __name__ == "__main__":
    access, files, address, shop, *places = sys.argv[1:]
    host, _, number = address.rpartition(":")
    main(places, access, shop, Path(files), (host, int(number)))
