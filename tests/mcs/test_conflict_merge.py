"""The merge of exports (KEP-1645, conflict resolution)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.mcs.conflict import merge
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
HTTP = Port(name="http", protocol=Protocol.TCP, port=80)
KEY = ServiceKey("shop", "cart")


def offer(cluster: str, created: float = 1.0, **fields: object) -> Export:
    base = Export(
        cluster=ClusterId(cluster), key=KEY, created=created, type=ServiceType.CLUSTER_SET_IP, ports=(HTTP,)
    )
    return replace(base, **fields)  # type: ignore[arg-type]  # fields of Export by keyword


def reasons(service: Service) -> list[str]:
    return [conflict.reason for conflict in service.conflicts]


def test_exports_that_agree_make_no_conflict() -> None:
    service = merge([offer("a"), offer("b", 2.0)])
    assert reasons(service) == []
    assert service.ports == (HTTP,)
    assert [export.cluster for export in service.exports] == ["a", "b"]


def test_the_oldest_export_wins_and_ties_go_by_cluster_name() -> None:
    newer = offer("a", 2.0, internal_traffic_policy="Local")
    assert merge([newer, offer("b", 1.0)]).internal_traffic_policy == "Cluster"
    tied = [offer("b", 1.0), offer("a", 1.0, internal_traffic_policy="Local")]
    assert merge(tied).internal_traffic_policy == "Local"


def test_no_export_is_no_service() -> None:
    with pytest.raises(ValueError, match="does not exist"):
        merge([])


WHOLE_SERVICE = [
    ("TypeConflict", {"type": ServiceType.HEADLESS}, "type", ServiceType.CLUSTER_SET_IP),
    ("SessionAffinityConflict", {"affinity": ClientIpAffinity()}, "affinity", None),
    ("LabelsConflict", {"labels": (("a", "b"),)}, "labels", ()),
    ("AnnotationsConflict", {"annotations": (("a", "b"),)}, "annotations", ()),
    (
        "InternalTrafficPolicyConflict",
        {"internal_traffic_policy": "Local"},
        "internal_traffic_policy",
        "Cluster",
    ),
    ("TrafficDistributionConflict", {"traffic_distribution": "PreferClose"}, "traffic_distribution", ""),
]


@pytest.mark.parametrize(("reason", "change", "field", "kept"), WHOLE_SERVICE)
def test_a_field_of_the_whole_service_is_as_the_oldest_says_and_the_conflict_is_named(
    reason: str, change: dict[str, object], field: str, kept: object
) -> None:
    service = merge([offer("new", 2.0, **change), offer("old", 1.0)])
    assert reasons(service) == [reason]
    assert getattr(service, field) == kept


def test_affinity_timeouts_conflict_on_their_own() -> None:
    old = offer("old", 1.0, affinity=ClientIpAffinity(timeout_seconds=10))
    new = offer("new", 2.0, affinity=ClientIpAffinity(timeout_seconds=20))
    service = merge([new, old])
    assert reasons(service) == ["SessionAffinityConfigConflict"]
    assert service.affinity == ClientIpAffinity(timeout_seconds=10)


def test_the_affinity_of_a_headless_export_is_not_compared_with_that_of_a_cluster_ip() -> None:
    old = offer("old", 1.0, affinity=ClientIpAffinity())
    assert reasons(merge([old, offer("new", 2.0, type=ServiceType.HEADLESS)])) == ["TypeConflict"]


def test_the_message_says_which_field_who_won_and_how_many_disagree() -> None:
    others = [offer(f"cluster-{n}", float(n), type=ServiceType.HEADLESS) for n in (4, 5)]
    service = merge([offer("cluster-1", 1.0), offer("cluster-2", 2.0), offer("cluster-3", 3.0), *others])
    assert service.conflicts[0].message == (
        'Conflicting type. Using "ClusterSetIP" from oldest service export in "cluster-1". '
        "2/5 clusters disagree."
    )


def test_ports_are_a_union_and_any_difference_is_a_port_conflict() -> None:
    extra = Port(name="metrics", protocol=Protocol.TCP, port=9090)
    service = merge([offer("old", 1.0), offer("new", 2.0, ports=(HTTP, extra))])
    assert service.ports == (HTTP, extra)
    assert reasons(service) == ["PortConflict"]
    assert service.exposers(extra) == ("new",)


@pytest.mark.parametrize(
    "loser",
    [
        Port(name="http", protocol=Protocol.TCP, port=8080),
        Port(name="http", protocol=Protocol.UDP, port=80),
        Port(name="web", protocol=Protocol.TCP, port=80),
        Port(name="", protocol=Protocol.TCP, port=80),
    ],
)
def test_a_port_whose_name_or_pair_is_taken_is_dropped(loser: Port) -> None:
    service = merge([offer("new", 2.0, ports=(loser,)), offer("old", 1.0)])
    assert service.ports == (HTTP,)
    assert reasons(service) == ["PortConflict"]
    assert service.exposers(HTTP) == ("old",)


def test_a_port_without_a_name_counts_as_named_nothing() -> None:
    bare, other = (Port(name="", protocol=Protocol.TCP, port=number) for number in (80, 81))
    assert merge([offer("old", 1.0, ports=(bare,)), offer("new", 2.0, ports=(other,))]).ports == (bare,)


def test_another_app_protocol_is_a_port_conflict_and_the_oldest_says_which() -> None:
    grpc = replace(HTTP, app_protocol="kubernetes.io/h2c")
    service = merge([offer("old", 1.0), offer("new", 2.0, ports=(grpc,))])
    assert service.ports == (HTTP,)
    assert reasons(service) == ["PortConflict"]
    assert service.exposers(HTTP) == ("old", "new")


def test_the_order_in_which_a_service_lists_its_ports_does_not_matter() -> None:
    extra = Port(name="metrics", protocol=Protocol.TCP, port=9090)
    forward, backward = offer("a", 1.0, ports=(HTTP, extra)), offer("b", 2.0, ports=(extra, HTTP))
    assert reasons(merge([forward, backward])) == []
    assert merge([forward]).ports == merge([replace(forward, ports=(extra, HTTP))]).ports


@pytest.mark.parametrize(
    ("old", "new", "conflict"),
    [
        ((V4,), (V4, V6), False),
        ((V4, V6), (V6, V4), False),
        ((V4, V6), (V4,), True),
        ((V4, V6), (V6,), True),
        ((V4,), (V6,), True),
    ],
)
def test_address_families_are_the_oldest_ones_and_one_that_another_lacks_is_a_conflict(
    old: tuple[AddressFamily, ...], new: tuple[AddressFamily, ...], conflict: bool
) -> None:
    """Rules: C2, C5. Specs: -."""
    service = merge([offer("new", 2.0, ip_families=new), offer("old", 1.0, ip_families=old)])
    assert service.ip_families == old
    assert reasons(service) == (["IPFamilyConflict"] if conflict else [])


def test_several_conflicts_are_all_told() -> None:
    new = offer("new", 2.0, type=ServiceType.HEADLESS, ports=(), ip_families=(V6,))
    assert reasons(merge([offer("old"), new])) == ["PortConflict", "TypeConflict", "IPFamilyConflict"]


PORTS = st.lists(
    st.builds(
        Port,
        name=st.sampled_from(["", "a", "b", "c"]),
        protocol=st.sampled_from(Protocol),
        port=st.integers(80, 83),
        app_protocol=st.sampled_from(["", "h2c"]),
    ),
    max_size=4,
    unique_by=(lambda port: port.name, lambda port: (port.protocol, port.port)),
).map(tuple)


@st.composite
def exports(draw: st.DrawFn) -> list[Export]:
    clusters = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
    return [
        offer(
            cluster,
            float(draw(st.integers(0, 3))),
            ports=draw(PORTS),
            type=draw(st.sampled_from(ServiceType)),
            ip_families=draw(st.sampled_from([(V4,), (V6,), (V4, V6), (V6, V4)])),
            affinity=draw(st.sampled_from([None, ClientIpAffinity(), ClientIpAffinity(timeout_seconds=5)])),
        )
        for cluster in clusters
    ]


@given(exports(), st.randoms(use_true_random=False))
def test_the_order_of_exports_and_of_their_ports_changes_nothing(
    given: list[Export], rng: random.Random
) -> None:
    shuffled = [replace(export, ports=tuple(rng.sample(export.ports, len(export.ports)))) for export in given]
    rng.shuffle(shuffled)
    one, other = merge(given), merge(shuffled)
    assert replace(one, exports=()) == replace(other, exports=())
    assert [export.cluster for export in one.exports] == [export.cluster for export in other.exports]


@given(exports())
def test_no_name_and_no_protocol_and_port_stand_twice(given: list[Export]) -> None:
    ports = merge(given).ports
    assert len({port.name for port in ports}) == len(ports)
    assert len({(port.protocol, port.port) for port in ports}) == len(ports)


@given(exports())
def test_a_newcomer_never_changes_a_live_port_nor_a_field_of_the_service(given: list[Export]) -> None:
    ordered = sorted(given, key=lambda export: export.precedence)
    for count in range(1, len(ordered)):
        before, after = merge(ordered[:count]), merge(ordered[: count + 1])
        assert set(before.ports) <= set(after.ports)
        assert (before.type, before.affinity, before.labels) == (after.type, after.affinity, after.labels)
        assert after.ip_families == before.ip_families
        for port in before.ports:
            assert set(before.exposers(port)) <= set(after.exposers(port))


@given(exports())
def test_a_conflict_is_told_exactly_when_somebody_disagrees(given: list[Export]) -> None:
    service = merge(given)
    oldest = service.exports[0]
    assert ("PortConflict" in reasons(service)) is any(set(e.ports) != set(oldest.ports) for e in given)
    assert ("TypeConflict" in reasons(service)) is any(e.type != oldest.type for e in given)
    covered = all(set(oldest.ip_families) <= set(e.ip_families) for e in given)
    assert ("IPFamilyConflict" in reasons(service)) is not covered
