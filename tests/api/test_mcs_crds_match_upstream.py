"""The MCS CRDs against the ones that sigs.k8s.io/mcs-api publishes: all but the words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.api.mcscrds import RELEASE_VERSION, SCHEMA_REVISION, service_exports, service_imports


def published(plural: str) -> dict[str, Any]:
    """The published CRD from the Go module cache."""
    gopath = os.environ.get("GOPATH") or str(Path.home() / "go")
    cache = Path(os.environ.get("GOMODCACHE") or f"{gopath}/pkg/mod")
    module = f"sigs.k8s.io/mcs-api@{RELEASE_VERSION}"
    path = cache / module / "config" / "crd" / f"multicluster.x-k8s.io_{plural}.yaml"
    if not path.exists():
        pytest.skip(f"needs `go mod download {module}` (not in the Go module cache)")
    crd: dict[str, Any] = yaml.safe_load(path.read_text())
    return crd


def wordless(value: Any) -> Any:
    """Without descriptions; a field that is itself named `description` stays."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k != "description" or not isinstance(v, str)}
        return {k: wordless(v) for k, v in kept.items()}
    return [wordless(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("plural", "ours"), [("serviceexports", service_exports()), ("serviceimports", service_imports())]
)
def test_fields_and_validation_are_exactly_the_published_ones(plural: str, ours: dict[str, Any]) -> None:
    assert wordless(ours) == wordless(published(plural))


@pytest.mark.parametrize("ours", [service_exports(), service_imports()])
def test_both_versions_share_one_schema_and_the_beta_is_stored(ours: dict[str, Any]) -> None:
    alpha, beta = ours["spec"]["versions"]
    assert (alpha["name"], alpha["served"], alpha["storage"]) == ("v1alpha1", True, False)
    assert (beta["name"], beta["served"], beta["storage"]) == ("v1beta1", True, True)
    assert alpha["schema"] == beta["schema"]
    assert ours["metadata"]["labels"] == {
        "multicluster.x-k8s.io/release-version": RELEASE_VERSION,
        "multicluster.x-k8s.io/crd-schema-revision": SCHEMA_REVISION,
    }
