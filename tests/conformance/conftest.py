"""Conformance tests: one clusterset per module over servers of either sort, one namespace per test.

A test's docstring begins with a line such as `Rules: C2, C4. Specs: 13.`: the rules of KEP-1645 and the
upstream specs it covers (`-` for none), by the numbers of docs/conformance.md, which is made of these lines.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import dns.exception
import pytest
import pytest_asyncio

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from clusterset import MEMBERS, Space, Spine, embedded, real
from control_plane_binaries import SERVERS, binaries
from spine import Agent
from spineservers import ATTEMPTED, settles


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The world and the tests of a module share one event loop.

    Where real servers are, a test that can run on them does not run on embedded ones too, unless asked:
    that both behave alike is held by their contract.
    """
    here = Path(__file__).parent
    ours = [item for item in items if item.path.parent == here]
    for item in ours:
        item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
    if config.getoption("--both-servers") or not real_servers_are_here():
        return
    names = {item.nodeid for item in ours}
    twins = [
        item
        for item in ours
        if "[embedded" in item.nodeid and item.nodeid.replace("[embedded", "[real", 1) in names
    ]
    config.hook.pytest_deselected(items=twins)
    items[:] = [item for item in items if item not in twins]


def real_servers_are_here() -> bool:
    try:
        binaries(*SERVERS)
    except LookupError:
        return False
    return True


async def answering(agent: Agent) -> None:
    """Waits until an agent's DNS door answers: it has read both API servers."""

    async def look() -> bool:
        try:
            return bool((await agent.resolve("dns-version.clusterset.local", "TXT")).answer)
        except (OSError, dns.exception.Timeout):
            return False

    await settles(look, f"{agent.name} answers", agent.log)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["embedded", pytest.param("real", marks=pytest.mark.realapi)],
)
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Spine]:
    """A hub and three members with their agents, running."""
    asked = real(request.getfixturevalue("control_planes")) if request.param == "real" else None
    async with Spine(tmp_path_factory.mktemp("world"), asked or embedded()) as running:
        await running.start("hub", *MEMBERS)
        for member in MEMBERS:
            await answering(running.agents[member])
        yield running
    if asked is not None:
        refused = {
            (one.verb, one.resource)
            for one in asked.requests()
            if one.code == 403
            and not any(why in one.message for why in ("is being terminated", "exceeded quota"))
        }
        assert refused <= ATTEMPTED, "every right that is needed is in deploy/rbac"


@pytest_asyncio.fixture(loop_scope="module")
async def space(world: Spine) -> AsyncIterator[Space]:
    """A new namespace in every member."""
    opened = Space(world)
    await opened.open()
    yield opened
    await opened.close()
