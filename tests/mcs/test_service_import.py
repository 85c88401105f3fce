"""ServiceImport, its status and the derived Service."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from isthmus.api import labels, mcs
from isthmus.mcs.conflict import merge
from isthmus.mcs.serviceimport import (
    derived_name,
    derived_service,
    plainer,
    service_import,
    service_import_status,
    with_addresses,
)
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.service import (
    AddressFamily,
    ClientIpAffinity,
    Export,
    Port,
    Protocol,
    Service,
    ServiceType,
)

V4, V6 = AddressFamily.IPV4, AddressFamily.IPV6
KEY = ServiceKey("shop", "cart")
HTTP = Port(name="http", protocol=Protocol.TCP, port=80, app_protocol="http")
EXPORT = Export(
    cluster=ClusterId("eu-1"),
    key=KEY,
    created=1.0,
    type=ServiceType.CLUSTER_SET_IP,
    ports=(HTTP, Port(name="", protocol=Protocol.UDP, port=53)),
    ip_families=(V4, V6),
    affinity=ClientIpAffinity(timeout_seconds=10),
    internal_traffic_policy="Local",
    traffic_distribution="PreferClose",
    labels=(("team", "shop"),),
    annotations=(("note", "x"),),
)
IPS = ("fd00::7", "10.0.0.7")


def service(**changes: Any) -> Service:
    return merge(
        [replace(EXPORT, **changes), replace(EXPORT, cluster=ClusterId("us-1"), created=2.0, **changes)]
    )


def headless() -> Service:
    return service(type=ServiceType.HEADLESS, affinity=None)


def condition(status: dict[str, Any]) -> dict[str, Any]:
    (only,) = status["status"]["conditions"]
    return dict(only)


def test_an_import_says_all_that_the_merge_found() -> None:
    rendered = service_import(service(), IPS)
    assert rendered["metadata"] == {
        "namespace": "shop",
        "name": "cart",
        "labels": {"team": "shop", labels.MANAGED_BY: "isthmus"},
        "annotations": {"note": "x", labels.DERIVED_SERVICE: derived_name(KEY)},
    }
    assert rendered["spec"] == {
        "type": "ClusterSetIP",
        "ports": [
            {"protocol": "UDP", "port": 53},
            {"name": "http", "protocol": "TCP", "port": 80, "appProtocol": "http"},
        ],
        "ips": ["10.0.0.7", "fd00::7"],
        "ipFamilies": ["IPv4", "IPv6"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
        "internalTrafficPolicy": "Local",
        "trafficDistribution": "PreferClose",
    }


def test_an_import_is_json_that_decodes_as_the_published_kind() -> None:
    from isthmus.api.kinds import SERVICE_IMPORT

    decoded = SERVICE_IMPORT.decode(json.dumps(service_import(service(), IPS)).encode())
    assert isinstance(decoded, mcs.ServiceImport)
    assert decoded.spec.ip_families == ("IPv4", "IPv6")
    assert decoded.spec.session_affinity_config is not None


def test_a_headless_import_has_families_but_no_ips_and_no_derived_service() -> None:
    rendered = service_import(headless(), ("None", "10.0.0.7"))
    assert rendered["spec"]["ips"] == []
    assert rendered["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert rendered["spec"]["type"] == "Headless"
    assert labels.DERIVED_SERVICE not in rendered["metadata"]["annotations"]
    assert derived_service(headless(), "u") is None


def test_a_headless_import_without_ports_still_has_the_list() -> None:
    bare = merge([replace(EXPORT, type=ServiceType.HEADLESS, affinity=None, ports=())])
    assert service_import(bare)["spec"]["ports"] == []


def test_exported_labels_never_replace_our_own() -> None:
    forged = service(labels=((labels.MANAGED_BY, "somebody"),))
    assert service_import(forged)["metadata"]["labels"] == {labels.MANAGED_BY: "isthmus"}


def test_a_single_stack_cluster_imports_what_it_can_use() -> None:
    rendered = service_import(service(), ("10.0.0.7",), supported=(V4,))
    assert rendered["spec"]["ips"] == ["10.0.0.7"]
    assert rendered["spec"]["ipFamilies"] == ["IPv4"]
    derived = derived_service(service(), "u", supported=(V4,))
    assert derived is not None
    assert (derived["spec"]["ipFamilies"], derived["spec"]["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")


def test_a_cluster_without_the_services_family_says_so() -> None:
    only_v6 = service(ip_families=(V6,))
    assert derived_service(only_v6, "u", supported=(V4,)) is None
    told = condition(service_import_status(only_v6, supported=(V4,), slices_present=True))
    assert (told["status"], told["reason"]) == ("False", "IPFamilyNotSupported")


@pytest.mark.parametrize(
    ("ips", "status", "reason"),
    [((), "False", "Pending"), (("10.0.0.7",), "False", "Pending"), (IPS, "True", "Ready")],
)
def test_an_import_is_ready_once_every_family_has_its_ip(
    ips: tuple[str, ...], status: str, reason: str
) -> None:
    told = condition(service_import_status(service(), ips, slices_present=True, generation=4))
    assert (told["status"], told["reason"], told["observedGeneration"]) == (status, reason, 4)


def test_a_headless_import_is_ready_without_ips() -> None:
    assert condition(service_import_status(headless(), slices_present=True))["status"] == "True"


def test_the_status_names_the_exporting_clusters_and_whether_slices_are_there() -> None:
    status = service_import_status(service(), IPS, slices_present=True)["status"]
    assert status["clusters"] == [{"cluster": "eu-1"}, {"cluster": "us-1"}]
    assert status["endpointSliceObjects"] == "Present"
    assert (
        service_import_status(service(), IPS, slices_present=False)["status"]["endpointSliceObjects"]
        == "Absent"
    )


def test_the_derived_service_has_no_selector_and_carries_what_kube_proxy_needs() -> None:
    derived = derived_service(service(), "uid-1")
    assert derived is not None
    assert derived["metadata"]["labels"] == {labels.MANAGED_BY: "isthmus"}
    assert derived["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "multicluster.x-k8s.io/v1beta1",
            "kind": "ServiceImport",
            "name": "cart",
            "uid": "uid-1",
        }
    ]
    assert derived["spec"] == {
        "type": "ClusterIP",
        "ports": [
            {"name": "udp-53", "protocol": "UDP", "port": 53, "targetPort": 53},
            {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80, "appProtocol": "http"},
        ],
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
        "internalTrafficPolicy": "Local",
        "trafficDistribution": "PreferClose",
    }


@pytest.mark.parametrize(
    ("asked", "plain"),
    [("PreferSameNode", "PreferClose"), ("PreferSameZone", "PreferClose"), ("PreferClose", "PreferClose")],
)
def test_a_derived_service_can_be_said_in_words_of_older_servers(asked: str, plain: str) -> None:
    """Rules: R5. Specs: -."""
    asking = service(traffic_distribution=asked)
    derived = derived_service(asking, "u")
    assert derived is not None
    assert derived["spec"]["trafficDistribution"] == asked
    assert plainer(derived) == {**derived, "spec": {**derived["spec"], "trafficDistribution": plain}}
    imported = service_import(asking, ("10.0.0.7",))
    assert plainer(imported) == imported, "an import says what was exported"


def test_a_derived_service_without_a_wish_is_plain() -> None:
    """Rules: R5. Specs: -."""
    derived = derived_service(service(traffic_distribution="OfTomorrow"), "u")
    assert derived is not None
    assert plainer(derived) == derived


def test_a_derived_service_keeps_its_families_in_their_order_whatever_the_exports_say_now() -> None:
    """Rules: R5. Specs: -."""
    only_v6 = service(ip_families=(V6,))
    derived = derived_service(only_v6, "u", ips=("10.0.0.7",))
    assert derived is not None
    assert derived["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert "clusterIP" not in derived["spec"]
    unsupported = derived_service(only_v6, "u", supported=(V4,), ips=("10.0.0.7",))
    assert unsupported is not None
    assert unsupported["spec"]["ipFamilies"] == ["IPv4"]
    assert service_import(only_v6, ("10.0.0.7", "fd00::7"))["spec"]["ips"] == ["fd00::7"]


def test_a_derived_service_that_is_made_anew_asks_for_its_addresses() -> None:
    """Rules: R5. Specs: -."""
    ips = ("10.0.0.7", "fd00::7")
    wanted = derived_service(service(), "u", ips=ips)
    assert wanted is not None
    assert with_addresses(wanted, ()) == wanted
    derived = with_addresses(wanted, ips)
    assert "clusterIP" not in wanted["spec"]
    assert derived["spec"]["clusterIP"] == "10.0.0.7"
    assert derived["spec"]["clusterIPs"] == ["10.0.0.7", "fd00::7"]
    assert derived["spec"]["ipFamilies"] == ["IPv4", "IPv6"]


def test_an_import_says_why_it_has_no_address() -> None:
    """Rules: R5. Specs: -."""
    told = condition(service_import_status(service(), slices_present=True, problem="the range is full"))
    assert (told["reason"], told["message"]) == ("Pending", "the range is full")


def test_a_distribution_that_no_service_may_have_stays_out_of_the_derived_one() -> None:
    derived = derived_service(service(traffic_distribution="PreferMoon"), "u")
    assert derived is not None
    assert "trafficDistribution" not in derived["spec"]


def test_the_derived_name_is_short_stable_and_its_own() -> None:
    name = derived_name(KEY)
    assert name == derived_name(ServiceKey("shop", "cart"))
    assert name.startswith("derived-")
    assert len(name) == len("derived-") + 10
    assert set(name.removeprefix("derived-")) <= set("0123456789abcdefghijklmnopqrstuv")
    assert name != derived_name(ServiceKey("shop", "cart2"))
