"""An export is answered by the other cluster's pods, through each door."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # test folders are not packages

from e2ecallers import DOORS, host
from e2eground import settles
from e2einstall import Site

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def orders(site: Site) -> str:
    """A service of the far cluster alone."""
    site.serve(site.far, "orders")
    return "orders"


@pytest.mark.parametrize("door", DOORS)
def test_all_pods_of_the_other_cluster_answer(site: Site, orders: str, door: str) -> None:
    wanted = {f"{site.far.name} {pod}" for pod in site.pods(site.far, orders)}
    assert len(wanted) == 2
    settles(lambda: set(site.calls(door, orders)) == wanted, f"{wanted} by {door}")


def test_dns_gives_pods_where_a_policy_asks_for_endpoints(site: Site) -> None:
    client = site.clients[site.near.name]
    site.serve(site.far, "ledger")
    site.policy("ledger", dns={"answer": "Endpoints"})
    listed = site.far.list("pods", "app=ledger")
    wanted = {one["status"]["podIP"] for one in listed}
    settles(lambda: set(client.look_up("A", host("ledger")).addresses) == wanted, f"{wanted}")


def test_kubernetes_itself_takes_nothing_away_that_isthmus_made(site: Site, orders: str) -> None:
    """The clusters' own controllers (endpoint slices, garbage, namespaces) know the derived Service too."""
    found = site.near.get("serviceimport", orders)
    derived = found["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
    selector = f"kubernetes.io/service-name={derived}"

    def slices() -> dict[str, str]:
        listed = site.near.list("endpointslices", selector)
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in listed}

    before = slices()
    assert before
    site.near.run("label", "service", "-n", "shop", derived, "e2e=touched")
    site.serve(site.near, "bystander", replicas=1)
    settles(lambda: site.near.get("serviceimport", "bystander"), "a later import")
    assert slices() == before
