"""Where callers can stand, for people who ask `explain --from`."""

from __future__ import annotations

from isthmus.agent.chain import Chain
from isthmus.model.names import Vantage


def places(chain: Chain) -> set[Vantage]:
    """Every cluster as a whole, each zone that has endpoints or nodes, and wherever proxies are connected."""
    own = chain.place
    regions = {cluster: view.region for cluster, view in chain.views.items()}
    regions.setdefault(own.cluster, own.region)
    found = {Vantage(region, "", cluster) for cluster, region in regions.items()}
    for (_service, cluster), members in chain.endpoints.items():
        region = regions.get(cluster, "")
        found.add(Vantage(region, "", cluster))
        found |= {Vantage(one.region or region, one.zone, cluster) for one in members if one.zone}
    return found | set(chain.caller_zones.zones) | set(chain.vantages)
