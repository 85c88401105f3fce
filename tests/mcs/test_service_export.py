"""What a ServiceExport offers and what its owner is told."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import core, labels, mcs
from isthmus.api.meta import ObjectMeta
from isthmus.mcs.conflict import merge
from isthmus.mcs.limits import check_probe
from isthmus.mcs.probespec import parse_probe, render_probe
from isthmus.mcs.serviceexport import (
    Delivery,
    conditions,
    export_settings,
    export_status,
    export_time_record,
    local_export,
)
from isthmus.model.health import CheckProtocol, HealthCheck
from isthmus.model.names import ClusterId
from isthmus.model.refusal import Refused
from isthmus.model.service import AddressFamily, ClientIpAffinity, Export, Port, Protocol, ServiceType

EU = ClusterId("eu-1")


def asked(annotations: dict[str, str] | None = None, **spec: dict[str, str]) -> mcs.ServiceExport:
    meta = ObjectMeta(
        namespace="shop",
        name="cart",
        uid="u-1",
        generation=3,
        creation_timestamp="2026-01-02T03:04:05Z",
        annotations=annotations or {},
    )
    return mcs.ServiceExport(metadata=meta, spec=mcs.ServiceExportSpec(**spec))


def served(**spec: object) -> core.Service:
    fields: dict[str, object] = {
        "cluster_ip": "10.0.0.1",
        "ports": [core.ServicePort(name="http", port=80)],
        "ip_families": ["IPv4"],
    }
    return core.Service(
        metadata=ObjectMeta(namespace="shop", name="cart", labels={"app": "cart"}),
        spec=core.ServiceSpec(**(fields | spec)),  # type: ignore[arg-type]  # fields by keyword
    )


def offered(export: mcs.ServiceExport, service: core.Service | None, offset: float | None = 0.0) -> Export:
    outcome = local_export(cluster=EU, export=export, service=service, clock_offset=offset)
    assert isinstance(outcome, Export)
    return outcome


def refused(service: core.Service | None) -> Refused:
    outcome = local_export(cluster=EU, export=asked(), service=service)
    assert isinstance(outcome, Refused)
    return outcome


def by_type(told: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    return {condition["type"]: condition for condition in told}


def test_a_cluster_ip_service_is_offered_with_all_that_matters() -> None:
    service = served(
        session_affinity="ClientIP",
        session_affinity_config=core.SessionAffinityConfig(client_ip=core.ClientIPConfig(timeout_seconds=10)),
        traffic_distribution="PreferClose",
        ip_families=["IPv6", "IPv4"],
        ports=[
            core.ServicePort(name="web", port=80, app_protocol="http"),
            core.ServicePort(name="dns", protocol="UDP", port=53),
        ],
    )
    export = offered(asked(exported_labels={"a": "1"}, exported_annotations={"b": "2"}), service)
    assert export == Export(
        cluster=EU,
        key=export.key,
        created=1767323045.0,
        type=ServiceType.CLUSTER_SET_IP,
        ports=(
            Port(name="dns", protocol=Protocol.UDP, port=53),
            Port(name="web", protocol=Protocol.TCP, port=80, app_protocol="http"),
        ),
        ip_families=(AddressFamily.IPV6, AddressFamily.IPV4),
        affinity=ClientIpAffinity(timeout_seconds=10),
        traffic_distribution="PreferClose",
        labels=(("a", "1"),),
        annotations=(("b", "2"),),
    )


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_node_ports_and_load_balancers_export_as_clusterset_ip(kind: str) -> None:
    assert offered(asked(), served(type=kind)).type is ServiceType.CLUSTER_SET_IP


def test_a_service_without_cluster_ip_is_headless_and_has_no_affinity() -> None:
    export = offered(asked(), served(cluster_ip="None", session_affinity="ClientIP", ports=[]))
    assert (export.type, export.affinity, export.ports) == (ServiceType.HEADLESS, None, ())


def test_labels_of_the_service_itself_are_not_exported() -> None:
    assert offered(asked(), served()).labels == ()


def test_an_export_without_service_is_not_valid() -> None:
    assert refused(None).reason == "NoService"


def test_an_external_name_cannot_be_exported() -> None:
    assert refused(served(type="ExternalName", external_name="example.org")).reason == "InvalidServiceType"


def test_families_of_an_old_server_come_from_its_cluster_ips() -> None:
    export = offered(asked(), served(ip_families=[], cluster_ips=["fd00::1"]))
    assert export.ip_families == (AddressFamily.IPV6,)


def test_the_age_is_put_into_the_hubs_clock_once_and_then_kept() -> None:
    first = offered(asked(), served(), offset=-12.5)
    assert first.created == 1767323032.5
    record = export_time_record(asked(), first.created)["metadata"]["annotations"]
    assert offered(asked(record), served(), offset=99.0).created == first.created


def test_an_export_is_the_youngest_until_the_hubs_clock_is_known() -> None:
    """Rules: C1. Specs: -."""
    assert offered(asked(), served(), offset=None).created > 2e11
    assert (
        offered(asked({labels.EXPORTED_AT: "2026-01-02T03:04:00Z u-1"}), served(), offset=None).created < 2e9
    )


@pytest.mark.parametrize("record", ["2020-01-01T00:00:00Z other-uid", "nonsense u-1", "2020-01-01T00:00:00Z"])
def test_a_record_of_another_object_does_not_count(record: str) -> None:
    assert offered(asked({labels.EXPORTED_AT: record}), served()).created == 1767323045.0


def test_annotations_say_drain_expected_endpoints_and_probe() -> None:
    probe = '{"protocol": "HTTP", "path": "/healthz", "port": 8080, "interval": "1s", "fall": 3}'
    export = offered(
        asked({labels.DRAIN: "true", labels.EXPECTED_ENDPOINTS: "3", labels.PROBE: probe}), served()
    )
    assert export.draining
    assert export.expected_endpoints == 3
    assert export.probe == HealthCheck(
        protocol=CheckProtocol.HTTP, path="/healthz", port=8080, interval=1.0, fall=3
    )


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (labels.DRAIN, "yes"),
        (labels.EXPECTED_ENDPOINTS, "0"),
        (labels.EXPECTED_ENDPOINTS, "-1"),
        (labels.EXPECTED_ENDPOINTS, "three"),
        (labels.EXPECTED_ENDPOINTS, "9" * 5000),
        (labels.PROBE, "http:8080/path"),
        (labels.PROBE, "[]"),
        (labels.PROBE, '{"protocol": "SMTP"}'),
        (labels.PROBE, '{"interval": "1ms"}'),
        (labels.PROBE, '{"interval": 5}'),
        (labels.PROBE, '{"interval": "1.5s"}'),
        (labels.PROBE, '{"intervall": "5s"}'),
        (labels.PROBE, '{"path": "no-slash"}'),
        (labels.PROBE, '{"path": "/a b"}'),
        (labels.PROBE, '{"port": 70000}'),
        (labels.PROBE, '{"rise": 0}'),
    ],
)
def test_a_malformed_annotation_is_named_and_the_export_goes_on_without_it(
    annotation: str, text: str
) -> None:
    export = asked({annotation: text})
    settings = export_settings(export)
    assert [annotation in problem for problem in settings.problems] == [True]
    outcome = offered(export, served())
    assert outcome == offered(asked(), served())
    told = by_type(conditions(export, outcome, problems=settings.problems))
    assert told["Valid"]["status"] == "True"
    assert told["isthmus.dev/AnnotationsAccepted"]["status"] == "False"
    assert told["isthmus.dev/AnnotationsAccepted"]["reason"] == "InvalidAnnotation"
    assert annotation in str(told["isthmus.dev/AnnotationsAccepted"]["message"])


@pytest.mark.parametrize(
    "key", ["-a", "isthmus.dev/drain", "a b", "multicluster.kubernetes.io/derived-service", "x/" * 2]
)
def test_metadata_that_must_not_be_exported_is_left_out_and_named(key: str) -> None:
    settings = export_settings(asked(exported_labels={key: "v", "ok": "v"}, exported_annotations={key: "v"}))
    assert settings.labels == (("ok", "v"),)
    assert settings.annotations == ()
    assert len(settings.problems) == 2


def test_too_many_or_too_large_annotations_are_not_exported() -> None:
    many = export_settings(asked(exported_annotations={f"k{n:03}": "v" for n in range(100)}))
    assert len(many.annotations) == 64
    assert many.problems
    large = export_settings(asked(exported_annotations={"k": "v" * 20_000}))
    assert large.annotations == ()
    assert large.problems


def test_conditions_of_a_valid_export_say_how_far_it_got() -> None:
    export = asked()
    outcome = offered(export, served())
    for delivery, status in (
        (Delivery.EXPORTED, "True"),
        (Delivery.PENDING, "False"),
        (Delivery.FAILED, "False"),
    ):
        ready = by_type(conditions(export, outcome, delivery=delivery))["Ready"]
        assert (ready["status"], ready["reason"], ready["observedGeneration"]) == (status, delivery.value, 3)
    failed = by_type(conditions(export, outcome, delivery=Delivery.FAILED, why="quota"))["Ready"]
    assert failed["message"] == "quota"


def test_an_export_that_is_not_valid_is_pending_and_never_in_conflict() -> None:
    other = merge([offered(asked(), served()), offered(asked(), served(cluster_ip="None"))])
    told = by_type(conditions(asked(), refused(None), merged=other, delivery=Delivery.EXPORTED))
    assert told["Valid"]["status"] == "False"
    assert told["Valid"]["reason"] == "NoService"
    assert (told["Ready"]["status"], told["Ready"]["reason"]) == ("False", "Pending")
    assert "Conflict" not in told


def test_conflict_combines_all_reasons_with_commas() -> None:
    mine = offered(asked(), served())
    theirs = local_export(
        cluster=ClusterId("us-1"), export=asked(), service=served(cluster_ip="None", ports=[])
    )
    assert isinstance(theirs, Export)
    told = by_type(conditions(asked(), mine, merged=merge([mine, theirs])))["Conflict"]
    assert (told["status"], told["reason"]) == ("True", "PortConflict,TypeConflict")
    assert str(told["message"]).count("1/2 clusters disagree.") == 2


def test_no_conflict_is_said_too_but_only_by_a_merge_that_counts_this_export() -> None:
    mine = offered(asked(), served())
    told = by_type(conditions(asked(), mine, merged=merge([mine])))["Conflict"]
    assert (told["status"], told["reason"]) == ("False", "NoConflicts")
    theirs = local_export(cluster=ClusterId("us-1"), export=asked(), service=served())
    assert isinstance(theirs, Export)
    assert "Conflict" not in by_type(conditions(asked(), mine, merged=merge([theirs])))


@pytest.mark.parametrize("outcome", [Refused(reason="NoService", message="m"), None])
def test_every_reason_fits_the_schema_of_conditions(outcome: Refused | None) -> None:
    told = conditions(asked(), outcome or offered(asked(), served()), problems=["x" * 100_000])
    for condition in told:
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", condition["reason"])
        assert len(condition["message"]) <= 32_768
    assert export_status(asked(), told)["status"]["conditions"] == told


CHECKS = st.builds(
    HealthCheck,
    protocol=st.none() | st.sampled_from(CheckProtocol),
    path=st.sampled_from(["", "/", "/healthz?x=1"]),
    port=st.none() | st.integers(1, 65_535),
    interval=st.integers(100, 300_000).map(lambda ms: ms / 1000),
    timeout=st.integers(10, 60_000).map(lambda ms: ms / 1000),
    rise=st.integers(1, 10),
    fall=st.integers(1, 10),
).filter(lambda check: check_probe(check) is None)


@pytest.mark.parametrize("protocol", ["TCP", "GRPC", "ICMP", "DNS"])
def test_a_path_is_for_http_alone(protocol: str) -> None:
    refused = parse_probe({"protocol": protocol, "path": "/healthz"})
    assert isinstance(refused, Refused)
    assert refused.message == f"probe.path: has no meaning with protocol {protocol}"


@given(CHECKS)
def test_a_check_survives_being_written(check: HealthCheck) -> None:
    assert parse_probe(render_probe(check)) == check
    assert parse_probe(json.dumps(render_probe(check))) == check


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("5s", 5.0), ("1m30s", 90.0), ("1s500ms", 1.5)]
)
def test_durations_are_those_of_kubernetes(text: str, seconds: float) -> None:
    check = parse_probe({"interval": text})
    assert isinstance(check, HealthCheck)
    assert check.interval == seconds


@given(st.text() | st.binary() | st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_no_probe_text_raises(text: str | bytes | dict[str, object]) -> None:
    assert isinstance(parse_probe(text), HealthCheck | Refused)
