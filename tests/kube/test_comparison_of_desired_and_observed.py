"""differs, stamped and the fingerprint."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api.labels import APPLIED
from isthmus.kube.comparison import differs, fingerprint, stamped, with_fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abc", max_size=2), JSON, max_size=4)


@pytest.mark.parametrize(
    ("desired", "observed"),
    [
        ({"a": 1}, {"a": 1, "defaulted": True}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}),
        ({"a": {}, "b": [], "c": None, "d": ""}, {}),
        (
            {"conditions": [{"type": "Ready", "status": "True"}]},
            {
                "conditions": [
                    {"type": "Other", "status": "False"},
                    {"type": "Ready", "status": "True", "lastTransitionTime": "x"},
                ]
            },
        ),
        (
            {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "y"}]},
            {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "x"}]},
        ),
    ],
)
def test_what_the_server_adds_is_no_difference(desired: Any, observed: Any) -> None:
    assert not differs(desired, observed)


@pytest.mark.parametrize(
    ("desired", "observed"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ({"a": {"b": 1}}, {"a": None}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": []}, {"a": [1]}),
        ({"a": True}, {"a": 1}),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, {"conditions": []}),
        (
            {"conditions": [{"type": "Ready", "status": "True", "reason": "A"}]},
            {"conditions": [{"type": "Ready", "status": "True", "reason": "B"}]},
        ),
    ],
)
def test_what_contradicts_is_a_difference(desired: Any, observed: Any) -> None:
    assert differs(desired, observed)


@given(OBJECTS, OBJECTS)
def test_an_object_with_more_in_it_never_differs_from_what_it_was_made_of(
    desired: dict[str, Any], more: dict[str, Any]
) -> None:
    assert not differs(desired, {**more, **desired})


@given(OBJECTS, st.text("abc", max_size=2), st.integers(10, 20))
def test_a_changed_field_always_differs(desired: dict[str, Any], name: str, value: int) -> None:
    assert differs({**desired, name: value}, desired)


@given(OBJECTS)
def test_the_fingerprint_does_not_depend_on_order(desired: dict[str, Any]) -> None:
    assert fingerprint(desired) == fingerprint(dict(reversed(desired.items())))


def test_a_field_that_is_not_desired_any_more_shows_in_the_fingerprint() -> None:
    before = {"metadata": {"name": "a", "annotations": {"mine": "x"}}, "spec": {"a": 1, "b": 2}}
    after = {"metadata": {"name": "a", "annotations": {"mine": "x"}}, "spec": {"a": 1}}
    held = with_fingerprint(before)
    assert held["metadata"]["annotations"]["mine"] == "x"
    assert APPLIED not in before["metadata"]["annotations"]
    assert not differs(after, held)
    assert differs(with_fingerprint(after), held)
    assert not differs(with_fingerprint(before), held)


def test_a_condition_keeps_its_time_while_its_status_is_the_same() -> None:
    observed = {
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
                {"type": "Valid", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"},
            ]
        }
    }
    desired = {
        "status": {
            "conditions": [
                {"type": "Valid", "status": "False", "reason": "NoService"},
                {"type": "Ready", "status": "True", "reason": "Other"},
                {"type": "Conflict", "status": "False"},
            ]
        }
    }
    made = stamped(desired, observed, now=1_700_000_000.9)["status"]["conditions"]
    assert [(c["type"], c["lastTransitionTime"]) for c in made] == [
        ("Valid", "2023-11-14T22:13:20Z"),
        ("Ready", "2020-01-01T00:00:00Z"),
        ("Conflict", "2023-11-14T22:13:20Z"),
    ]
    assert "lastTransitionTime" not in desired["status"]["conditions"][0]


def test_conditions_further_down_are_stamped_too() -> None:
    desired = {"status": {"ancestors": [{"name": "a", "conditions": [{"type": "X", "status": "True"}]}]}}
    made = stamped(desired, {}, now=0.0)
    condition = made["status"]["ancestors"][0]["conditions"][0]
    assert condition["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    assert not differs(desired, made)
