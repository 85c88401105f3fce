"""Load assignments for proxies: one derivation, whoever they are rendered for.

A health change touches the assignments of its own service and nothing else. They are made for vantages at
which such proxies stand; where only DNS asks, nobody needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from isthmus.flow import Derived, Table, derive, on, spread
from isthmus.model.names import Vantage
from isthmus.model.plan import Plan, PlanKey
from isthmus.model.service import Protocol
from isthmus.xds import envoy, grpc
from isthmus.xds.rows import ProxyClass, Renderer, ResourceType, Row, resource_name, scope_of

RENDER: dict[Renderer, Callable[[Plan], bytes]] = {
    Renderer.ENVOY: envoy.load_assignment,
    Renderer.GRPC: grpc.load_assignment,
}


def load_assignments(
    plans: Table[PlanKey, Plan],
    classes: Table[str, ProxyClass],
    renderer: Renderer,
    xds: Table[str, bytes],
) -> Derived[PlanKey, bytes]:
    """The assignments of one renderer, which go to `xds` as rows."""
    render = RENDER[renderer]

    def wanted(vantage: Vantage) -> bool:
        return any(one.vantage == vantage and one.renderer == renderer for one in classes.values())

    def compute(key: PlanKey) -> bytes | None:
        plan = plans.get(key)
        if plan is None or plan.port is None or plan.port.protocol is not Protocol.TCP:
            return None
        return render(plan) if wanted(key.vantage) else None

    def affected(key: PlanKey, _old: Plan | None, _new: Plan | None) -> Iterable[PlanKey]:
        return (key,) if key.port and (key in found or wanted(key.vantage)) else ()

    def on_class(_key: str, old: ProxyClass | None, new: ProxyClass | None) -> Iterable[PlanKey]:
        vantages = {one.vantage for one in (old, new) if one is not None and one.renderer == renderer}
        return [key for key in plans if key.port and key.vantage in vantages] if vantages else ()

    def row(key: PlanKey, value: bytes) -> dict[str, bytes]:
        name = resource_name(key.service, int(key.port.partition("/")[2]))
        scope = scope_of(ResourceType.EDS, ProxyClass(key.vantage, renderer.value))
        return {str(Row(ResourceType.EDS, scope, name)): value}

    found: Derived[PlanKey, bytes] = derive(
        f"{renderer.value} assignments", on(plans, affected), on(classes, on_class), compute=compute
    )
    spread(found, xds, row)
    return found
