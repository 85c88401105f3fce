"""Packed objects are what was packed, small, and equal where they are equal."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from isthmus.api import hub, kinds
from isthmus.kube.packing import deflate, inflate
from isthmus.kube.raw import compact, head_of, opened, pack, unpack

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.binary(max_size=20_000))
def test_what_is_packed_comes_back(plain: bytes) -> None:
    assert inflate(deflate(plain)) == plain


@given(st.dictionaries(st.text(), values, max_size=6))
def test_equal_objects_are_packed_alike(found: dict[str, Any]) -> None:
    assert unpack(pack(found)) == found
    assert pack(found) == pack(dict(found))


def chunk(endpoints: int) -> dict[str, Any]:
    return {
        "apiVersion": "hub.isthmus.dev/v1alpha1",
        "kind": "ExportedEndpoints",
        "metadata": {
            "namespace": "isthmus-eu-1",
            "name": "web.shop.0-0",
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
            "annotations": {"isthmus.dev/applied": "bb6a457fdba5"},
            "uid": "76b29372-e75b-40a4-8462-4fc78b43a7df",
            "managedFields": [{"manager": "isthmus", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "cluster": "eu-1",
            "service": {"namespace": "shop", "name": "web"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            "endpoints": [
                {
                    "id": f"web-5d9c7-{number:05x}",
                    "addresses": [f"10.64.{number >> 8}.{number & 255}"],
                    "ready": number % 3 > 0,
                    "nodeName": f"node-{number % 20}",
                    "region": "eu",
                    "zone": f"eu-{number % 3}",
                }
                for number in range(endpoints)
            ],
        },
    }


def test_a_compact_kind_keeps_what_its_type_knows_in_a_fifth_of_the_room() -> None:
    whole = msgspec.json.encode(chunk(100))
    row = compact(kinds.EXPORTED_ENDPOINTS).decode(whole)
    assert opened(kinds.EXPORTED_ENDPOINTS, row) == kinds.EXPORTED_ENDPOINTS.decode(whole)
    assert head_of(inflate(row)).metadata.name == "web.shop.0-0"
    assert b"managedFields" not in inflate(row)
    assert len(row) < len(whole) / 5
    as_it_is = msgspec.convert(chunk(2), hub.ExportedEndpoints)
    assert opened(kinds.EXPORTED_ENDPOINTS, as_it_is) is as_it_is
