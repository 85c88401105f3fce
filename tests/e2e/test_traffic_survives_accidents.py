"""Deaths that callers must outlive: of pods, of API servers, of a node's link, of a whole cluster's.

Through Envoy no request may fail that any endpoint could answer: it tries another one. kube-proxy knows no
second try: calls may fail from a death until its endpoints are out; none after that, nor when they come back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from e2ecallers import failures
from e2eground import Missing, settles
from e2einstall import Site

pytestmark = pytest.mark.e2e

CHECK = {"interval": "1s", "timeout": "5s"}


def nodes(site: Site) -> list[str]:
    """The far cluster's nodes."""
    return [one["metadata"]["name"] for one in site.far.list("nodes")]


def everybody(site: Site, name: str, *clusters: str) -> set[str]:
    """What the pods of a service answer in these clusters."""
    chosen = [one for one in site.ground.clusters if one.name in clusters]
    return {f"{one.name} {pod}" for one in chosen for pod in site.pods(one, name)}


def all_doors(site: Site, name: str, wanted: set[str]) -> None:
    """Waits until calls through each door are answered by exactly these pods."""
    for door in site.doors:
        settles(lambda door=door: set(site.calls(door, name, 20)) == wanted, f"{wanted} by {door}")


@contextmanager
def cut(site: Site, *names: str) -> Iterator[None]:
    site.ground.cut(*names)
    try:
        yield
    finally:
        site.ground.heal(*names)


def outlives(site: Site, name: str, kept: set[str], *dead: str) -> None:
    """Cuts nodes off under load: callers leave for the pods that are kept, and come back to all."""
    whole = everybody(site, name, site.near.name, site.far.name)
    with site.calling(name) as calling:
        with cut(site, *dead):
            all_doors(site, name, kept)
            by_then = {door: failures(calling.later(door)) for door in site.doors}
        all_doors(site, name, whole)
        for door in site.doors:
            calling.later(door)
    for door in site.doors:
        assert failures(calling.so_far(door)) == by_then[door], door
    assert by_then["Envoy"] == []


@pytest.fixture(scope="module")
def cart(site: Site) -> str:
    """A service of both clusters, drawn evenly by callers of the near one."""
    site.policy("cart", strategy="ActiveActive", health=CHECK)
    for cluster in site.ground.clusters:
        site.serve(cluster, "cart", replicas=1 if cluster is site.near else 2)
    all_doors(site, "cart", everybody(site, "cart", site.near.name, site.far.name))
    return "cart"


@pytest.fixture(scope="module")
def stock(site: Site) -> str:
    """A service of the far cluster alone, one pod on each of its nodes."""
    site.policy("stock", health=CHECK)
    site.serve(site.far, "stock")
    all_doors(site, "stock", everybody(site, "stock", site.far.name))
    return "stock"


def test_when_the_pods_of_the_own_cluster_are_gone_the_others_answer(site: Site) -> None:
    targets = [{"cluster": site.near.name, "priority": 1}, {"cluster": site.far.name, "priority": 2}]
    site.policy("mail", strategy="FailOver", targets=targets)
    for cluster in site.ground.clusters:
        site.serve(cluster, "mail", replicas=1)
    all_doors(site, "mail", everybody(site, "mail", site.near.name))
    site.near.run("scale", "-n", "shop", "deploy/mail", "--replicas=0")
    all_doors(site, "mail", everybody(site, "mail", site.far.name))
    site.near.run("scale", "-n", "shop", "deploy/mail", "--replicas=1")
    settles(lambda: len(site.pods(site.near, "mail")) == 1, "the pod is back")
    all_doors(site, "mail", everybody(site, "mail", site.near.name))


@pytest.mark.parametrize("whose", ["far", "near"])
def test_no_call_fails_while_an_api_server_is_dead(site: Site, stock: str, whose: str) -> None:
    """The far cluster's, and the near one's, which is the hub as well."""
    cluster = site.far if whose == "far" else site.near
    log = site.agents[cluster.name].log
    lost = log.read_text().count("lease lost")
    with site.calling(stock) as calling:
        site.ground.stop_api_server(cluster)
        try:
            settles(
                lambda: log.read_text().count("lease lost") > lost, f"the agent of {cluster.name} notices"
            )
        finally:
            site.ground.start_api_server(cluster)
        for door in site.doors:
            calling.later(door)
    for door in site.doors:
        answers = calling.so_far(door)
        assert set(answers) <= everybody(site, stock, site.far.name), door
        assert len(answers) > 10, door
    site.serve(site.far, f"late-{whose}", replicas=1)
    all_doors(site, f"late-{whose}", everybody(site, f"late-{whose}", site.far.name))


def test_callers_leave_a_node_that_is_cut_off_and_come_back(site: Site, stock: str) -> None:
    first, *others = nodes(site)
    if not others:
        raise Missing(f"{site.far.name} has one node, two are needed")
    kept = {f"{site.far.name} {pod}" for pod in site.pods(site.far, stock, first)}
    assert kept
    assert kept < everybody(site, stock, site.far.name)
    outlives(site, stock, kept, others[0])


def test_callers_leave_a_cluster_that_is_cut_off_and_come_back(site: Site, cart: str) -> None:
    outlives(site, cart, everybody(site, cart, site.near.name), *nodes(site))
