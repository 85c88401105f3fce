"""GlobalTrafficPolicy as it streams: metadata typed, spec left raw.

People write the spec, so its validation must name every wrong field; that is `traffic.accept`'s work, with
the pydantic models of `api.policy_spec`. Here a policy with a malformed spec still decodes.
"""

from __future__ import annotations

import msgspec

from isthmus.api.meta import Condition, ObjectMeta, Struct


class PolicyStatus(Struct, frozen=True):
    conditions: list[Condition] = []


class GlobalTrafficPolicy(Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: PolicyStatus = PolicyStatus()
