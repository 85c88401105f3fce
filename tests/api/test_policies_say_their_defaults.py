"""`kubectl explain`: the default of every optional field of a policy is said, and is the one that holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from isthmus.api.crds import all_crds
from isthmus.api.duration import parse_duration
from isthmus.model.health import HealthCheck
from isthmus.model.names import MAX_CLUSTER_ID, is_cluster_id
from isthmus.model.policy import DEFAULT_POLICY, DoorSettings, OutlierDetection, Retry
from isthmus.xds.envoy.clusters import RAISED_LIMIT

CRDS = {crd["metadata"]["name"]: crd for crd in all_crds()}
POLICY = "globaltrafficpolicies.traffic.isthmus.dev"
ONE_OF = {
    *("targets[].cluster", "targets[].region"),
    *(f"tiers[].match.{key}" for key in ("scope", "clusters", "regions", "clusterSelector")),
    *("sessionAffinity.cookie", "sessionAffinity.header"),
}
"""Exactly one of these must be given, so none of them has a default."""
DOORS, RETRY, OUTLIER, HEALTH = DoorSettings(), Retry(), OutlierDetection(), HealthCheck()
VALUES: dict[str, object] = {
    "overprovisioningPercent": DEFAULT_POLICY.overprovisioning_percent,
    "overridable": DEFAULT_POLICY.overridable,
    "onClusterUnknown": "Deprioritise" if DEFAULT_POLICY.deprioritise_unknown else "Keep",
    "fallback": "Any" if DEFAULT_POLICY.fallback_any else "None",
    "timeout": DOORS.timeout,
    "drainSeconds": DOORS.drain_seconds,
    "slowStart": DOORS.slow_start,
    "dns.answer": DOORS.dns_answer,
    "dns.ttlSeconds": DOORS.dns_ttl,
    "health.interval": HEALTH.interval,
    "health.timeout": HEALTH.timeout,
    "health.rise": HEALTH.rise,
    "health.fall": HEALTH.fall,
    "outlierDetection.consecutiveFailures": OUTLIER.consecutive_failures,
    "outlierDetection.interval": OUTLIER.interval,
    "outlierDetection.baseEjection": OUTLIER.base_ejection,
    "retry.attempts": RETRY.attempts,
    "retry.perTryTimeout": RETRY.per_try_timeout,
    "retry.backOffBase": RETRY.back_off_base,
    "retry.backOffMax": RETRY.back_off_max,
    "circuitBreaker.maxConnections": RAISED_LIMIT,
    "circuitBreaker.maxPendingRequests": RAISED_LIMIT,
    "circuitBreaker.maxRequests": RAISED_LIMIT,
}


def spec() -> dict[str, Any]:
    (version,) = CRDS[POLICY]["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def optional(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that may be left out and is not merely a group of others."""
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        grouped = part["type"] == "object" and "properties" in part
        if name not in schema.get("required", ()) and not grouped:
            yield here, part
        yield from optional(part, here)
    if "items" in schema:
        yield from optional(schema["items"], f"{path}[]")


OPTIONAL = dict(optional(spec()))


@pytest.mark.parametrize("path", sorted(OPTIONAL.keys() - ONE_OF))
def test_a_field_that_may_be_left_out_says_what_holds_then(path: str) -> None:
    assert "Default" in OPTIONAL[path].get("description", ""), path


def test_every_field_of_the_schema_was_looked_at() -> None:
    assert len(OPTIONAL) > 40
    assert VALUES.keys() <= OPTIONAL.keys()
    assert ONE_OF - {"tiers[].match.clusterSelector"} <= OPTIONAL.keys()


@pytest.mark.parametrize("path", VALUES)
def test_the_default_that_is_said_is_the_one_that_holds(path: str) -> None:
    said = OPTIONAL[path]["description"].partition("Default ")[2].rstrip(".")
    word = said.split()[0].rstrip(",;.")
    match VALUES[path]:
        case None:
            assert word == "none"
        case bool() as value:
            assert word == str(value).lower()
        case float() as seconds if OPTIONAL[path]["type"] == "string":
            assert parse_duration(word) == seconds
        case int() | float() as number:
            assert float(word) == number
        case other:
            assert word == other


def cluster_fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every text of a schema that is a cluster's id."""
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if name == "cluster" and part["type"] == "string":
            yield here, part
        if name == "clusters" and part["type"] == "array" and part["items"]["type"] == "string":
            yield here, part["items"]
        yield from cluster_fields(part, here)
    if "items" in schema:
        yield from cluster_fields(schema["items"], path)


@pytest.mark.parametrize("name", sorted(name for name in CRDS if name.endswith("isthmus.dev")))
def test_a_clusters_id_is_as_long_in_every_definition_as_an_id_may_be(name: str) -> None:
    assert is_cluster_id("a" * MAX_CLUSTER_ID)
    assert not is_cluster_id("a" * (MAX_CLUSTER_ID + 1))
    for version in CRDS[name]["spec"]["versions"]:
        for path, part in cluster_fields(version["schema"]["openAPIV3Schema"]):
            assert part["maxLength"] == MAX_CLUSTER_ID, (name, path)


def test_policies_and_reports_name_clusters() -> None:
    (version,) = CRDS[POLICY]["spec"]["versions"]
    paths = {path for path, _ in cluster_fields(version["schema"]["openAPIV3Schema"])}
    assert paths >= {".spec.targets.cluster", ".spec.tiers.match.clusters", ".status.clusters.cluster"}
