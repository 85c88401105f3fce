"""The spine over servers of either sort."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from spine import Spine
from spineservers import ATTEMPTED, Embedded, Real


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.realapi)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    """A hub and two members; no process of Isthmus runs yet."""
    real = Real(request.getfixturevalue("control_planes")) if request.param == "real" else None
    async with Spine(tmp_path, real or Embedded()) as running:
        yield running
    if real is not None:
        requests = [one for one in real.requests() if one.server not in real.crashed]
        refused = {(one.verb, one.resource) for one in requests if one.code == 403}
        assert refused <= ATTEMPTED, "every right that is needed is in deploy/rbac"
