"""What the other clusters say on the hub, checked at the border.

What this cluster wrote there itself is no news to it. What is refused stays in the tables as that, so that it
can be counted and shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.agent.followers import API_SERVICE, Forbidden, PodRanges, api_moved, moved
from isthmus.agent.inputs import Hub, Member
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.flow import Derived, Priority, derive, on
from isthmus.kube.raw import opened
from isthmus.mcs import border
from isthmus.mcs.hubobjects import hub_namespace
from isthmus.model.names import ClusterId
from isthmus.model.refusal import Refused
from isthmus.model.service import Export


def claims(hub: Hub, me: ClusterId) -> Derived[ObjectKey, Export | Refused]:
    """Exports as the other clusters tell them, before any quota."""
    heard, mine = hub.exported_services, hub_namespace(me)

    def compute(key: ObjectKey) -> Export | Refused | None:
        found = heard.get(key)
        if found is None or key.namespace == mine:
            return None
        return border.exported_service(opened(kinds.EXPORTED_SERVICE, found))

    return derive("claims", on(heard), compute=compute)


def endpoints(
    member: Member, hub: Hub, me: ClusterId, network: str, api_servers: Iterable[str]
) -> Derived[ObjectKey, border.ImportedEndpoints | Refused]:
    """Their endpoints; computed again when addresses of this cluster's own nodes, pods or servers change."""
    heard, mine = hub.exported_endpoints, hub_namespace(me)
    forbidden = Forbidden(api_servers, member.nodes, member.services, member.slices)
    own_pods = PodRanges(member.nodes)

    def compute(key: ObjectKey) -> border.ImportedEndpoints | Refused | None:
        row = heard.get(key)
        if row is None or key.namespace == mine:
            return None
        found = opened(kinds.EXPORTED_ENDPOINTS, row)
        pods = own_pods if found.spec.network == network else ()
        return border.exported_endpoints(found, forbidden=forbidden, pods=pods)

    return derive(
        "heard endpoints",
        on(heard, priority=Priority.HEALTH),
        on(member.nodes, lambda _key, old, new: heard if moved(old, new) else ()),
        on(member.services, lambda key, _o, _n: heard if key == API_SERVICE else ()),
        on(member.slices, lambda key, old, new: heard if api_moved(key, old, new) else ()),
        compute=compute,
    )
