"""This cluster's EndpointSlices as endpoints."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import core, labels
from isthmus.api.meta import ObjectMeta
from isthmus.mcs.endpointslice import local_endpoints
from isthmus.model.names import ClusterId
from isthmus.model.service import Endpoint, EndpointPort, Protocol

EU = ClusterId("eu-1")
NODES = {
    "n1": core.Node(metadata=ObjectMeta(name="n1", labels={labels.REGION: "eu", labels.ZONE: "eu-a"})),
    "n2": core.Node(metadata=ObjectMeta(name="n2")),
}
HTTP = core.SlicePort(name="http", protocol="TCP", port=8080)


def pod(name: str, address: str, uid: str = "", **fields: Any) -> core.SliceEndpoint:
    target = core.ObjectReference(kind="Pod", namespace="shop", name=name, uid=uid or f"uid-{name}")
    return core.SliceEndpoint(addresses=[address], target_ref=target, **fields)


def part(
    *endpoints: core.SliceEndpoint,
    name: str = "cart-x1",
    family: str = "IPv4",
    marks: dict[str, str] | None = None,
    ports: list[core.SlicePort] | None = None,
) -> core.EndpointSlice:
    return core.EndpointSlice(
        metadata=ObjectMeta(
            namespace="shop", name=name, labels={labels.SERVICE_NAME: "cart"} | (marks or {})
        ),
        address_type=family,
        endpoints=list(endpoints),
        ports=[HTTP] if ports is None else ports,
    )


def read(*slices: core.EndpointSlice) -> tuple[Endpoint, ...]:
    return local_endpoints(slices, cluster=EU, network="flat", region="default", nodes=NODES)


def test_a_pod_becomes_an_endpoint_named_after_it_with_its_nodes_place() -> None:
    assert read(part(pod("cart-0", "10.0.0.1", node_name="n1", hostname="cart-0"))) == (
        Endpoint(
            id="cart-0",  # type: ignore[arg-type]  # an EndpointId
            cluster=EU,
            region="eu",
            zone="eu-a",
            addresses=("10.0.0.1",),
            ports=(EndpointPort(name="http", protocol=Protocol.TCP, port=8080),),
            hostname="cart-0",
            node="n1",
            network="flat",
        ),
    )


def test_the_slices_own_zone_goes_before_the_nodes_and_the_default_region_is_for_the_rest() -> None:
    one, two, three = read(
        part(
            pod("a", "10.0.0.1", node_name="n1", zone="eu-z"),
            pod("b", "10.0.0.2", node_name="n2"),
            pod("c", "10.0.0.3"),
        )
    )
    assert (one.region, one.zone) == ("eu", "eu-z")
    assert (two.region, two.zone) == ("default", "")
    assert (three.region, three.zone) == ("default", "")


def test_both_families_of_a_pod_are_one_endpoint_with_ipv4_first() -> None:
    (both,) = read(
        part(pod("a", "fd00::0001"), name="a6", family="IPv6"), part(pod("a", "10.0.0.1"), name="z4")
    )
    assert both.addresses == ("10.0.0.1", "fd00::1")


def test_endpoints_without_target_are_joined_by_hostname_and_node() -> None:
    four = core.SliceEndpoint(addresses=["10.0.0.1"], hostname="db-0", node_name="n1")
    six = core.SliceEndpoint(addresses=["fd00::1"], hostname="db-0", node_name="n1")
    elsewhere = core.SliceEndpoint(addresses=["fd00::2"], hostname="db-0", node_name="n2")
    found = read(part(four), part(six, elsewhere, name="six", family="IPv6"))
    assert sorted(one.addresses for one in found) == [("10.0.0.1", "fd00::1"), ("fd00::2",)]
    assert len({one.id for one in found}) == 2


def test_endpoints_without_any_name_are_named_by_their_address() -> None:
    bare = [core.SliceEndpoint(addresses=[text]) for text in ("10.0.0.1", "10.0.0.2")]
    assert [one.id for one in read(part(*bare))] == ["10-0-0-1", "10-0-0-2"]


def test_two_pods_of_one_name_do_not_become_one() -> None:
    found = read(part(pod("db-0", "10.0.0.1", uid="old"), pod("db-0", "10.0.0.2", uid="new")))
    assert sorted(one.addresses for one in found) == [("10.0.0.1",), ("10.0.0.2",)]
    assert len({one.id for one in found}) == 2
    assert all(one.id.startswith("db-0.") for one in found)


def test_of_two_pods_with_one_name_and_address_the_ready_one_counts() -> None:
    ending = core.EndpointConditions(ready=False, serving=True, terminating=True)
    (one,) = read(
        part(pod("a", "10.0.0.1", uid="old", conditions=ending), name="s1"),
        part(pod("a", "10.0.0.1", uid="new"), name="s2"),
    )
    assert one.ready


def test_an_endpoint_that_stands_in_two_slices_counts_once() -> None:
    moving = core.SliceEndpoint(addresses=["10.0.0.1"], hostname="db-0", node_name="n1")
    assert len(read(part(moving, name="s1"), part(moving, name="s2"))) == 1


def test_unset_conditions_mean_ready_and_serving_and_not_terminating() -> None:
    unset, unready, ending = read(
        part(
            pod("a", "10.0.0.1"),
            pod("b", "10.0.0.2", conditions=core.EndpointConditions(ready=False)),
            pod(
                "c",
                "10.0.0.3",
                conditions=core.EndpointConditions(ready=False, serving=True, terminating=True),
            ),
        )
    )
    assert (unset.ready, unset.serving, unset.terminating) == (True, True, False)
    assert (unready.ready, unready.serving, unready.terminating) == (False, False, False)
    assert (ending.ready, ending.serving, ending.terminating) == (False, True, True)


def test_where_two_slices_disagree_readiness_fails_closed() -> None:
    ready, unready = core.EndpointConditions(ready=True), core.EndpointConditions(ready=False)
    (one,) = read(
        part(pod("a", "10.0.0.1", conditions=ready)),
        part(pod("a", "fd00::1", conditions=unready), name="six", family="IPv6"),
    )
    assert not one.ready


def test_imported_slices_and_other_address_types_are_passed_over() -> None:
    assert not read(
        part(pod("a", "10.0.0.1"), marks={labels.IMPORT_NAME: "cart"}),
        part(pod("b", "10.0.0.2"), marks={labels.SLICE_MANAGED_BY: labels.SLICE_MANAGER}),
        part(core.SliceEndpoint(addresses=["example.org"]), family="FQDN"),
    )


def test_an_address_of_the_wrong_family_or_none_at_all_is_passed_over() -> None:
    assert not read(part(pod("a", "fd00::1"), pod("b", "10.0.0.999"), core.SliceEndpoint()))


def test_a_slice_without_ports_gives_endpoints_without_ports() -> None:
    (one,) = read(part(pod("a", "10.0.0.1"), ports=[]))
    assert one.ports == ()


def test_ports_of_a_pod_in_two_slices_are_joined_and_no_name_stands_twice() -> None:
    (one,) = read(
        part(pod("a", "10.0.0.1"), name="s1"),
        part(
            pod("a", "10.0.0.1"),
            name="s2",
            ports=[core.SlicePort(name="http", port=9), core.SlicePort(name="", protocol="UDP", port=53)],
        ),
    )
    assert [(port.name, port.port) for port in one.ports] == [("", 53), ("http", 8080)]


ENTRIES = st.builds(
    core.SliceEndpoint,
    addresses=st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "x"]), max_size=2),
    hostname=st.sampled_from([None, "h1", "h2"]),
    node_name=st.sampled_from([None, "n1", "n2"]),
    target_ref=st.none()
    | st.builds(core.ObjectReference, name=st.sampled_from(["p", "q"]), uid=st.sampled_from(["1", "2"])),
)


@given(
    st.lists(
        st.builds(
            core.EndpointSlice,
            metadata=st.builds(ObjectMeta, name=st.sampled_from("abcd")),
            address_type=st.sampled_from(["IPv4", "IPv6", "FQDN"]),
            endpoints=st.none() | st.lists(ENTRIES, max_size=5),
            ports=st.none() | st.just([HTTP]),
        ),
        max_size=3,
    )
)
def test_ids_are_unique_and_every_address_is_kept(slices: list[core.EndpointSlice]) -> None:
    found = read(*slices)
    assert len({one.id for one in found}) == len(found)
    told = {
        text
        for one in slices
        if one.address_type != "FQDN"
        for entry in one.endpoints or ()
        for text in entry.addresses
        if text != "x" and (":" in text) is (one.address_type == "IPv6")
    }
    assert {text for one in found for text in one.addresses} == told
