"""Deaths that callers must outlive: of pods, of API servers, of a node's link, of a whole cluster's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from e2eground import Missing, settles
from e2einstall import Site

pytestmark = pytest.mark.e2e

CHECK = {"interval": "1s", "timeout": "1s"}


def nodes(site: Site) -> list[str]:
    """The far cluster's nodes."""
    return [one["metadata"]["name"] for one in site.far.get("nodes")["items"]]


def clusters(site: Site, door: str, name: str, times: int = 12) -> set[str]:
    """Which clusters answer; "" where a call failed."""
    return {who.partition(" ")[0] for who in site.calls(door, name, times)}


def all_doors(site: Site, name: str, wanted: set[str]) -> None:
    """Waits until calls through each door are answered by exactly these clusters."""
    for door in site.doors:
        settles(lambda door=door: clusters(site, door, name) == wanted, f"{wanted} by {door}; {site.logs()}")


@pytest.fixture(scope="module")
def cart(site: Site) -> str:
    """A service of both clusters, drawn evenly by callers of the near one."""
    site.policy("cart", strategy="ActiveActive", health=CHECK)
    for cluster in site.ground.clusters:
        site.serve(cluster, "cart", replicas=1 if cluster is site.near else 2)
    all_doors(site, "cart", {site.near.name, site.far.name})
    return "cart"


@pytest.fixture(scope="module")
def stock(site: Site) -> str:
    """A service of the far cluster alone, one pod on each of its nodes."""
    site.policy("stock", health=CHECK)
    site.serve(site.far, "stock")
    all_doors(site, "stock", {site.far.name})
    return "stock"


@contextmanager
def cut(site: Site, *names: str) -> Iterator[None]:
    site.ground.cut(*names)
    try:
        yield
    finally:
        site.ground.heal(*names)


def test_when_the_pods_of_the_own_cluster_are_gone_the_others_answer(site: Site) -> None:
    targets = [{"cluster": site.near.name, "priority": 1}, {"cluster": site.far.name, "priority": 2}]
    site.policy("mail", strategy="FailOver", targets=targets)
    for cluster in site.ground.clusters:
        site.serve(cluster, "mail", replicas=1)
    all_doors(site, "mail", {site.near.name})
    site.near.run("scale", "-n", "shop", "deploy/mail", "--replicas=0")
    all_doors(site, "mail", {site.far.name})
    site.near.run("scale", "-n", "shop", "deploy/mail", "--replicas=1")
    all_doors(site, "mail", {site.near.name})


@pytest.mark.parametrize("whose", ["far", "near"])
def test_no_call_fails_while_an_api_server_is_dead(site: Site, stock: str, whose: str) -> None:
    """The far cluster's, and the near one's, which is the hub as well."""
    cluster = site.far if whose == "far" else site.near
    agent = site.agents[site.ground.clusters.index(cluster)]
    lost = agent.log.read_text().count("lease lost")
    with site.calling(stock) as found:
        site.ground.stop_api_server(cluster)
        try:
            settles(
                lambda: agent.log.read_text().count("lease lost") > lost,
                f"the agent of {cluster.name} notices; {site.logs()}",
            )
        finally:
            site.ground.start_api_server(cluster)
    everybody = {f"{site.far.name} {pod}" for pod in site.pods(site.far, stock)}
    for door in site.doors:
        assert set(found[door]) <= everybody, (door, found[door])
        assert found[door].total() > 10, door
    site.serve(site.far, f"late-{whose}", replicas=1)
    all_doors(site, f"late-{whose}", {site.far.name})


def test_callers_leave_a_node_that_is_cut_off_and_come_back(site: Site, stock: str) -> None:
    first, *others = nodes(site)
    if not others:
        raise Missing(f"{site.far.name} has one node, two are needed")
    second = others[0]
    lost = site.pods(site.far, stock, second)
    kept = site.pods(site.far, stock, first)
    assert lost
    assert kept
    everybody = {f"{site.far.name} {pod}" for pod in kept | lost}
    with cut(site, second):
        wanted = {f"{site.far.name} {pod}" for pod in kept}
        for door in site.doors:
            settles(
                lambda door=door, wanted=wanted: set(site.calls(door, stock)) == wanted,
                f"only the pods of {first} by {door}; {site.logs()}",
            )
    for door in site.doors:
        settles(
            lambda door=door: set(site.calls(door, stock)) == everybody, f"all pods by {door}; {site.logs()}"
        )


def test_callers_leave_a_cluster_that_is_cut_off_and_come_back(site: Site, cart: str) -> None:
    with cut(site, *nodes(site)):
        all_doors(site, cart, {site.near.name})
    all_doors(site, cart, {site.near.name, site.far.name})
