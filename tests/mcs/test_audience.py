"""Who may import: what `isthmus.dev/export-to` says, what the hub's record says, and what is not believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import hub, labels, mcs
from isthmus.api.meta import ObjectMeta
from isthmus.mcs import border, hubobjects
from isthmus.mcs.audience import MAX_ITEMS, parse_audience, render_audience, split_audience
from isthmus.mcs.serviceexport import Delivery, conditions, export_settings
from isthmus.model.names import ClusterId, ServiceKey
from isthmus.model.refusal import Refused
from isthmus.model.service import Audience, Export, Port, Protocol, ServiceType

EU = ClusterId("eu-1")
EXPORT = Export(
    cluster=EU,
    key=ServiceKey("shop", "web"),
    created=1_767_323_045.0,
    type=ServiceType.CLUSTER_SET_IP,
    ports=(Port(name="http", protocol=Protocol.TCP, port=80),),
)

ids = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]{1,8})?", fullmatch=True).map(ClusterId)
keys = st.sampled_from(["region", "tier", "example.com/tier"])
values = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
audiences = st.builds(
    Audience,
    clusters=st.sets(ids, max_size=30).map(lambda found: tuple(sorted(found))),
    labels=st.sets(st.tuples(keys, values), max_size=30).map(lambda found: tuple(sorted(found))),
)


def annotated(text: str) -> mcs.ServiceExport:
    annotations = {labels.EXPORT_TO: text}
    return mcs.ServiceExport(metadata=ObjectMeta(namespace="shop", name="web", annotations=annotations))


def recorded(spec: dict[str, Any]) -> Export | Refused:
    """What the border makes of a record with this `spec`."""
    whole = hubobjects.exported_service(EXPORT)
    whole["spec"] |= spec
    return border.exported_service(msgspec.convert(whole, hub.ExportedService))


def test_names_and_labels_stand_in_one_list_with_blanks_where_people_put_them() -> None:
    settings = export_settings(annotated(" eu-2, us-1.prod,region=us ,,example.com/tier=gold"))
    assert settings.problems == ()
    assert settings.audience == Audience(
        clusters=(ClusterId("eu-2"), ClusterId("us-1.prod")),
        labels=(("example.com/tier", "gold"), ("region", "us")),
    )


@pytest.mark.parametrize(
    ("cluster", "region", "own", "admitted"),
    [
        ("eu-2", "eu", {}, True),
        ("us-7", "us", {}, True),
        ("ap-1", "ap", {"example.com/tier": "gold"}, True),
        ("ap-1", "ap", {"example.com/tier": "tin"}, False),
        ("ap-1", "ap", {"region": "us"}, False),
        ("eu-22", "eu", {}, False),
    ],
)
def test_one_item_that_fits_admits_a_cluster(
    cluster: str, region: str, own: dict[str, str], admitted: bool
) -> None:
    audience, _ = parse_audience(["eu-2", "region=us", "example.com/tier=gold"])
    assert audience.admits(ClusterId(cluster), region, own) is admitted


@pytest.mark.parametrize(
    "text", ["", " , ", "EU_2", "eu-2 eu-3", "=us", "region=", "a b=c", "*", "a.b.c", "x=y z"]
)
def test_what_names_no_cluster_offers_the_service_to_nobody_else(text: str) -> None:
    settings = export_settings(annotated(text))
    assert settings.audience == Audience()
    assert bool(settings.problems) is bool(split_audience(text))
    for problem in settings.problems:
        assert problem.startswith(f'{labels.EXPORT_TO}: "')
        assert problem.endswith("must be the name of a cluster or label=value")


def test_a_wrong_item_takes_no_good_one_with_it() -> None:
    settings = export_settings(annotated("eu-2,EU_3,region=us"))
    assert settings.audience == Audience(clusters=(ClusterId("eu-2"),), labels=(("region", "us"),))
    assert len(settings.problems) == 1
    assert "EU_3" in settings.problems[0]


def test_only_so_many_items_count() -> None:
    audience, problems = parse_audience(f"c{number:03}" for number in range(1000))
    assert len(audience.clusters) == MAX_ITEMS
    assert problems == [f"only the first {MAX_ITEMS} items count"]


@given(audiences)
def test_the_record_on_the_hub_says_the_same_to_every_other_cluster(audience: Audience) -> None:
    heard = recorded(hubobjects.exported_service(replace(EXPORT, audience=audience))["spec"])
    assert isinstance(heard, Export)
    assert heard.audience == replace(audience, clusters=tuple(sorted({EU, *audience.clusters})))


def test_a_record_is_never_empty_and_one_for_everybody_says_nothing() -> None:
    assert render_audience(Audience(), EU) == [EU]
    assert "exportTo" not in hubobjects.exported_service(EXPORT)["spec"]


@pytest.mark.parametrize("items", [["EU_2"], ["eu-2", "=x"], ["x"] * 66 + ["y"], ["a" * 1000], [""]])
def test_a_record_that_cannot_be_read_is_refused_whole(items: list[str]) -> None:
    heard = recorded({"exportTo": items})
    assert isinstance(heard, Refused)
    assert (heard.reason, heard.message[:14]) == ("InvalidExportTo", "spec.exportTo:")


@given(st.lists(st.text()))
def test_no_record_raises(items: list[str]) -> None:
    assert isinstance(recorded({"exportTo": items}), Export | Refused)


def test_the_exporter_is_told_who_can_see_its_service() -> None:
    offered = replace(EXPORT, audience=Audience(clusters=(ClusterId("eu-2"),)))
    told = conditions(annotated("eu-2"), offered, delivery=Delivery.EXPORTED)
    message = next(one["message"] for one in told if one["type"] == "Ready")
    assert message == "The clusters that isthmus.dev/export-to names can import the Service: eu-1, eu-2."
