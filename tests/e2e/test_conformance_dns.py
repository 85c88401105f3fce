"""What pods are told: the DNS specs of the MCS API's conformance suite, by nslookup to the clusters' DNS.

Numbers as in docs/conformance.md. Every look-up is made in every cluster; the far one exports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from e2ecallers import ZONE, Client, Lookup, host
from e2eground import Cluster, settles
from e2einstall import Site
from e2eworkload import WEB, Workload

pytestmark = pytest.mark.e2e

TYPES = {"IPv4": "A", "IPv6": "AAAA"}
LOCAL = "shop.svc.cluster.local"


@pytest.fixture
def clients(site: Site) -> list[Client]:
    """A pod of every cluster."""
    return list(site.clients.values())


def exported(site: Site, workload: Workload) -> Workload:
    workload.serve(site.far, site.ground.images.busybox)
    workload.export(site.far)
    return workload


def told(client: Client, kind: str, name: str, suits: Callable[[Lookup], bool]) -> None:
    """Waits until a look-up suits."""
    last: list[str] = []

    def look() -> bool:
        found = client.look_up(kind, name)
        last[:] = [found.said]
        return suits(found)

    settles(look, lambda: f"{client.cluster.name}: {kind} of {name}, last: {last}")


def imported(cluster: Cluster, name: str) -> dict[str, Any]:
    """The spec of an import once it is there with its address families."""

    def look() -> dict[str, Any]:
        spec = (cluster.get("serviceimport", name) or {}).get("spec", {})
        ready = spec.get("type") == "Headless" or spec.get("ips")
        return spec if ready and spec.get("ipFamilies") else {}

    found: dict[str, Any] = settles(look, f"{cluster.name} imports {name}")
    return found


def ready(cluster: Cluster, name: str) -> dict[str, list[dict[str, Any]]]:
    """The ready endpoints of a local Service by address family, as Kubernetes itself says."""
    selector = f"kubernetes.io/service-name={name}"
    found: dict[str, list[dict[str, Any]]] = {}
    for one in cluster.list("endpointslices", selector):
        endpoints = [entry for entry in one["endpoints"] or [] if entry["conditions"]["ready"]]
        found.setdefault(one["addressType"], []).extend(endpoints)
    return found


def test_the_name_of_a_service_is_its_clusterset_addresses(site: Site, clients: list[Client]) -> None:
    """Spec: 18"""
    hello = exported(site, Workload(name="hello-dns"))
    for client in clients:
        spec = imported(client.cluster, hello.name)
        assert len(spec["ips"]) == len(spec["ipFamilies"])
        for family, ip in zip(spec["ipFamilies"], spec["ips"], strict=True):
            told(client, TYPES[family], host(hello.name), lambda found, ip=ip: found.addresses == [ip])


def test_ports_of_one_number_are_one_srv_record(site: Site, clients: list[Client]) -> None:
    """Spec: 19"""
    hello = exported(site, Workload(name="hello-srv", ports=("tcp/42/TCP", "udp/42/UDP")))
    for client in clients:
        told(client, "SRV", host(hello.name), lambda found: found.srv == [(42, host(hello.name))])


def test_a_named_port_has_a_record_of_its_own(site: Site, clients: list[Client]) -> None:
    """Beyond the suite: multi-cluster DNS 1.0.0 asks for it."""
    name = host(exported(site, Workload(name="hello-port", ports=("web/42/TCP", "alt/43/TCP"))).name)
    for client in clients:
        told(client, "SRV", f"_alt._tcp.{name}", lambda found: found.srv == [(43, name)])
        told(client, "SRV", f"_none._tcp.{name}", lambda found: not found.exists)


def test_names_of_the_own_cluster_stay_what_they_were(site: Site, clients: list[Client]) -> None:
    """Spec: 20"""
    for cluster in site.ground.clusters:
        local = Workload(name="hello-local")
        local.serve(cluster, site.ground.images.busybox)
    local.export(site.far)
    for client in clients:
        imported(client.cluster, local.name)
        ips = client.cluster.get("service", local.name)["spec"]["clusterIPs"]
        for kind, wanted in (
            ("A", [ip for ip in ips if ":" not in ip]),
            ("AAAA", [ip for ip in ips if ":" in ip]),
        ):
            told(
                client, kind, f"{local.name}.{LOCAL}", lambda found, wanted=wanted: found.addresses == wanted
            )


def test_the_name_of_a_headless_service_is_its_ready_pods(site: Site, clients: list[Client]) -> None:
    """Spec: 21"""
    heads = exported(site, Workload(name="heads", replicas=2, headless=True))
    for client in clients:
        imported(client.cluster, heads.name)
        for family, endpoints in ready(site.far, heads.name).items():
            wanted = sorted(address for one in endpoints for address in one["addresses"])
            assert len(wanted) == 2
            told(
                client,
                TYPES[family],
                host(heads.name),
                lambda found, wanted=wanted: sorted(found.addresses) == wanted,
            )


def test_the_pods_of_a_stateful_set_have_names(site: Site, clients: list[Client]) -> None:
    """Spec: 22"""
    state = exported(site, Workload(name="state", replicas=2, headless=True, stateful=True))
    for client in clients:
        imported(client.cluster, state.name)
        for family, endpoints in ready(site.far, state.name).items():
            settles(
                lambda client=client, family=family: (
                    hostnames(site, client.cluster, state.name, family) == ["state-0", "state-1"]
                ),
                f"{client.cluster.name}: {family} slices of {state.name}",
            )
            for one in endpoints:
                name = f"{one['hostname']}.{site.far.name}.{host(state.name)}"
                told(client, TYPES[family], name, lambda found, one=one: found.addresses == one["addresses"])
        told(client, "A", f"state-2.{site.far.name}.{host(state.name)}", lambda found: not found.exists)


def hostnames(site: Site, cluster: Cluster, name: str, family: str) -> list[str]:
    """The ready endpoints of the far cluster in a cluster's imported slices, by hostname."""
    labels = {"service-name": name, "source-cluster": site.far.name}
    selector = ",".join(f"multicluster.kubernetes.io/{key}={value}" for key, value in labels.items())
    slices = cluster.list("endpointslices", selector)
    found = [entry for one in slices if one["addressType"] == family for entry in one["endpoints"] or []]
    return sorted(one.get("hostname", "") for one in found if one["conditions"]["ready"])


def test_each_pod_of_a_headless_service_is_one_srv_record(site: Site, clients: list[Client]) -> None:
    """Spec: 23"""
    heads = exported(site, Workload(name="heads-srv", replicas=2, headless=True))
    addresses = {
        address
        for found in ready(site.far, heads.name).values()
        for one in found
        for address in one["addresses"]
    }

    def suits(client: Client, found: Lookup) -> bool:
        """Every target is one pod's name, with that pod's addresses; together they are all pods."""
        targets = [target for port, target in found.srv if port == WEB]
        pods = [client.look_up(kind, target).addresses for target in targets for kind in TYPES.values()]
        return (
            len(targets) == len(set(targets)) == len(found.srv)
            and all(target.endswith(f".{site.far.name}.{host(heads.name)}") for target in targets)
            and sorted(address for pod in pods for address in pod) == sorted(addresses)
        )

    for client in clients:
        told(client, "SRV", host(heads.name), lambda found, client=client: suits(client, found))


def test_a_cluster_in_front_of_a_service_is_no_address(site: Site, clients: list[Client]) -> None:
    """Beyond the suite: multi-cluster DNS 1.0.0 forbids it."""
    names = [
        exported(site, Workload(name=name, headless=name == "fore-pods")).name
        for name in ("fore", "fore-pods")
    ]
    for client in clients:
        for name in names:
            told(client, "A", host(name), lambda found: bool(found.addresses))
            for kind in TYPES.values():
                assert client.look_up(kind, f"{site.far.name}.{host(name)}").addresses == []


def test_the_zone_says_which_schema_it_follows(clients: list[Client]) -> None:
    """Beyond the suite: multi-cluster DNS 1.0.0, section 2.2."""
    for client in clients:
        told(client, "TXT", f"dns-version.{ZONE}", lambda found: json.dumps("1.0.0") in found.said)
