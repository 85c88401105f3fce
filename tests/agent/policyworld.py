"""An agent's tables with one exported service, for tests that need no process."""

from __future__ import annotations

from typing import Any

from fedtables import HERE, Fed

from isthmus.agent.acceptance import PolicyKey
from isthmus.agent.outputs import Outputs
from isthmus.api import kinds
from isthmus.api.meta import ObjectKey
from isthmus.api.policy import GlobalTrafficPolicy
from isthmus.flow import Graph, Table
from isthmus.kube.applier import ObjectRef
from isthmus.kube.raw import unpack
from isthmus.mcs.hubobjects import hub_namespace

ME = HERE.cluster
WEB = ObjectKey("shop", "web")
STATUS = ObjectRef(kinds.POLICY, *WEB, "status")


def report(origin: str, name: str = "web") -> ObjectRef:
    return ObjectRef(kinds.POLICY_REPORT, hub_namespace(ME), f"{origin}.shop.{name}")


class World(Fed):
    """An agent's tables with one exported service; objects are put as Kubernetes writes them."""

    def __init__(self, remembered: Table[PolicyKey, GlobalTrafficPolicy] | None = None) -> None:
        super().__init__(remembered=remembered)
        self.outputs = Outputs(self.chain)
        for table in (self.outputs.asked, self.outputs.member_refused, self.outputs.hub_refused):
            self.feed(table)
        self.graph = Graph(self.outputs.tables)
        self.put("member", kinds.NAMESPACE, ObjectKey("", "shop"))
        self.put("hub", kinds.CLUSTER, ObjectKey("", ME), spec={"region": "eu"})
        ports = [{"port": 80, "name": "http"}]
        self.put("member", kinds.SERVICE, WEB, spec={"clusterIP": "10.0.0.1", "ports": ports})
        self.put("member", kinds.SERVICE_EXPORT, WEB)

    def status(self) -> dict[str, Any]:
        return wanted(self.outputs.member, STATUS).get("status", {})

    def spec(self, origin: str) -> dict[str, Any]:
        return wanted(self.outputs.policies.desired, report(origin)).get("spec", {})

    def says(self, kind: str) -> str:
        """Status and reason of a condition on the member's policy."""
        return condition(self.status(), kind)


def wanted(table: Table[ObjectRef, Any], ref: ObjectRef) -> dict[str, Any]:
    row = table.get(ref)
    return unpack(row) if row is not None else {}


def condition(told: dict[str, Any], kind: str) -> str:
    return next((f"{c['status']} {c['reason']}" for c in told.get("conditions", ()) if c["type"] == kind), "")
