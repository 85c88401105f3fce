"""Which Services get an export by annotation, and which exports were made so."""

from __future__ import annotations

import msgspec
import pytest

from isthmus.api import core, labels, mcs
from isthmus.api.meta import ObjectMeta, OwnerReference
from isthmus.mcs.autoexport import Answer, auto_export, is_ours, made_for_service, rendered


def service(
    value: str | None = None, *, namespace: str = "shop", name: str = "web", **rest: object
) -> core.Service:
    meta = ObjectMeta(
        namespace=namespace,
        name=name,
        uid="u-1",
        annotations={} if value is None else {labels.AUTO_EXPORT: value},
        **rest,  # type: ignore[arg-type]  # fields by keyword
    )
    return core.Service(metadata=meta)


def space(value: str | None = None, *, ends: bool = False) -> core.Namespace:
    annotations = {} if value is None else {labels.AUTO_EXPORT: value}
    gone = "2026-01-01T00:00:00Z" if ends else None
    return core.Namespace(metadata=ObjectMeta(name="shop", annotations=annotations, deletion_timestamp=gone))


@pytest.mark.parametrize(
    ("own", "namespaces", "answer"),
    [
        (None, None, Answer.NO),
        (None, "true", Answer.YES),
        (None, "false", Answer.NO),
        ("true", None, Answer.YES),
        ("true", "false", Answer.YES),
        ("false", "true", Answer.NO),
        ("yes", "true", Answer.UNCLEAR),
        ("", "true", Answer.UNCLEAR),
        (None, "True", Answer.UNCLEAR),
        ("true", "True", Answer.YES),
        ("false", "True", Answer.NO),
    ],
)
def test_the_services_value_wins_and_a_wrong_one_decides_nothing(
    own: str | None, namespaces: str | None, answer: Answer
) -> None:
    assert auto_export(service(own), space(namespaces)) is answer


@pytest.mark.parametrize(
    "never",
    [
        service("true", namespace="default", name="kubernetes"),
        service("true", deletion_timestamp="2026-01-01T00:00:00Z"),
        service("true", owner_references=[OwnerReference(kind="ServiceImport", name="web")]),
        service("true", labels={labels.MANAGED_BY: labels.MANAGER}),
        msgspec.structs.replace(service("true"), spec=core.ServiceSpec(type="ExternalName")),
    ],
)
def test_some_services_are_never_exported(never: core.Service) -> None:
    assert auto_export(never, space("true")) is Answer.NO


def test_nothing_is_exported_in_a_namespace_that_ends_or_is_not_known() -> None:
    assert auto_export(service("true"), space("true", ends=True)) is Answer.NO
    assert auto_export(service("true"), None) is Answer.NO


def test_what_is_made_is_known_again_and_nothing_else_is() -> None:
    body = rendered(service("true"))
    made = msgspec.convert(body, mcs.ServiceExport)
    assert made_for_service(made)
    assert is_ours(body)
    for strange in (
        {"labels": {}},
        {"labels": {labels.MANAGED_BY: "helm"}},
        {"ownerReferences": []},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "other", "uid": "u-1"}]},
        {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u-1"}]},
    ):
        theirs = {**body, "metadata": {**body["metadata"], **strange}}
        assert not is_ours(theirs)
        assert not made_for_service(msgspec.convert(theirs, mcs.ServiceExport))
