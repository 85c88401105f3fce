"""Why callers go where they go, and what a wrong question gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from console_tables import FAR, KEY, OWN, sources

from isthmus.console.explanation import Unanswerable, explanation
from isthmus.model.names import ServiceKey


def test_steps_groups_and_every_endpoint_are_there() -> None:
    view = explanation(sources(), KEY, "http", "eu-1/a")
    assert isinstance(view, dict)
    assert (view["service"], view["port"], view["cluster"]) == ("shop/checkout", "TCP/80", OWN)
    assert view["vantage"] == {"region": "eu", "zone": "a", "cluster": OWN}
    assert [(row["tier"], row["share"]) for row in view["steps"]] == [("SameCluster", 100.0)]
    assert [(row["cluster"], row["share"]) for row in view["groups"]] == [(OWN, 100.0)]
    reasons = {row["endpoint"]: (row["cluster"], row["state"], row["reason"]) for row in view["endpoints"]}
    assert reasons == {"a": (OWN, "healthy", ""), "b": (FAR, "left out", "not ready in Kubernetes")}


@pytest.mark.parametrize("port", ["", "80", "http", "TCP/80"])
def test_a_port_is_meant_by_name_number_or_both(port: str) -> None:
    view = explanation(sources(), KEY, port)
    assert isinstance(view, dict)
    assert view["port"] == "TCP/80"


@pytest.mark.parametrize(
    ("service", "port", "at", "status", "choices"),
    [
        (ServiceKey("shop", "chekout"), "", "", 404, ()),
        (KEY, "grpc", "", 400, ("http (TCP/80)",)),
        (KEY, "", "eu-1/b", 400, ("eu-1", "eu-1/a", "us-1")),
        (KEY, "", "eu-1/a/b", 400, ("eu-1", "eu-1/a", "us-1")),
    ],
)
def test_a_wrong_question_is_told_the_choices(
    service: ServiceKey, port: str, at: str, status: int, choices: tuple[str, ...]
) -> None:
    found = explanation(sources(), service, port, at)
    assert isinstance(found, Unanswerable)
    assert (found.status, found.choices) == (status, choices)


def test_an_export_that_is_not_for_this_cluster_is_named_as_such() -> None:
    told = explanation(replace(sources(), withheld=lambda _key: (FAR,)), KEY)
    assert isinstance(told, dict)
    assert told["withheld"] == [FAR]
    absent = explanation(replace(sources(), withheld=lambda _key: (FAR,)), ServiceKey("shop", "other"))
    assert isinstance(absent, Unanswerable)
    assert f"{FAR} exports shop/other, and not to {OWN}" in absent.error
