"""GlobalTrafficPolicy as it streams: metadata typed, spec left raw, status left out.

People write the spec, so its validation must name every wrong field; that is `traffic.accept`'s work, with
the pydantic models of `api.policy_spec`. Here a policy with a malformed spec still decodes. Nobody decides by
the status, which can be long (a line for each member); `PolicyStatus` is what is written there.
"""

from __future__ import annotations

import msgspec

from isthmus.api.meta import Condition, ObjectMeta, Struct


class ClusterApplied(Struct, frozen=True):
    """What one member made of a policy of the hub; `generation` is of the spec in force there, 0: none."""

    cluster: str = ""
    applied: bool = False
    generation: int = 0
    reason: str = ""
    message: str = ""


class PolicyStatus(Struct, frozen=True):
    """`plan` is the ladder on one line; `applied` (`2/3`) and `clusters` are of policies of the hub."""

    observed_generation: int = 0
    plan: str = ""
    applied: str = ""
    conditions: list[Condition] = []
    clusters: list[ClusterApplied] = []


class GlobalTrafficPolicy(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: msgspec.Raw = msgspec.Raw(b"{}")
