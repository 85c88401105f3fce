"""What a cluster writes to the hub, and that its neighbours read the same."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import core, crds, hub, labels, mcs
from isthmus.api.meta import ObjectMeta
from isthmus.mcs import border
from isthmus.mcs.hubobjects import (
    MAX_SOURCES,
    exported_endpoints,
    exported_service,
    health_report,
    hub_namespace,
)
from isthmus.mcs.serviceexport import local_export
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.names import ClusterId, EndpointId, ServiceKey, is_cluster_id, is_dns_label
from isthmus.model.service import (
    AddressFamily,
    ClientIpAffinity,
    Endpoint,
    EndpointPort,
    Export,
    Port,
    Protocol,
    ServiceType,
)

EU = ClusterId("eu-1")
KEY = ServiceKey("shop", "cart")
LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10)
CLUSTERS = st.one_of(LABEL, st.tuples(LABEL, LABEL).map(".".join)).filter(is_cluster_id).map(ClusterId)


def service_object(rendered: dict[str, Any]) -> hub.ExportedService:
    return msgspec.json.decode(msgspec.json.encode(rendered), type=hub.ExportedService)


def endpoints_object(rendered: dict[str, Any]) -> hub.ExportedEndpoints:
    return msgspec.json.decode(msgspec.json.encode(rendered), type=hub.ExportedEndpoints)


@pytest.mark.parametrize(
    "cluster", ["eu-1", "a" * 55, "eu-1.prod", "a" * 63, "a" * 40 + ".b", "prod-deadbeef"]
)
def test_a_clusters_namespace_is_a_dns_label(cluster: str) -> None:
    assert is_dns_label(hub_namespace(ClusterId(cluster)))


def test_a_plain_id_is_its_own_namespace() -> None:
    assert hub_namespace(EU) == "isthmus-eu-1"
    assert hub_namespace(ClusterId("a" * 55)) == "isthmus-" + "a" * 55
    assert hub_namespace(ClusterId("eu-1.prod")).startswith("isthmus-eu-1-prod-")


@given(st.lists(CLUSTERS, min_size=2, max_size=2, unique=True))
def test_two_clusters_never_share_a_namespace(clusters: list[ClusterId]) -> None:
    assert hub_namespace(clusters[0]) != hub_namespace(clusters[1])


def test_no_cluster_can_call_itself_like_the_hashed_form_of_another() -> None:
    victim = ClusterId("eu-1.prod")
    forger = ClusterId(hub_namespace(victim).removeprefix("isthmus-"))
    assert is_cluster_id(forger)
    assert hub_namespace(forger) != hub_namespace(victim)


PORTS = st.lists(
    st.builds(
        Port,
        name=st.sampled_from(["", "http", "grpc", "dns"]),
        protocol=st.sampled_from(Protocol),
        port=st.integers(1, 65_535),
        app_protocol=st.sampled_from(["", "kubernetes.io/h2c"]),
    ),
    min_size=1,
    max_size=4,
    unique_by=(lambda port: port.name, lambda port: (port.protocol, port.port)),
).map(lambda ports: tuple(sorted(ports)))
PAIRS = st.dictionaries(LABEL, LABEL, max_size=3).map(lambda pairs: tuple(sorted(pairs.items())))
EXPORTS = st.builds(
    Export,
    cluster=CLUSTERS,
    key=st.builds(ServiceKey, LABEL, LABEL),
    created=st.integers(1_500_000_000_000_000, 2_000_000_000_000_000).map(
        lambda micros: round(micros / 1e6, 6)
    ),
    type=st.just(ServiceType.CLUSTER_SET_IP),
    ports=PORTS,
    ip_families=st.permutations(list(AddressFamily)).flatmap(
        lambda both: st.integers(1, 2).map(lambda n: tuple(both[:n]))
    ),
    affinity=st.none() | st.builds(ClientIpAffinity, timeout_seconds=st.integers(1, 86_400)),
    internal_traffic_policy=st.sampled_from(["Cluster", "Local"]),
    traffic_distribution=st.sampled_from(["", "PreferClose"]),
    publish_not_ready=st.booleans(),
    labels=PAIRS,
    annotations=PAIRS,
    draining=st.booleans(),
    expected_endpoints=st.none() | st.integers(1, 100),
    probe=st.none() | st.just(HealthCheck(protocol=CheckProtocol.GRPC, port=9000, interval=1.5)),
)


@given(EXPORTS, st.booleans())
def test_an_export_is_read_back_by_the_neighbours_as_it_was(export: Export, headless: bool) -> None:
    if headless:
        export = replace(export, type=ServiceType.HEADLESS, affinity=None, ports=())
    assert border.exported_service(service_object(exported_service(export))) == export


WORDS = st.text(max_size=12) | st.sampled_from(
    ["", "TCP", "None", "ClientIP", "Cluster", "PreferClose", "http"]
)
SERVICES = st.builds(
    core.ServiceSpec,
    cluster_ip=st.sampled_from(["10.0.0.1", "None", ""]),
    ports=st.lists(
        st.builds(
            core.ServicePort,
            name=st.sampled_from(["", "a", "b"]) | WORDS,
            protocol=st.sampled_from(["TCP", "UDP"]) | WORDS,
            app_protocol=st.none() | WORDS,
            port=st.integers(0, 70_000),
        ),
        max_size=3,
    ),
    ip_families=st.lists(st.sampled_from(["IPv4", "IPv6", "IPv5"]), max_size=3),
    session_affinity=WORDS,
    internal_traffic_policy=st.none() | WORDS,
    traffic_distribution=st.none() | WORDS,
)


@given(
    SERVICES,
    st.dictionaries(WORDS, WORDS, max_size=3),
    st.dictionaries(WORDS, WORDS, max_size=3),
    st.sampled_from(["3", "0", "x"]),
    st.sampled_from(['{"interval": "300s", "timeout": "1m"}', '{"port": 0}', "{}"]),
)
def test_a_cluster_never_offers_what_its_neighbours_refuse(
    spec: core.ServiceSpec,
    exported_labels: dict[str, str],
    annotations: dict[str, str],
    count: str,
    probe: str,
) -> None:
    meta = ObjectMeta(
        namespace="shop",
        name="cart",
        creation_timestamp="2026-01-02T03:04:05Z",
        annotations={labels.EXPECTED_ENDPOINTS: count, labels.PROBE: probe},
    )
    asked = mcs.ServiceExportSpec(exported_labels=exported_labels, exported_annotations=annotations)
    mine = local_export(
        cluster=EU,
        export=mcs.ServiceExport(metadata=meta, spec=asked),
        service=core.Service(metadata=meta, spec=spec),
        clock_offset=0.1,
    )
    if isinstance(mine, Export):
        assert border.exported_service(service_object(exported_service(mine))) == mine


def endpoint(number: int, **changes: Any) -> Endpoint:
    one = Endpoint(
        id=EndpointId(f"cart-{number}"),
        cluster=EU,
        region="eu",
        zone=f"eu-{number % 3}",
        addresses=(f"10.1.{number // 250}.{number % 250 + 1}", f"fd00::{number + 1:x}"),
        ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=8080 + number % 2),),
        ready=number % 7 != 0,
        hostname=f"cart-{number}",
        node=f"n{number % 5}",
        network="flat",
    )
    return msgspec.structs.replace(one, **changes)


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2600])
def test_endpoints_are_read_back_by_the_neighbours_as_they_were(count: int) -> None:
    endpoints = tuple(sorted((endpoint(n) for n in range(count)), key=lambda one: one.id))
    parts = []
    for name, rendered in exported_endpoints(KEY, EU, endpoints).items():
        assert rendered["metadata"]["name"] == name
        assert rendered["metadata"]["namespace"] == "isthmus-eu-1"
        part = border.exported_endpoints(endpoints_object(rendered))
        assert isinstance(part, border.ImportedEndpoints)
        assert (part.key, part.cluster, part.refused) == (KEY, EU, ())
        assert len(part.endpoints) <= 500
        parts.append(part)
    assert border.joined(parts) == endpoints


@pytest.mark.parametrize("start", [0, 498, 499, 1000, 1234])
def test_one_more_endpoint_changes_at_most_two_objects(start: int) -> None:
    same = EndpointPort(name="http", protocol=Protocol.TCP, port=80)
    endpoints = [endpoint(n, ports=(same,)) for n in range(start)]
    before = exported_endpoints(KEY, EU, endpoints)
    for number in range(start, start + 5):
        endpoints.append(endpoint(number, ports=(same,)))
        after = exported_endpoints(KEY, EU, endpoints)
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        assert 1 <= len(changed) <= 2
        before = after


def test_endpoints_of_two_networks_or_ports_stand_in_objects_of_their_own() -> None:
    rendered = exported_endpoints(KEY, EU, [endpoint(0), endpoint(1), endpoint(2, network="other")])
    assert len(rendered) == 3


def test_the_order_of_endpoints_changes_nothing() -> None:
    endpoints = [endpoint(n) for n in range(1200)]
    assert exported_endpoints(KEY, EU, endpoints) == exported_endpoints(KEY, EU, endpoints[::-1])


def test_a_health_report_counts_by_source_cluster_and_is_cut_where_its_crd_ends() -> None:
    rendered = health_report(EU, KEY, {"eu-1": (3, 0, 0), "us-1": (1, 2, 4)}, 1.5)
    report = msgspec.json.decode(msgspec.json.encode(rendered), type=hub.HealthReport)
    assert rendered["metadata"]["namespace"] == "isthmus-eu-1"
    assert report.spec == hub.HealthReportSpec(
        cluster="eu-1",
        service=hub.ServiceName(namespace="shop", name="cart"),
        observed_at="1970-01-01T00:00:01.500000Z",
        sources=[
            hub.SourceHealth(cluster="eu-1", up=3),
            hub.SourceHealth(cluster="us-1", up=1, down=2, unknown=4),
        ],
    )
    assert MAX_SOURCES == crds.MAX_SOURCES
    many = health_report(EU, KEY, {f"c{n}": (1, 0, 0) for n in range(MAX_SOURCES + 1)}, 0.0)
    assert len(many["spec"]["sources"]) == MAX_SOURCES
