"""Who is reached: the connectivity specs of the MCS API's conformance suite, from pods, by name and address.

Numbers as in docs/conformance.md. The far cluster is the one whose export is the older.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from e2ecallers import failures, host
from e2eground import Cluster, settles
from e2einstall import Site
from e2eworkload import Workload

pytestmark = pytest.mark.e2e

TIMES = 10


def ips(cluster: Cluster, name: str) -> list[str]:
    """The addresses of an import, [] where there are not all of them."""
    spec = (cluster.get("serviceimport", name) or {}).get("spec", {})
    found: list[str] = spec.get("ips", [])
    return found if len(found) == len(spec.get("ipFamilies", [])) else []


def ways(cluster: Cluster, name: str, port: int) -> list[str]:
    """URLs of a port of an import for the pods of a cluster: by each address, and by name."""
    addresses = settles(lambda: ips(cluster, name), f"{cluster.name}: addresses of {name}")
    found = [f"http://[{ip}]:{port}/" if ":" in ip else f"http://{ip}:{port}/" for ip in addresses]
    return found + ([f"http://{host(name)}:{port}/"] if cluster.dns_ip else [])


def answered(site: Site, name: str, port: int, wanted: set[str]) -> None:
    """Waits until in every cluster, by every way, calls of a port are answered by exactly these pods."""
    for client in site.clients.values():
        for url in ways(client.cluster, name, port):
            settles(
                lambda client=client, url=url: set(client.answers(url, times=TIMES)) == wanted,
                f"{client.cluster.name}: {url} is answered by {wanted}",
            )


def serve(site: Site, cluster: Cluster, workload: Workload) -> Workload:
    workload.serve(cluster, site.ground.images.busybox)
    return workload


def everybody(site: Site, cluster: Cluster, name: str) -> set[str]:
    """What the pods of a service in one cluster answer."""
    return {f"{cluster.name} {pod}" for pod in site.pods(cluster, name)}


def export_both(site: Site, older: Workload, younger: Workload) -> None:
    """The far cluster exports, then the near one what does not agree; waits until both say so."""
    older.export(site.far)
    for cluster in site.ground.clusters:
        settles(lambda cluster=cluster: ips(cluster, older.name), f"{cluster.name} imports {older.name}")
    younger.export(site.near)
    for cluster in site.ground.clusters:
        settles(lambda cluster=cluster: conflicts(cluster, older.name), f"{cluster.name} says the conflict")


def conflicts(cluster: Cluster, name: str) -> bool:
    """Whether a cluster's export says that there is a conflict."""
    conditions = (cluster.get("serviceexport", name) or {}).get("status", {}).get("conditions", [])
    return any(one["type"] == "Conflict" and one["status"] == "True" for one in conditions)


def test_a_service_that_is_not_exported_cannot_be_called(site: Site) -> None:
    """Spec: 14"""
    serve(site, site.far, Workload(name="hidden"))
    shown = serve(site, site.far, Workload(name="shown"))
    shown.export(site.far)
    answered(site, "shown", 42, everybody(site, site.far, "shown"))  # so an export would be heard of by now
    for client in site.clients.values():
        assert client.cluster.get("serviceimport", "hidden") is None
        calls = client.answers(f"http://{host('hidden')}:42/", times=TIMES)
        assert len(calls) == TIMES
        assert failures(calls) == calls


def test_an_exported_service_can_be_called_from_all_clusters(site: Site) -> None:
    """Spec: 24"""
    hello = serve(site, site.far, Workload(name="hello", replicas=2))
    hello.export(site.far)
    answered(site, "hello", 42, everybody(site, site.far, "hello"))


def test_of_a_service_in_two_clusters_only_the_one_that_exports_it_is_called(site: Site) -> None:
    """Spec: 25"""
    double = Workload(name="double")
    for cluster in site.ground.clusters:
        serve(site, cluster, double)
    double.export(site.far)
    answered(site, "double", 42, everybody(site, site.far, "double"))


def test_a_port_name_with_two_numbers_means_that_of_the_oldest_export(site: Site) -> None:
    """Spec: 26"""
    older = serve(site, site.far, Workload(name="strict-name"))
    export_both(site, older, serve(site, site.near, Workload(name="strict-name", ports=("tcp/4242/TCP",))))
    answered(site, "strict-name", 42, everybody(site, site.far, "strict-name"))


def test_a_port_that_one_cluster_alone_has_is_served_by_it_alone(site: Site) -> None:
    """Spec: 27"""
    older = serve(site, site.far, Workload(name="strict-ports"))
    export_both(site, older, serve(site, site.near, Workload(name="strict-ports", ports=("tcp2/4242/TCP",))))
    answered(site, "strict-ports", 42, everybody(site, site.far, "strict-ports"))
    answered(site, "strict-ports", 4242, everybody(site, site.near, "strict-ports"))


def test_a_client_with_affinity_stays_with_one_pod(site: Site) -> None:
    """Beyond the suite, which compares fields alone: without affinity two pods share the calls."""
    for name in ("loose", "sticky"):
        served = serve(site, site.far, Workload(name=name, replicas=2, affinity=name == "sticky"))
        served.export(site.far)
    answered(site, "loose", 42, everybody(site, site.far, "loose"))
    for client in site.clients.values():
        for url in ways(client.cluster, "sticky", 42):
            settles(lambda client=client, url=url: not failures(client.answers(url)), f"{url} answers")
            (_,) = set(client.answers(url, times=4 * TIMES))
